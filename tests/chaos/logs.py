"""The three independent logs of a run: what the client, the carriers and the client's endpoint saw.

Each is a file of JSON lines that its own process appends to, a line a write, before it goes on. Tollwire
writes none of them. Times are seconds since the epoch by this machine's clock.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec


class Offer(msgspec.Struct, frozen=True, tag="offer", omit_defaults=True):
    """The client begins to ask for a message under its key. ``text_sha256`` names the text at the carrier."""

    at: float
    key: str
    account: str
    to: str
    delivery: str
    text_sha256: str


class Doubt(msgspec.Struct, frozen=True, tag="doubt"):
    """A request for the key got no definite word; the client will ask again."""

    at: float
    key: str
    why: str


class Met(msgspec.Struct, frozen=True, tag="met"):
    """A request met another one under its key that was still in flight, and was told to come back.

    ``asked``: how many requests for the key had been made when that was said, this one among them.
    """

    at: float
    key: str
    asked: int


class Word(msgspec.Struct, frozen=True, tag="word", omit_defaults=True):
    """A definite word: accepted as ``id``, or refused with a problem's code."""

    at: float
    key: str
    id: str | None = None
    code: str | None = None


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled"):
    """The client was told that a message is cancelled."""

    at: float
    id: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """The client stopped; ``open`` keys never got a definite word."""

    at: float
    open: int


ClientLine = Offer | Doubt | Met | Word | Cancelled | End


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One callback as it arrived. ``bad``: why its signature did not verify; then nothing else is read."""

    at: float
    account: str
    webhook_id: str
    sent_at: int
    type: str = ""
    id: str = ""
    status: str = ""
    sequence: int = 0
    client_ref: str | None = None
    charged: bool = False
    possible_duplicate: bool = False
    late_receipt: bool = False
    error: str | None = None
    answered: int = 204
    bad: str | None = None


class Appender:
    """Appends lines to a file, each in one write."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, *lines: msgspec.Struct) -> None:
        """Append."""
        os.write(self._fd, b"".join(self._encode(line) + b"\n" for line in lines))


T = TypeVar("T")


def read_client(path: Path) -> list[ClientLine]:
    """Every line of the client's log."""
    return list(_decoded(path, msgspec.json.Decoder(ClientLine)))


def read_told(path: Path) -> list[Told]:
    """Every callback that arrived, in the order of arrival."""
    return list(_decoded(path, msgspec.json.Decoder(Told)))


def _decoded(path: Path, decoder: "msgspec.json.Decoder[T]") -> Iterator[T]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in _whole(file):
            yield decoder.decode(line)


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out a last line that is still being written."""
    return (line for line in lines if line.endswith(b"\n"))
