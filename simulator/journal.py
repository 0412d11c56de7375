"""The carrier's own record: what reached it, written before it answers.

A file of JSON lines, appended with O_APPEND in one write a request, so that a killed process loses no
answered submit (the machine's power is another matter: no fsync). Chaos tests read it as the independent
witness of what was sent. A simulator that is started again reads it, so that, as with a real carrier, it
still knows the messages it took and still sends the receipts it owes.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from simulator.memory import LogLine

# Then the file becomes "<name>.1", and the one before it goes: a million submits or so.
FILE_MAX_BYTES = 256 * 2**20
_encoder = msgspec.json.Encoder()


class Acked(msgspec.Struct, frozen=True):
    """The line that says which receipts the gateway has taken, by their numbers."""

    acked: list[int]


class Journal:
    """The file, or nothing at all when there is no path."""

    def __init__(self, path: Path | None, file_max_bytes: int = FILE_MAX_BYTES) -> None:
        self._path = path
        self._file_max_bytes = file_max_bytes
        self._fd = -1
        self._size = 0

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def submits(self, lines: Sequence[LogLine]) -> None:
        """Write the submits of one request, without their texts."""
        if self._fd >= 0:
            self._write(b"".join(_encoder.encode(_without_text(line)) + b"\n" for line in lines))

    def acked(self, numbers: list[int]) -> None:
        """Write that the gateway has these receipts."""
        if self._fd >= 0:
            self._write(_encoder.encode(Acked(numbers)) + b"\n")

    def entries(self) -> Iterator[LogLine | Acked]:
        """Return what was written, oldest first; the torn last line of a killed process is left out."""
        for path in self._files:
            if path.exists():
                with path.open("rb") as file:
                    yield from filter(None, map(_decode, file))

    def clear(self) -> None:
        """Forget everything: the files are emptied."""
        if self._path is not None:
            self._close()
            self._path.unlink(missing_ok=True)
            self._before.unlink(missing_ok=True)
            self._open()

    @property
    def _files(self) -> tuple[Path, ...]:
        return () if self._path is None else (self._before, self._path)

    @property
    def _before(self) -> Path:
        path = self._path or Path()
        return path.with_name(path.name + ".1")

    def _open(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
            if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                self._write(b"\n")  # a killed process may have torn its last line

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, lines: bytes) -> None:
        if self._path is not None and self._size + len(lines) > self._file_max_bytes:
            self._close()
            self._path.replace(self._before)
            self._open()
        left = memoryview(lines)
        while left:
            left = left[os.write(self._fd, left) :]
        self._size += len(lines)


def read_log(path: Path) -> list[LogLine]:
    """Return the submits of a log file, for tests that check what reached the carrier."""
    return [entry for entry in Journal(path).entries() if isinstance(entry, LogLine)]


def _without_text(line: LogLine) -> LogLine:
    return msgspec.structs.replace(line, text=None)


def _decode(raw: bytes) -> LogLine | Acked | None:
    try:
        if raw.startswith(b'{"acked"'):
            return msgspec.json.decode(raw, type=Acked)
        return msgspec.json.decode(raw, type=LogLine)
    except msgspec.MsgspecError:
        return None
