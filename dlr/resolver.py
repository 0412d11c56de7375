"""Looks names up in threads of its own, so that name servers that hang hold up nobody else's name.

A look-up can't be called off: it keeps its thread for up to half a minute after its callers have left. So
those that last, and names that did the last time, share a part of the threads.
"""

import asyncio
import math
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dlr.daemon_threads import DaemonThreads

# Names of which it is known that they were slow the last time; those of half a minute with room.
SLOW_NAMES_MAX = 10_000
# That the system gives no further threads is told so seldom: look-ups may be many.
TELL_SHORT_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class ResolverBusyError(Exception):
    """No look-up of the name could begin: nothing is known of it, and nobody is at fault."""


@dataclass(frozen=True, slots=True)
class LookUpLimits:
    """How many look-ups run at once. Threads only wait for a name server, and are started when needed.

    ``quick_max`` are those that may still be quick: they have lasted for less than ``slow_seconds``, and
    their name was no slow one. ``slow_max`` of slow names begin at once, the rest of ``threads_max`` is for
    those that turn out slow. ``wait_seconds``: what found no thread by then is refused; the rest of the 5 s
    that a look-up may take is its own.
    """

    threads_max: int = 192
    quick_max: int = 64
    slow_max: int = 64
    slow_seconds: float = 1.0
    wait_seconds: float = 2.0


def look_up(name: str) -> list[str]:
    """Return the addresses of a name; blocks.

    Raises:
        OSError: it has none, or no name server answers.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [_with_zone(entry[4]) for entry in found]


def _with_zone(sockaddr: tuple[object, ...]) -> str:
    # An IPv6 entry is (address, port, flow, zone); a zone makes it an address of one link, never public.
    has_zone = len(sockaddr) == 4 and sockaddr[3] != 0 and "%" not in str(sockaddr[0])
    return f"{sockaddr[0]}%{sockaddr[3]}" if has_zone else str(sockaddr[0])


class Resolver:
    """Runs one look-up a name at a time, whoever asks.

    The event loop's own ``getaddrinfo`` would not do: under uvloop two slow names at once block every other
    name of the process, because libuv runs no more than that of its four threads on them.
    """

    def __init__(
        self, look_up: Callable[[str], list[str]] = look_up, limits: LookUpLimits | None = None
    ) -> None:
        self._look_up = look_up
        self._limits = limits or LookUpLimits()
        self._threads = DaemonThreads(self._limits.threads_max, "callback-resolver")
        self._asked: dict[str, asyncio.Future[list[str]]] = {}
        # Names that wait for a thread, in their order, and those that have one.
        self._line: OrderedDict[str, None] = OrderedDict()
        self._slow_line: OrderedDict[str, None] = OrderedDict()
        self._quick: set[str] = set()
        self._slow: set[str] = set()
        self._slow_names: OrderedDict[str, None] = OrderedDict()
        self._told_short_at = -math.inf

    async def __call__(self, name: str) -> list[str]:
        """Return the addresses of a name, in the order to try them.

        Raises:
            OSError: it has none, or no name server answers.
            ResolverBusyError: no thread was free in time.
        """
        answer = self._asked.get(name)
        if answer is None:
            loop = asyncio.get_running_loop()
            answer = self._asked[name] = loop.create_future()
            line = self._slow_line if name in self._slow_names else self._line
            line[name] = None
            self._begin_next()
            if name in line:
                loop.call_later(self._limits.wait_seconds, self._refuse, name, answer)
        # A caller whose deadline passes leaves; the look-up goes on for the others.
        return await asyncio.shield(answer)

    def close(self) -> None:
        """Start no further look-ups, and wait for none: a dead name server would hold the stop."""
        for name in [*self._line, *self._slow_line]:
            self._refuse(name, self._asked[name])
        self._threads.shutdown()

    def _begin_next(self) -> None:
        limits = self._limits
        lines = ((self._line, self._quick, limits.quick_max), (self._slow_line, self._slow, limits.slow_max))
        for line, running, running_max in lines:
            while line and len(running) < running_max and self._running < limits.threads_max:
                name = next(iter(line))
                if self._begin(name):
                    del line[name]
                    running.add(name)
                elif self._running:
                    return  # it stays in its line: the thread of one that ends is free for it
                else:
                    self._refuse(name, self._asked[name])

    @property
    def _running(self) -> int:
        return len(self._quick) + len(self._slow)

    def _begin(self, name: str) -> bool:
        """Look it up; False: there is no thread for it."""
        loop = asyncio.get_running_loop()
        try:
            call = loop.run_in_executor(self._threads, self._look_up, name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the name is not at fault
            self._tell_short(error)
            return False
        watch = loop.call_later(self._limits.slow_seconds, self._lasts, name)
        call.add_done_callback(lambda done: self._ended(name, watch, done))
        return True

    def _tell_short(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_short_at > TELL_SHORT_SECONDS:
            self._told_short_at = now
            _log.warning("no further thread for look-ups", running=self._running, error=str(error))

    def _lasts(self, name: str) -> None:
        """Count it as a slow one from now on: another may begin beside it."""
        self._quick.discard(name)
        self._slow.add(name)
        self._slow_names[name] = None
        self._slow_names.move_to_end(name)
        if len(self._slow_names) > SLOW_NAMES_MAX:
            self._slow_names.popitem(last=False)
        self._begin_next()

    def _ended(self, name: str, watch: asyncio.TimerHandle, done: asyncio.Future[list[str]]) -> None:
        if asyncio.get_running_loop().time() < watch.when():
            self._slow_names.pop(name, None)
        watch.cancel()
        self._quick.discard(name)
        self._slow.discard(name)
        answer = self._asked.pop(name)
        if done.cancelled():
            answer.cancel()
        elif error := done.exception():
            _fail(answer, error)
        else:
            answer.set_result(done.result())
        self._begin_next()

    def _refuse(self, name: str, answer: asyncio.Future[list[str]]) -> None:
        is_waiting = name in self._line or name in self._slow_line
        if not is_waiting or self._asked[name] is not answer:
            return
        self._line.pop(name, None)
        self._slow_line.pop(name, None)
        del self._asked[name]
        _fail(answer, ResolverBusyError(name))


def _fail(answer: asyncio.Future[list[str]], error: BaseException) -> None:
    answer.set_exception(error)
    answer.exception()  # taken note of, even when nobody waits any more
