"""Callbacks that come after one of the same message which somebody may be posting (docs/adr/0016).

An end waits until the "sent" that was leased before it is noted; a late receipt waits for the end. They are
looked at together, and only while there are any.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self
from uuid import UUID

import structlog
from prometheus_client import Counter

from dlr import store
from dlr.store import CallbackWork
from shared.runtime.clock import Clock
from shared.runtime.postgres import Pool

# A post that is under way is noted within some 0.1 s, unless its endpoint is slow.
LOOK_SECONDS: Final = 0.2
# Looked at together.
LOOK_MAX: Final = 500
# After that it is sent back, while there is still time to post it in its lease.
PATIENCE_SECONDS: Final = 20.0
# Of one endpoint: those of a slow one must not fill the memory that others need.
EACH_MAX: Final = 500

BEHIND: Final = Counter(
    "tollwire_callbacks_behind_total", "Callbacks that waited for an earlier event of their message"
)

_log = structlog.get_logger(__name__)


class _Waiting(NamedTuple):
    work: CallbackWork
    leased_at: float


class Behind:
    """Keeps callbacks until they may be posted. An open async context; leaving it sends all back.

    Args:
        pool: of the database.
        clock: for durations.
        deliver: is given each that is not behind any more, and when it was leased.
        send_back: the same for each that is for a sweep, when its lease ends or before.
    """

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        deliver: Callable[[CallbackWork, float], None],
        send_back: Callable[[CallbackWork, float], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._deliver = deliver
        self._send_back = send_back
        self._waiting: dict[UUID, _Waiting] = {}
        self._each: Tally[int] = Tally()
        self._looking: asyncio.Task[None] | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_all()
        if self._looking is not None:
            await self._looking

    def add(self, work: CallbackWork, leased_at: float) -> None:
        """Keep it, or send it back where its endpoint has enough of them. ``leased_at``: of the clock."""
        is_full = self._is_over or self._each[work.endpoint_id] >= EACH_MAX
        if is_full or self._clock.monotonic() - leased_at > PATIENCE_SECONDS:
            self._send_back(work, leased_at)
            return
        BEHIND.inc()
        self._waiting[work.callback_id] = _Waiting(work, leased_at)
        self._each[work.endpoint_id] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())

    def release_all(self) -> None:
        """Send all back, and what comes: this process begins nothing any more."""
        self._is_over = True
        for callback_id in list(self._waiting):
            self._give_up(callback_id)

    def _give_up(self, callback_id: UUID) -> None:
        waiting = self._take(callback_id)
        if waiting is not None:
            self._send_back(waiting.work, waiting.leased_at)

    def _take(self, callback_id: UUID) -> _Waiting | None:
        waiting = self._waiting.pop(callback_id, None)
        if waiting is not None:
            endpoint_id = waiting.work.endpoint_id
            self._each[endpoint_id] -= 1
            if not self._each[endpoint_id]:
                del self._each[endpoint_id]
        return waiting

    async def _look(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_SECONDS)
                ids = list(self._waiting)
                for start in range(0, len(ids), LOOK_MAX):
                    await self._look_at(ids[start : start + LOOK_MAX])
        finally:
            self._looking = None

    async def _look_at(self, callback_ids: Sequence[UUID]) -> None:
        """Deliver those whose turn has come, and end the patience with the others."""
        try:
            works = await store.load_callbacks(self._pool, callback_ids)
        except Exception as error:  # noqa: BLE001 - the database is away: they are looked at again, or swept
            _log.warning("callbacks not looked at again", callbacks=len(callback_ids), error=repr(error))
            works = []
        for work in works:
            if work.skip == "behind":
                continue
            waiting = self._take(work.callback_id)
            if waiting is not None:
                self._deliver(work, waiting.leased_at)
        oldest = self._clock.monotonic() - PATIENCE_SECONDS
        for callback_id in callback_ids:
            waiting = self._waiting.get(callback_id)
            if waiting is not None and waiting.leased_at < oldest:
                self._give_up(callback_id)
