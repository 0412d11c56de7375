"""Random bytes from the kernel, fetched many at a time: each fetch is a system call."""

import os
from typing import Final

# One fetch serves some hundred messages. What was handed out is never handed out again.
FETCH_BYTES: Final = 4096


class Randomness:
    """Hands out the kernel's random bytes. A child process starts with none of its parent's."""

    __slots__ = ("_bytes", "_owner", "_used")

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0
        self._owner = 0

    def take(self, count: int) -> bytes:
        """Return ``count`` random bytes (at most ``FETCH_BYTES``)."""
        end = self._used + count
        if end > len(self._bytes) or self._owner != os.getpid():
            self._bytes, self._owner = os.urandom(FETCH_BYTES), os.getpid()
            end = count
        self._used = end
        return self._bytes[end - count : end]

    def bits(self, count: int) -> int:
        """Return a random integer of at most ``count`` bits."""
        return int.from_bytes(self.take((count + 7) // 8)) >> (-count % 8)
