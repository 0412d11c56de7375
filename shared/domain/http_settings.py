"""The settings of an HTTP carrier: the column `settings` of its row, read strictly.

docs/simulator.md shows a full example; every default is here and in the table of
`worker.carriers.verdicts.default_verdict`.
"""

from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from shared.domain.body_template import compile_template
from shared.domain.dotted_path import is_path
from shared.domain.receipts import ReceiptSettings

# Two round trips across the world and a lost SYN.
CONNECT_TIMEOUT_SECONDS = 5.0
# Carriers that answer slower are ill; the claim's deadline (60 s unless set) must be longer.
TOTAL_TIMEOUT_SECONDS = 20.0
TIMEOUT_MAX_SECONDS = 300.0
# One window of 1,000 messages in bulks of 100 needs ten; a carrier that allows more says so. Where messages
# go one by one they bound the window (worker/window.py).
CONNECTIONS_MAX = 32
CONNECTIONS_LIMIT = 1_000
# Shorter than the 5 s after which common servers close idle connections: a submit must not meet the close.
KEEPALIVE_SECONDS = 4.0
# As many as a bundle has; a larger one is lost at once when its answer does not come.
BULK_BATCH_MAX = 100
BULK_BATCH_LIMIT = 1_000


class Verdict(StrEnum):
    """What an answer means. Only `uncertain` leaves open whether the carrier took the message."""

    SUBMITTED = "submitted"
    PERMANENT = "permanent"
    TEMPORARY = "temporary"
    THROTTLED = "throttled"
    UNCERTAIN = "uncertain"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section with a typo in it is refused, not half read."""


class BulkSettings(_Strict, frozen=True):
    """Many submissions in one POST: a list in, a list of answers out, position by position.

    `items` is the field of the body that carries the list (None: the body is the list); `answers` the dotted
    path to the list of answers; `status` and `retry_after` lie inside one answer, beside what the carrier's
    single answer has. An answer without a status of its own has the status of the whole.
    """

    url: str
    batch_max: int = BULK_BATCH_MAX
    items: str | None = None
    answers: str = ""
    status: str | None = "status"
    retry_after: str | None = "retry_after"

    def __post_init__(self) -> None:
        """Refuse what cannot work, by name."""
        _check_url("bulk.url", self.url)
        _check_range("bulk.batch_max", self.batch_max, 1, BULK_BATCH_LIMIT)
        _check_paths("bulk", self.answers or None, self.status, self.retry_after)


class HttpSettings(_Strict, frozen=True):
    """How to talk to one HTTP carrier.

    `body` is a template (see body_template); `$secret` or `$secret.<use>` in it or in a header stands for the
    sealed secret, and nothing else here is one. `reference`, `error_code` and `error_text` are dotted paths
    into the answer; without `reference` our message id is the reference. `statuses` maps "429", "5xx" or
    "500-599" to a verdict, the narrowest wins; `error_codes` maps the carrier's own codes and wins over it.
    """

    url: str
    body: dict[str, Any]
    # The HTTP client sends PUT and the other idempotent methods again by itself when a connection breaks, and
    # nothing is sent twice here unasked. So POST is all there is.
    method: Literal["POST"] = "POST"
    headers: dict[str, str] = {}
    reference: str | None = "reference"
    error_code: str | None = "error.code"
    error_text: str | None = None
    statuses: dict[str, Verdict] = {}
    error_codes: dict[str, Verdict] = {}
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS
    total_timeout_seconds: float = TOTAL_TIMEOUT_SECONDS
    keepalive_seconds: float = KEEPALIVE_SECONDS
    connections_max: int = CONNECTIONS_MAX
    bulk: BulkSettings | None = None
    receipts: ReceiptSettings | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, by name."""
        _check_url("url", self.url)
        _check_range("total_timeout_seconds", self.total_timeout_seconds, 0.01, TIMEOUT_MAX_SECONDS)
        _check_range(
            "connect_timeout_seconds", self.connect_timeout_seconds, 0.01, self.total_timeout_seconds
        )
        _check_range("keepalive_seconds", self.keepalive_seconds, 0.0, TIMEOUT_MAX_SECONDS)
        _check_range("connections_max", self.connections_max, 1, CONNECTIONS_LIMIT)
        _check_paths("settings", self.reference, self.error_code, self.error_text)
        compile_template(self.body)
        for written in self.statuses:
            status_range(written)


def status_range(written: str) -> tuple[int, int]:
    """Read "429", "5xx" or "500-599" as the first and last status.

    Raises:
        ValueError: it is none of the three.
    """
    first, dash, last = written.partition("-")
    if not dash and len(written) == 3 and written[1:] == "xx":
        first, last = f"{written[0]}00", f"{written[0]}99"
    elif not dash:
        last = first
    if not all(end.isascii() and end.isdigit() and len(end) == 3 for end in (first, last)) or first > last:
        raise ValueError(f'statuses: {written!r} is not a status such as "429", "5xx" or "500-599"')
    return int(first), int(last)


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"{name}: an http or https address without credentials is expected")
    if not url.isprintable() or " " in url or parts.port == 0:  # a port out of range raises by itself
        raise ValueError(f"{name}: {url!r} is no address that can be connected to")


def _check_range(name: str, value: float, first: float, last: float) -> None:
    if not first <= value <= last:
        raise ValueError(f"{name} must lie between {first} and {last}")


def _check_paths(section: str, *paths: str | None) -> None:
    for path in paths:
        if path is not None and not is_path(path):
            raise ValueError(f"{section}: {path!r} is not a dotted path such as answer.id")
