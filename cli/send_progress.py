"""What a send of a file remembers in the home: what was asked, what was answered.

One file a run, of JSON lines that are only ever appended, each written through to the disk before the next
step. A line that was cut off is dropped when the file is opened again. The idempotency keys alone protect
from sending twice for 72 h; with this file an answered batch is never sent again, however late.
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec

from cli.failures import Failure

# The keys live 72 h; an hour is left for clocks that differ and for the request itself.
KEYS_PROTECT_SECONDS: Final = 71 * 3600.0
VERSION: Final = 1
# Balances, message ids and key ids stand in these files.
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class Header(msgspec.Struct, frozen=True, tag="run"):
    """What is sent, and the account before it: micros posted and held, and the journal's version."""

    v: int
    file: str
    sha256: str
    run: str
    options: dict[str, Any]
    started_at_ms: int
    currency: str
    posted_micros: int
    held_micros: int
    entry_version: int
    is_quiet: bool
    """Whether the account stood still while these were read."""


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """A batch is about to be sent, for the first time or again."""

    batch: int
    at_ms: int


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """A batch that was asked for was certainly not carried out: nothing listened, or it was refused."""

    batch: int


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """An accepted row, by its place in the file from 0; what it holds, in micros."""

    place: int
    id: str
    segments: int
    amount_micros: int
    is_replay: bool


class Rejected(msgspec.Struct, frozen=True, array_like=True):
    """A rejected row, by its place in the file from 0."""

    place: int
    code: str
    title: str
    detail: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A batch was answered for good."""

    batch: int
    accepted: list[Accepted]
    rejected: list[Rejected]


_Line = Header | Asked | Withdrawn | Done
_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class Progress:
    """The file of one run, held by one process at a time. An open context.

    Args:
        path: where; its folder is made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.header: Header | None = None
        self.asked_at_ms: dict[int, int] = {}
        """When each batch was first asked for."""
        self.done: dict[int, Done] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._path.parent.chmod(FOLDER_MODE)  # earlier versions left it open to all
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE)
        self._file = os.fdopen(descriptor, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Failure(
                "This file is being sent by another process.", hint=f"It holds {self._path}."
            ) from None
        self._read(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            # What a full disk did not take is tried once more, and was told: a cut line is no answer.
            with suppress(OSError):
                file.close()

    @property
    def is_begun(self) -> bool:
        """Whether anything was sent, or may have been."""
        return self.header is not None and bool(self.done or self.asked_at_ms)

    @property
    def run(self) -> Header:
        """The header of a run that has begun."""
        if self.header is None:
            raise RuntimeError("the run was not begun")
        return self.header

    def begin(self, header: Header) -> None:
        """Remember what is sent, before anything is."""
        self.header = header
        self._write(header)

    def ask(self, batch: int, now_ms: int) -> None:
        """Remember that a batch is about to be sent."""
        self.asked_at_ms.setdefault(batch, now_ms)
        self._write(Asked(batch, now_ms))

    def withdraw(self, batch: int) -> None:
        """Remember that a batch that was asked for was certainly not carried out."""
        del self.asked_at_ms[batch]
        self._write(Withdrawn(batch))

    def finish(self, done: Done) -> None:
        """Remember the answer to a batch."""
        self.done[done.batch] = done
        self._write(done)

    def unsure(self, now_ms: int) -> list[int]:
        """Batches that were sent so long ago without an answer that their keys may be gone."""
        oldest_ms = now_ms - KEYS_PROTECT_SECONDS * 1000
        return [
            batch
            for batch, at_ms in sorted(self.asked_at_ms.items())
            if batch not in self.done and at_ms < oldest_ms
        ]

    def _read(self, file: IO[bytes]) -> None:
        file.seek(0)
        whole = 0
        for line in file.read().splitlines(keepends=True):
            try:
                read = _decode(line)
            except msgspec.MsgspecError:
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            match read:
                case Header():
                    self.header = read
                case Asked():
                    self.asked_at_ms.setdefault(read.batch, read.at_ms)
                case Withdrawn():
                    self.asked_at_ms.pop(read.batch, None)
                case Done():
                    self.done[read.batch] = read
        file.truncate(whole)

    def _write(self, line: _Line) -> None:
        if self._file is None:
            raise RuntimeError("the progress file is not open")
        try:
            self._file.write(_encode(line) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = str(self._path)
            raise


def refuse_other_options(header: Header, options: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under other options: half the file would go out one way, half the other.

    Raises:
        Failure: the options differ; it names how.
    """
    if header.options == dict(options):
        return
    names = sorted(
        name for name in {*header.options, *options} if header.options.get(name) != options.get(name)
    )
    raise Failure(
        f"This file was begun with another {', '.join(names)}.",
        detail=", ".join(
            f"{name}: {_shown(header.options, name)} then, {_shown(options, name)} now" for name in names
        ),
        hint="Use the same options to go on, or --run NAME to send the whole file once more.",
    )


def _shown(options: Mapping[str, Any], name: str) -> str:
    return str(options[name]) if name in options else "not given"
