"""Random bytes from the kernel, fetched many at a time: each fetch is a system call."""

import os
from typing import Final
from weakref import WeakSet

# One fetch serves some hundred messages. What was handed out is never handed out again.
FETCH_BYTES: Final = 4096


class Randomness:
    """Hands out the kernel's random bytes. A child process starts with none of its parent's."""

    __slots__ = ("__weakref__", "_bytes", "_used")

    def __init__(self) -> None:
        self.forget()
        _living.add(self)

    def forget(self) -> None:
        """Hand out nothing of what was fetched."""
        self._bytes = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """Return ``count`` random bytes (at most ``FETCH_BYTES``)."""
        end = self._used + count
        if end > len(self._bytes):
            self._bytes = os.urandom(FETCH_BYTES)
            end = count
        self._used = end
        return self._bytes[end - count : end]

    def bits(self, count: int) -> int:
        """Return a random integer of at most ``count`` bits."""
        return int.from_bytes(self.take((count + 7) // 8)) >> (-count % 8)


_living: Final[WeakSet[Randomness]] = WeakSet()


def _forget_all() -> None:
    for randomness in _living:
        randomness.forget()


# Told by the fork itself, because asking for the process id at each taking is a system call again.
os.register_at_fork(after_in_child=_forget_all)
