"""POSTs of receipts that were kept but for what cannot be read: they are refused, so they come again whole.

Kept anew each time, their receipts could be taken for those of another message by the time at which the
carrier's references begin anew. This process remembers the last of them; another one, or this one after a
restart, keeps such a POST once more.
"""

import hashlib
from collections import OrderedDict
from typing import Final

from dlr.sources import Source
from shared.domain.receipts import ReceiptReader

# The last ones of all carriers, about 300 bytes each.
REPEATS_MAX: Final = 10_000


class Repeats:
    """The bodies of such POSTs, with why each was refused."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[int, bytes], tuple[ReceiptReader, str]] = OrderedDict()

    def why(self, source: Source, body: bytes) -> str | None:
        """Why this very body was refused before; None: it was not, or was read by other settings."""
        if not self._refused:
            return None
        reader, reason = self._refused.get(_key(source, body), (None, ""))
        return reason if reader is source.reader else None

    def note(self, source: Source, body: bytes, reason: str) -> None:
        """Remember a body of which everything was kept that can be."""
        key = _key(source, body)
        self._refused[key] = source.reader, reason
        self._refused.move_to_end(key)
        if len(self._refused) > REPEATS_MAX:
            self._refused.popitem(last=False)


def _key(source: Source, body: bytes) -> tuple[int, bytes]:
    return source.id, hashlib.sha256(body).digest()
