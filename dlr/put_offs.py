"""Gives back to PostgreSQL what found no turn here, before its lease ends; nobody waits for it.

What is put off is nobody's from then on, and another process leases it when it is due. So a note that came
after the lease's end, or a second time, would take the lease from whoever has the callback by then, and two
might post it at once. It is written by one try, early enough; what cannot be is swept when its lease ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self
from uuid import UUID

import structlog

from dlr import store
from dlr.store import CallbackRecord
from shared.runtime.clock import Clock
from shared.runtime.postgres import Pool

GATHER_SECONDS: Final = 0.06
FLUSH_MAX: Final = 500
# It is sent by then, or not at all.
DEADLINE_SECONDS: Final = 5.0
# What is left of a lease when its flush begins: the deadline, the roles' statement_timeout of 5 s, and some.
LEASE_LEFT_SECONDS: Final = 12.0

_log = structlog.get_logger(__name__)


class _PutOff(NamedTuple):
    record: CallbackRecord
    lease_ends_at: float


class PutOffs:
    """``add`` never waits. An open async context; leaving it writes what has gathered.

    Args:
        pool: of the database.
        clock: for durations.
        on_noted: is told each callback that was given back, or is left to its lease.
    """

    def __init__(self, pool: Pool, clock: Clock, on_noted: Callable[[UUID], None]) -> None:
        self._pool = pool
        self._clock = clock
        self._on_noted = on_noted
        self._waiting: list[_PutOff] = []
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            await self._writing

    def add(self, record: CallbackRecord, lease_ends_at: float) -> None:
        """Write it soon. ``lease_ends_at``: of the clock, and not later than the database's own."""
        self._waiting.append(_PutOff(record, lease_ends_at))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < FLUSH_MAX:
                    await asyncio.sleep(GATHER_SECONDS)
                flush, self._waiting = self._waiting[:FLUSH_MAX], self._waiting[FLUSH_MAX:]
                await self._put_off(flush)
        finally:
            self._writing = None

    async def _put_off(self, flush: Sequence[_PutOff]) -> None:
        soonest = self._clock.monotonic() + LEASE_LEFT_SECONDS
        early = [one.record for one in flush if one.lease_ends_at >= soonest]
        try:
            if early:
                await store.put_off_callbacks(self._pool, early, DEADLINE_SECONDS)
        except Exception as error:  # noqa: BLE001 - their leases end, and a sweep takes them up again
            _log.warning("callbacks not given back yet", callbacks=len(early), error=repr(error))
        finally:
            for one in flush:
                self._on_noted(one.record.callback_id)
