"""So many reads of one client run at once in this process; the next ones wait, and are refused at last.

A commit of its cancels has one of these places, too.

The limit of requests counts a read of 5,000 rows like one of a single row. Without this a client with a
full burst of the former would hold every connection that reads have.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from api.problems import Refusal
from shared.domain.problems import ProblemCode

# A page takes milliseconds, so four at once are hundreds a second.
RUNNING_MAX: Final = 4
# A replay locks and changes thousands of rows; two of them would only wait for each other. So would two
# changes of the endpoint.
REPLAYS_MAX: Final = 1
# As long as a place in a pool is waited for.
WAIT_SECONDS: Final = 5.0
# The largest burst of one client by default; who waits costs no more than its connection.
WAITING_MAX: Final = 1_000


class Places:
    """The places that each client has. One client never has all connections of a pool of 2 or more."""

    def __init__(
        self, pool_max: int, *, running_max: int = RUNNING_MAX, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._running_max = max(1, min(running_max, pool_max - 1))
        self._wait_seconds = wait_seconds
        self._lines: dict[int, _Line] = {}

    @asynccontextmanager
    async def place(self, client_id: int) -> AsyncIterator[None]:
        """``async with``: have one of the client's places.

        Raises:
            Refusal: too_many_requests, when too many wait already, or none got free in time.
        """
        line = self._lines.get(client_id)
        if line is None:
            line = self._lines[client_id] = _Line(self._running_max)
        if line.members >= self._running_max + WAITING_MAX:
            raise self._refusal()
        line.members += 1
        try:
            await self._take(line)
            try:
                yield
            finally:
                line.free.release()
        finally:
            line.members -= 1
            if line.members == 0:
                del self._lines[client_id]

    async def _take(self, line: "_Line") -> None:
        if not line.free.locked():
            await line.free.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await line.free.acquire()
        except TimeoutError:
            raise self._refusal() from None

    def _refusal(self) -> Refusal:
        return Refusal(
            ProblemCode.TOO_MANY_REQUESTS,
            detail=(
                f"Such requests of a client run {self._running_max} at a time: reads and cancels, or "
                "changes of its callbacks. Too many wait already."
            ),
            retry_after_seconds=1,
        )


class ClientPlaces:
    """The places of each client on a pool of ``pool_max``; a change of callbacks has one of both kinds."""

    def __init__(self, pool_max: int) -> None:
        self.reads = Places(pool_max)
        self.replays = Places(pool_max, running_max=REPLAYS_MAX)


class _Line:
    """One client's places, and how many requests have one or wait for one."""

    __slots__ = ("free", "members")

    def __init__(self, running_max: int) -> None:
        self.free = asyncio.Semaphore(running_max)
        self.members = 0
