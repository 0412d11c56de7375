"""POSTs of receipts that were kept but for what cannot be read: they are refused, so they come again whole.

Kept anew each time, their receipts could be taken for those of another message by the time at which the
carrier's references begin anew. This process remembers the last of them; another one, or this one after a
restart, keeps such a POST once more.
"""

import hashlib
from collections import OrderedDict
from typing import Final, NamedTuple

from dlr.sources import Source
from shared.domain.receipts import ReceiptSettings

# The last ones of all carriers, about 300 bytes each.
REPEATS_MAX: Final = 10_000


class Brought(NamedTuple):
    """What a POST brings: its body, and how it says that it is written."""

    body: bytes
    content_type: str


class Repeats:
    """What such POSTs brought, with why each was refused."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[int, bytes], tuple[ReceiptSettings, str]] = OrderedDict()

    def why(self, source: Source, brought: Brought) -> str | None:
        """Why this very POST was refused before; None: it was not, or was read by other settings."""
        if not self._refused:
            return None
        key = _key(source, brought)
        settings, reason = self._refused.get(key, (None, ""))
        if settings != source.reader.settings:
            return None
        self._refused.move_to_end(key)
        return reason

    def note(self, source: Source, brought: Brought, reason: str) -> None:
        """Remember a POST of which everything was kept that can be."""
        self._refused[_key(source, brought)] = source.reader.settings, reason
        if len(self._refused) > REPEATS_MAX:
            self._refused.popitem(last=False)


def _key(source: Source, brought: Brought) -> tuple[int, bytes]:
    content_type = brought.content_type.encode("utf-8", "surrogateescape")
    return source.id, hashlib.sha256(content_type + b"\0" + brought.body).digest()
