"""Reads that decide nothing, at a replica while it keeps up, else at the primary.

How far a replica is behind is measured by the primary's own log: a place in it, the time at which the
primary had come so far, and the place that the replica has replayed. That is right also when nothing is
written for an hour, and when the replica has lost its primary without noticing.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from api.settings import ApiSettings
from shared.runtime.postgres import Pool, open_read_pool
from shared.runtime.postgres_faults import login_fault
from shared.runtime.server_calls import is_data_fault, is_lost, is_retryable

R = TypeVar("R")

# How often the replica is looked at; more often when little lag is allowed.
LOOK_SECONDS: Final = 1.0
LOOKS_IN_LAG: Final = 4
# A look that takes longer tells nothing about now.
ANSWER_SECONDS: Final = 1.0
# A page takes milliseconds; a replica that hangs gives it to the primary after this.
READ_SECONDS: Final = 2.0
# Places in the log that are remembered: a replica that is further behind is not asked anyway.
PLACES_MAX: Final = 3_600

# What a read can raise that the database or the way to it raised; InternalClientError is asyncpg's word for
# a connection that is half gone.
FAULTS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

PLACE_OF_PRIMARY: Final = """
    select (pg_current_wal_lsn() - '0/0')::bigint as place, clock_timestamp() as at,
           (select system_identifier from pg_control_system()) as system
"""
PLACE_OF_REPLICA: Final = """
    select (pg_last_wal_replay_lsn() - '0/0')::bigint as place, pg_is_in_recovery() as is_replica,
           (select system_identifier from pg_control_system()) as system
"""

_log = structlog.get_logger(__name__)
_reads = Counter("tollwire_api_reads_total", "Lists, statements and balances, by who answered", ["by"])
_by_replica, _by_primary = _reads.labels("replica"), _reads.labels("primary")
_lag = Gauge("tollwire_api_replica_lag_seconds", "How far the replica is behind, when last looked at")


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read. All that was committed by ``as_of`` is there; None: it is the primary, and is now."""

    pool: Pool
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """How far the primary's log was at a moment: by its clock, and by our monotonic one."""

    position: int
    at: datetime
    seen_at: float


class NotThereYet(Exception):  # noqa: N818 - named for what happened
    """The replica has not got what a piece of reading stands on: the primary is asked. Raised by the work."""


class Reader:
    """Chooses where to read. Without a replica, always the primary."""

    def __init__(self, primary: Pool, replica: "Pool | None", lag_max_seconds: float) -> None:
        self._primary = primary
        self._replica = replica
        self._lag_max_seconds = lag_max_seconds
        self._places: deque[_Place] = deque(maxlen=PLACES_MAX)
        self._reached: _Place | None = None
        self._complaint = ""

    @property
    def look_seconds(self) -> float:
        """How often ``look`` is to be called."""
        return min(LOOK_SECONDS, self._lag_max_seconds / LOOKS_IN_LAG)

    async def read(self, work: Callable[[Source], Awaitable[R]]) -> R:
        """Do a piece of reading where it is fresh enough; at the primary when the replica cannot."""
        source = self._choose()
        if source.as_of is not None:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    found = await work(source)
            except NotThereYet:
                pass
            except FAULTS as error:
                if is_data_fault(error):
                    raise  # what was asked for is at fault, and would be anywhere
                if _is_gone(error):
                    self._reached = None
                    self._complain(f"a read failed ({type(error).__name__})")
                    await source.pool.expire_connections()
            else:
                _by_replica.inc()
                return found
        _by_primary.inc()
        return await work(Source(self._primary))

    def _choose(self) -> Source:
        reached = self._reached
        if self._replica is None or reached is None:
            return Source(self._primary)
        if time.monotonic() - reached.seen_at > self._lag_max_seconds:
            return Source(self._primary)
        return Source(self._replica, reached.at)

    async def look(self) -> None:
        """Find out how far the replica has come; it is not asked again before the next look when it fails."""
        if self._replica is None:
            return
        reached = None
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                reached = await self._compare(self._replica)
        except FAULTS as error:
            self._complain(login_fault(error) or f"it does not answer ({type(error).__name__})")
        self._reached = reached
        if reached is not None:
            lag_seconds = time.monotonic() - reached.seen_at
            _lag.set(lag_seconds)
            is_late = lag_seconds > self._lag_max_seconds
            self._complain("it is behind TOLLWIRE_POSTGRES_READ_LAG_MAX_SECONDS" if is_late else "")

    async def _compare(self, replica: Pool) -> _Place | None:
        seen_at = time.monotonic()
        primary = await self._primary.fetchrow(PLACE_OF_PRIMARY, timeout=ANSWER_SECONDS)
        found = await replica.fetchrow(PLACE_OF_REPLICA, timeout=ANSWER_SECONDS)
        if primary is None or found is None:
            return None
        if not found["is_replica"]:
            self._complain("TOLLWIRE_POSTGRES_READ_DSN names no replica")
            return None
        if found["system"] != primary["system"]:
            self._complain("TOLLWIRE_POSTGRES_READ_DSN names the replica of another server")
            return None
        self._places.append(_Place(primary["place"], primary["at"], seen_at))
        return self._newest_in(found["place"] or 0)

    def _newest_in(self, position: int) -> _Place | None:
        """The newest place that the replica has reached; what is older than it is forgotten."""
        reached = None
        while self._places and self._places[0].position <= position:
            reached = self._places.popleft()
        if reached is not None:
            self._places.appendleft(reached)
        return reached

    def _complain(self, reason: str) -> None:
        """Log once why the replica is not asked, and once that it is again."""
        if reason == self._complaint:
            return
        self._complaint = reason
        if reason:
            _log.warning("the replica is not asked; the primary answers lists", reason=reason)
        else:
            _log.info("the replica answers lists")


def _is_gone(error: BaseException) -> bool:
    """True when the replica is the trouble, for everybody; a read of one client that is slow is not."""
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return False  # a replica that hangs shows at the next look
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return is_lost(error) or is_retryable(error)  # 40001 is a replica's word for rows that it had to give up


@asynccontextmanager
async def open_reader(settings: ApiSettings, primary: Pool) -> AsyncIterator[Reader]:
    """Open the reader. A replica that is away is no error: it is asked when it is there."""
    lag_max_seconds = settings.postgres_read_lag_max_seconds
    if not settings.postgres_read_dsn:
        yield Reader(primary, None, lag_max_seconds)
        return
    dsn = settings.postgres_read_dsn
    async with open_read_pool(dsn, settings.postgres_pool_max, application_name="tollwire-api-read") as pool:
        yield Reader(primary, pool, lag_max_seconds)
