"""One time for all: the database's, and ids and deadlines after it (RULES 30).

Stored times come from PostgreSQL itself. A process keeps its offset to it for ids and deadlines, and
measures durations by the monotonic clock. A process whose own clock is far off refuses to serve.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from asyncpg.pgproto import pgproto

from shared.domain.ids import uuid7_number
from shared.runtime.loops import Stop
from shared.runtime.postgres import Connection, Pool
from shared.runtime.randomness import Randomness
from shared.runtime.ticks import until_tick

# Beyond this, ids and deadlines of this process would be nonsense to the others.
SKEW_MAX_SECONDS: Final = 300.0
REFRESH_SECONDS: Final = 30.0
# Of several measurements the one with the shortest round trip is the truest.
SAMPLES: Final = 3
# A database that takes longer for a few clock readings is away; the old measurement serves on.
REFRESH_LIMIT_SECONDS: Final = 5.0

# A monotonic clock that counts while the machine is suspended, too; Linux' own does not, elsewhere it may.
RUNS_ON: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

READ_TIME: Final = "select clock_timestamp()"

_log = structlog.get_logger(__name__)


def running_seconds() -> float:
    """Seconds on that clock: for what is due at a time though the machine slept. Timers never wait by it."""
    return time.clock_gettime(RUNS_ON)


class ClockSkew(Exception):  # noqa: N818 - named for what happened
    """This machine's clock differs from the database's by more than ``SKEW_MAX_SECONDS``."""


class Measured(NamedTuple):
    """The database's time at 0 of the clock that runs on, and how far it is ahead of this machine's."""

    base_seconds: float
    offset_seconds: float


async def measure(connection: Connection) -> Measured:
    """Ask for the database's time ``SAMPLES`` times and believe the quickest answer."""
    best_trip = float("inf")
    measured = Measured(0.0, 0.0)
    for _ in range(SAMPLES):
        started_at = time.monotonic()
        there: datetime = await connection.fetchval(READ_TIME)
        trip = time.monotonic() - started_at
        if trip < best_trip:
            best_trip = trip
            now_there = there.timestamp() + trip / 2
            measured = Measured(now_there - time.clock_gettime(RUNS_ON), now_there - time.time())
    return measured


class Clock:
    """The database's time, as well as this process knows it."""

    def __init__(self, offset_seconds: float = 0.0) -> None:
        # Between two measurements a clock runs on that nobody sets: a step of the machine's does nothing.
        self._base_seconds = time.time() + offset_seconds - time.clock_gettime(RUNS_ON)
        self._last_ms = 0
        self._last_random = 0
        self._randomness = Randomness()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the database's clock."""
        return int((self._base_seconds + time.clock_gettime(RUNS_ON)) * 1000)

    def now(self) -> datetime:
        """The same as an aware time in UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that only measures durations."""
        return time.monotonic()

    def new_uuid7(self) -> UUID:
        """Return a UUIDv7 of now; each is greater than the one before in this process.

        It is of asyncpg's own class, a uuid.UUID like all that are read: made, written and compared in C.
        """
        ms = self.now_ms()
        if ms > self._last_ms:
            self._last_ms = ms
            # The highest bit stays free, so that counting on never overflows within a millisecond.
            self._last_random = self._randomness.bits(73)
        else:
            self._last_random += 1 + self._randomness.bits(32)
        return pgproto.UUID(uuid7_number(self._last_ms, self._last_random).to_bytes(16))

    async def refresh(self, pool: Pool) -> float:
        """Measure the database's time anew and return this machine's offset to it, in seconds.

        Raises:
            ClockSkew: the offset is beyond ``SKEW_MAX_SECONDS``.
            TimeoutError: no answer within ``REFRESH_LIMIT_SECONDS``.
        """
        async with asyncio.timeout(REFRESH_LIMIT_SECONDS), pool.acquire() as connection:
            self._base_seconds, offset = await measure(connection)
        if abs(offset) > SKEW_MAX_SECONDS:
            raise ClockSkew(
                f"this machine's clock is {-offset:+.0f} s off the database's; set it right (at most "
                f"{SKEW_MAX_SECONDS:.0f} s are tolerated)"
            )
        return offset


@asynccontextmanager
async def open_clock(pool: Pool) -> AsyncIterator[Clock]:
    """Return a clock that has been set.

    Raises:
        ClockSkew: this machine's clock is too far off.
    """
    clock = Clock()
    await clock.refresh(pool)
    yield clock


async def keep_clock(clock: Clock, pool: Pool, stop: Stop) -> None:
    """Keep the clock set, until the stop. A clock that steps too far ends the process, to be seen.

    Raises:
        ClockSkew: this machine's clock went too far off.
    """
    while not await stop.wait(until_tick(REFRESH_SECONDS)):
        try:
            await clock.refresh(pool)
        except ClockSkew:
            raise
        except Exception as error:  # noqa: BLE001 - the database is away; the clock runs on by itself
            _log.info("clock not refreshed", error=str(error))
