"""How endpoints fare, as all processes know it: one row each, written in the background (RULES 36)."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import structlog

from dlr import store
from dlr.store import Health
from shared.runtime.postgres import Pool

LOAD_FAILING: Final = """
    select endpoint_id, consecutive_failures, failing_since, open_until, disabled_at is not null
    from tollwire.callback_health
    where consecutive_failures > 0 or disabled_at is not null
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint that is failing or switched off, as PostgreSQL has it."""

    endpoint_id: int
    consecutive_failures: int
    failing_since: datetime | None
    open_until: datetime | None
    is_disabled: bool


class HealthNotes:
    """Keeps the latest word on each endpoint until it is written. An open async context."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[int, Health] = {}
        self._noted_lately: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await self._task

    def note(self, health: Health) -> None:
        """Persist it soon; a later word on the same endpoint replaces one that was not written yet.

        But a reason to switch it off stands, unless it was silence alone.
        """
        before = self._waiting.get(health.endpoint_id)
        if before is not None and before.disabled_reason and before.unless_taken_for is None:
            health = health._replace(disabled_reason=before.disabled_reason, unless_taken_for=None)
        self._waiting[health.endpoint_id] = health
        self._noted_lately.add(health.endpoint_id)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def read(self) -> tuple[list[Failing], frozenset[int]]:
        """Return the endpoints that fail by PostgreSQL, and those on which this process knows better.

        The latter had a word of ours that was not written when the rows were read.
        """
        self._noted_lately = (
            set(self._waiting) if self._task is None or self._task.done() else self._noted_lately
        )
        rows = await self._pool.fetch(LOAD_FAILING)
        return [Failing(*row) for row in rows], frozenset(self._noted_lately)

    async def _write(self) -> None:
        while self._waiting:
            endpoint_id = next(iter(self._waiting))
            health = self._waiting.pop(endpoint_id)
            try:
                is_off = await store.note_health(self._pool, health)
            except Exception as error:  # noqa: BLE001 - the breaker in memory holds; the next word is written
                _log.warning("endpoint health not written", endpoint_id=endpoint_id, error=str(error))
                continue
            if is_off and health.unless_taken_for is not None:
                reason = health.disabled_reason
                _log.warning("callback endpoint switched off", endpoint_id=endpoint_id, reason=reason)
