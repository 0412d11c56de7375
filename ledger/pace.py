"""The pace of background work: in steps, with rests, by one process at a time, and never past the stop."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

from ledger import retention_store as store
from shared.runtime.postgres import Pool

# A process that died gives the upkeep to another after this long; reading a large archive back may take it.
LEASE_SECONDS: Final = 900
RENEW_SECONDS: Final = 30.0
# A process that is asked to stop has 25 s, and may be in the middle of a renewal of 20 s.
END_SECONDS: Final = 3.0
# A rest is as long as the work before it, so that the work never takes more than half of one connection.
REST_MAX_SECONDS: Final = 1.0

GoOn = Callable[[], Awaitable[bool]]


def never() -> bool:
    """Nobody asks to stop."""
    return False


class Pace:
    """One run of an upkeep, while its lease lasts.

    Args:
        name: of the upkeep; one process at a time does it.
        run_seconds: how long ``go_on`` says yes.
        should_stop: True when the process is asked to stop.
    """

    def __init__(self, pool: Pool, name: str, run_seconds: float, should_stop: Callable[[], bool]) -> None:
        self._pool = pool
        self._name = name
        self._holder = uuid.uuid4()
        self._ends_at = time.monotonic() + run_seconds
        self._should_stop = should_stop
        self._renewed_at = 0.0
        self._worked_since = time.monotonic()

    async def begin(self) -> bool:
        """Take the lease; False when another process is at it."""
        return await self._take(LEASE_SECONDS)

    async def end(self) -> None:
        """Give the lease back; where the server does not answer soon it ends by itself."""
        await store.take_upkeep(self._pool, self._name, self._holder, 0, END_SECONDS)

    async def go_on(self) -> bool:
        """Rest after a step, and say whether there is time for another."""
        return time.monotonic() < self._ends_at and await self.go_on_to_the_end()

    async def go_on_to_the_end(self) -> bool:
        """The same for work that has to be done in one go: it ends only with the process or the lease."""
        if self._should_stop():
            return False
        await asyncio.sleep(min(time.monotonic() - self._worked_since, REST_MAX_SECONDS))
        self._worked_since = time.monotonic()
        if time.monotonic() - self._renewed_at < RENEW_SECONDS:
            return True
        return await self._take(LEASE_SECONDS)

    async def _take(self, seconds: int) -> bool:
        self._renewed_at = time.monotonic()
        return await store.take_upkeep(self._pool, self._name, self._holder, seconds)
