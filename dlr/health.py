"""How endpoints fare, as all processes know it: one row each, written in the background (RULES 36)."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, NamedTuple, Self

import structlog

from dlr.store import CALL_DEADLINE_SECONDS
from shared.runtime.postgres import Pool, call

LOAD_FAILING: Final = """
    select endpoint_id, consecutive_failures, failing_since, open_until, disabled_at is not null
    from tollwire.callback_health
    where consecutive_failures > 0 or disabled_at is not null
"""

_log = structlog.get_logger(__name__)


class Health(NamedTuple):
    """How an endpoint fares, as it is persisted.

    ``unless_taken_for``: the reason to switch it off does not hold if the endpoint took a callback, from
    whichever process, in this time until now. ``of_url``: it is a word on this URL alone, and nothing is
    written of an endpoint that was moved meanwhile.
    """

    endpoint_id: int
    consecutive_failures: int
    failing_since: datetime | None
    open_until: datetime | None
    disabled_reason: str | None
    unless_taken_for: timedelta | None = None
    of_url: str | None = None


NOTE_HEALTH = """
    with word as (
        select case when $6::interval is null then $5::text
                    when not tollwire.has_taken_callbacks_v1($1, $6::interval) then $5::text end as reason
    )
    insert into tollwire.callback_health
        (endpoint_id, consecutive_failures, failing_since, open_until, disabled_at, disabled_reason)
    select $1, $2, case when reason is distinct from $5::text then clock_timestamp() else $3 end, $4,
           case when reason is not null then clock_timestamp() end, reason
    from word
    where exists (select from tollwire.callback_endpoints where id = $1 and url = coalesce($7::text, url))
    on conflict (endpoint_id) do update
        set consecutive_failures = $2, failing_since = excluded.failing_since, open_until = $4,
            disabled_at = coalesce(callback_health.disabled_at, excluded.disabled_at),
            disabled_reason = coalesce(callback_health.disabled_reason, excluded.disabled_reason)
    returning disabled_at is not null
"""


async def note_health(pool: Pool, health: Health) -> bool:
    """Persist an endpoint's health: one row, whatever its pile is (RULES 36). True: it is switched off."""
    rows = await call(pool, NOTE_HEALTH, *health, deadline_seconds=CALL_DEADLINE_SECONDS)
    return bool(rows and rows[0][0])


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
            health = health._replace(
                disabled_reason=before.disabled_reason, unless_taken_for=None, of_url=before.of_url
            )
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
                is_off = await note_health(self._pool, health)
            except Exception as error:  # noqa: BLE001 - the breaker in memory holds; the next word is written
                _log.warning("endpoint health not written", endpoint_id=endpoint_id, error=str(error))
                continue
            if is_off and health.unless_taken_for is not None:
                reason = health.disabled_reason
                _log.warning("callback endpoint switched off", endpoint_id=endpoint_id, reason=reason)
