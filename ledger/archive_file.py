"""One file of the archive: CSV, gzipped, hashed on both sides of the compression."""

import contextlib
import gzip
import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

FILE_MODE: Final = 0o600
# Compressed at a time: a thread's turn of some milliseconds.
PIECE_BYTES: Final = 1 << 20
READ_BYTES: Final = 1 << 20
# Rows of ids and times: higher levels take twice the time for a few per cent.
COMPRESSION_LEVEL: Final = 4


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished file holds. ``plain_`` is the CSV before its compression."""

    file: str
    rows: int
    columns: list[str]
    bytes: int
    sha256: str
    plain_bytes: int
    plain_sha256: str


class TableFile:
    """A file that is being written. Leaving it unfinished removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = 0

    def __enter__(self) -> Self:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        self._raw = os.fdopen(descriptor, "wb")
        # No name and no time inside: the same rows give the same bytes.
        self._gzip = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._raw, mtime=0)
        self._waiting = io.BytesIO()
        self._header = b""
        self._plain = hashlib.sha256()
        self._plain_bytes = 0
        self._is_finished = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_finished:
            self._raw.close()
            return
        # Closed in this order: a gzip whose file is gone would complain when it is collected.
        try:
            with contextlib.suppress(OSError):  # a full disk; nobody misses the end of what is removed
                self._gzip.close()
            with contextlib.suppress(OSError):
                self._raw.close()
        finally:
            self._path.unlink()

    def take(self, piece: bytes) -> bool:
        """Take some CSV; True when so much waits that it is time to ``compress``."""
        if not self._header:
            self._header = piece.partition(b"\n")[0]
        self._waiting.write(piece)
        return self._waiting.tell() >= PIECE_BYTES

    def compress(self) -> None:
        """Write what waits. Takes a while: a thread's work."""
        piece = self._waiting.getvalue()
        self._waiting = io.BytesIO()
        self._plain.update(piece)
        self._plain_bytes += len(piece)
        self._gzip.write(piece)

    def finish(self) -> FileFacts:
        """Write the rest to the disk and say what the file holds."""
        self.compress()
        self._gzip.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._is_finished = True
        return FileFacts(
            file=self._path.name,
            rows=self.rows,
            columns=self._header.decode().split(","),
            bytes=self._path.stat().st_size,
            sha256=sha256_of(self._path),
            plain_bytes=self._plain_bytes,
            plain_sha256=self._plain.hexdigest(),
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_back(path: Path) -> str:
    """Return the SHA-256 of what a gzipped file opens to; of nothing when it does not open."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(READ_BYTES):
                digest.update(piece)
    except (OSError, EOFError):
        return ""
    return digest.hexdigest()
