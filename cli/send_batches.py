"""How a file is cut into batches, and under which idempotency keys they go. Pure.

The same file, run and options give the same batches with the same keys, on any machine: so a send that is
started again has its first answers again, and sends nothing twice while the keys live (72 h).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cli.csv_messages import CsvMessage

BATCH_DEFAULT: Final = 500
BATCH_MAX: Final = 1_000
# The API takes 2 MiB; the rest is for what stands around the texts.
BATCH_TEXT_BYTES_MAX: Final = 1_500_000
# Braces, quotes, field names, sender, lane and a number of one message as JSON.
FRAME_BYTES: Final = 200
# A control character becomes six bytes in JSON, every other at most three for each UTF-16 unit.
ESCAPED_BYTES_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class SendBatch:
    """A run of rows that goes in one request; ``first`` is the place of the first among all rows."""

    index: int
    first: int
    messages: Sequence[CsvMessage]


def cut(messages: Sequence[CsvMessage], batch_size: int) -> Iterator[SendBatch]:
    """Cut rows into batches of at most ``batch_size``, each small enough for one request."""
    first = 0
    index = 0
    taken_bytes = 0
    for place, message in enumerate(messages):
        needed_bytes = FRAME_BYTES + _json_bytes(message.text)
        if place > first and (
            place - first == batch_size or taken_bytes + needed_bytes > BATCH_TEXT_BYTES_MAX
        ):
            yield SendBatch(index, first, messages[first:place])
            first, index, taken_bytes = place, index + 1, 0
        taken_bytes += needed_bytes
    if first < len(messages):
        yield SendBatch(index, first, messages[first:])


def _json_bytes(text: str) -> int:
    """At least the bytes of a text as JSON."""
    if text.isprintable():
        return len(text.encode()) + text.count('"') + text.count("\\")
    return ESCAPED_BYTES_MAX * len(text)


def run_id(sha256: str, run: str) -> str:
    """What the keys of one send begin with: 24 hex digits of the file's content and the run's name.

    The server keeps keys apart by client, so the client need not be in it.
    """
    return hashlib.sha256(f"tollwire send 1\n{sha256}\n{run}".encode()).hexdigest()[:24]


def batch_key(run: str, index: int) -> str:
    """The Idempotency-Key of a batch. The batch's size is not in it: another cut under the same keys is
    refused by the server as another request, instead of being sent once more.
    """
    return f"send-{run}-{index}"
