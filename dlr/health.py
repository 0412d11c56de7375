"""Writes endpoints' health in the background: nobody who posts waits for it."""

import asyncio
from types import TracebackType
from typing import Self

import structlog

from dlr import store
from dlr.store import Health
from shared.runtime.postgres import Pool

_log = structlog.get_logger(__name__)


class HealthNotes:
    """Keeps the latest word on each endpoint until it is written. An open async context."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[int, Health] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await self._task

    def note(self, health: Health) -> None:
        """Persist it soon; a later word on the same endpoint replaces one that was not written yet."""
        before = self._waiting.get(health.endpoint_id)
        if before is not None and before.disabled_reason and not health.disabled_reason:
            health = health._replace(disabled_reason=before.disabled_reason)
        self._waiting[health.endpoint_id] = health
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            endpoint_id = next(iter(self._waiting))
            health = self._waiting.pop(endpoint_id)
            try:
                await store.note_health(self._pool, health)
            except Exception as error:  # noqa: BLE001 - the breaker in memory holds; the next word is written
                _log.warning("endpoint health not written", endpoint_id=endpoint_id, error=str(error))
