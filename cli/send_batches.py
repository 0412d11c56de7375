"""How a file is cut into batches, and under which idempotency keys they go. Pure.

The same file, run and options give the same batches with the same keys, on any machine: so a send that is
started again has its first answers again, and sends nothing twice while the keys live (72 h).

Other options under the same keys must be noticed before anything goes out. A key is (batch, place in it),
so another batch size would bring rows that were sent under keys that were not. Therefore the first rows go
one by one, ahead of all others, and each message's ``client_ref`` names the batch size: the server finds
another message under the first key and refuses it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cli.csv_messages import CsvMessage

BATCH_DEFAULT: Final = 500
BATCH_MAX: Final = 1_000
# One that is accepted is enough; a refused one is not remembered, and several bad rows may come first.
PROBES: Final = 5
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
    """Cut rows into batches of at most ``batch_size``, each small enough for one request.

    The first ``PROBES`` batches are of one row.
    """
    first = 0
    index = 0
    taken_bytes = 0
    for place, message in enumerate(messages):
        needed_bytes = FRAME_BYTES + _json_bytes(message.text)
        rows_max = 1 if index < PROBES else batch_size
        is_full = place - first == rows_max or taken_bytes + needed_bytes > BATCH_TEXT_BYTES_MAX
        if place > first and is_full:
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
    """The Idempotency-Key of a batch."""
    return f"send-{run}-{index}"


def client_ref(run: str, batch_size: int, line: int) -> str:
    """The client_ref of a row: it finds the message of a line, and tells one cut of the file from another."""
    return f"{run[:8]}-{batch_size}-{line}"
