"""Answers that wait in memory for clients who do not take them: not without end, and not more than so many.

A client that asks and does not read costs nothing but its connection, while what it asked for stays here.
Nothing of this is done for an answer that the network takes at once.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

# Who takes less of its answers than the second of these in the first, 9 kB/s, is cut off.
TAKE_SECONDS: Final = 30.0
TAKE_MIN_BYTES: Final = 256 * 1024
# All answers of a process that wait so, in a pod of 768 MiB or less: beyond it those of which nothing has
# been taken for longest are cut off.
UNTAKEN_MAX_BYTES: Final = 64 * 1024 * 1024

_INT = struct.Struct("i")

_cut_off = Counter(
    "tollwire_http_untaken_total",
    "Connections cut off with an answer that their client did not take, by why: slow, room",
    ["why"],
)
_slow, _room = _cut_off.labels("slow").inc, _cut_off.labels("room").inc


class _Sum:
    """The bytes of all of them."""

    bytes = 0


class Untaken:
    """What one connection holds for its client, from its making until ``taken``."""

    __slots__ = ("_counted_bytes", "_held_bytes", "_left_bytes", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held_bytes = transport.get_write_buffer_size()
        self._counted_bytes = self._left_bytes = self._held_bytes + _on_its_way(transport)
        _held[self] = None
        _sum.bytes += self._held_bytes
        self._watch()
        if _sum.bytes > UNTAKEN_MAX_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        """Cut off others until it is few enough: those last who took something since they were counted."""
        for each in list(_held):
            each._count()  # noqa: SLF001 - another of its kind
        _put_last(self)
        while _sum.bytes > UNTAKEN_MAX_BYTES and (oldest := next(iter(_held))) is not self:
            oldest._cut_off(_room)  # noqa: SLF001 - another of its kind

    def _count(self) -> None:
        """Count anew what is held; who takes, however slowly, is cut off after those who take nothing."""
        held_bytes = self._transport.get_write_buffer_size()
        left_bytes = held_bytes + _on_its_way(self._transport)
        if left_bytes < self._counted_bytes:
            _put_last(self)
        self._counted_bytes = left_bytes
        _sum.bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes

    def taken(self) -> None:
        """Its client has taken it, or is gone; may be called twice."""
        self._timer.cancel()
        if self in _held:
            del _held[self]
            _sum.bytes -= self._held_bytes

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TAKE_SECONDS, self._look)

    def _look(self) -> None:
        left_bytes = self._transport.get_write_buffer_size() + _on_its_way(self._transport)
        if self._left_bytes - left_bytes < TAKE_MIN_BYTES:
            self._cut_off(_slow)
            return
        self._left_bytes = left_bytes
        self._count()
        self._watch()

    def _cut_off(self, count: Callable[[], None]) -> None:
        count()
        self.taken()
        self._transport.abort()


def _on_its_way(transport: asyncio.Transport) -> int:
    """The bytes that the kernel has and the client's has not: it takes a megabyte more from us at a time.

    0 where it does not say.
    """
    try:
        found = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(_INT.size))
    except (OSError, ValueError):  # closed already, or a system that does not know the question
        return 0
    return int(_INT.unpack(found)[0])


def _put_last(one: Untaken) -> None:
    del _held[one]
    _held[one] = None


_sum = _Sum()
_held: dict[Untaken, None] = {}  # first of which nothing was taken for longest
