"""Messages of days that are long over, made by the real functions under ids of those days."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ledger.bookkeeping import CLOSE_AFTER
from ledger.retention import Retention
from ledger.retention_settings import RetentionSettings
from shared.domain.ids import uuid7_day, uuid7_from
from shared.runtime.postgres import Pool
from tests.support.flow import Flow, accept_item

NOON_MS = 12 * 3_600_000
A_MONTH_SECONDS = 30 * 86_400
# A little more than the margin of ledger.close_day_v1.
A_DAY_IS_OVER = CLOSE_AFTER + timedelta(minutes=1)
_milliseconds = count(1)


def days_ago(days: int) -> date:
    """The day so long ago, in UTC; one that is over and may be closed also in the minutes after midnight."""
    return (datetime.now(UTC) - A_DAY_IS_OVER).date() - timedelta(days=days)


def id_of(day: date) -> UUID:
    """A UUIDv7 of the day's noon; each is greater than the one before."""
    noon = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000 + NOON_MS
    return uuid7_from(int(noon) + next(_milliseconds), 1)


async def make_day(flow: Flow, day: date) -> None:
    """Make the partitions of an old day."""
    await flow.pool.execute("select tollwire.make_partitions_v1($1, $1)", day)


async def drop_days(flow: Flow, parent: str) -> None:
    """Drop all days of a table, as if nobody had made any for longer than they reach."""
    days = "select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass"
    for (day,) in await flow.pool.fetch(days, parent):
        await flow.pool.execute(f"drop table {day}")


def soon_given_up(monkeypatch: pytest.MonkeyPatch, *deadlines: str) -> None:
    """Let calls with these deadlines give a missing partition up after 0.2 s.

    A try that begins has seconds, as it has at the real deadlines: one that ends at its own timeout, on a
    machine that stood still, says that the outcome is not known.
    """
    monkeypatch.setattr("shared.runtime.server_calls.TRY_MIN_SECONDS", 4.8)
    for deadline in deadlines:
        monkeypatch.setattr(deadline, 5.0)


async def accepted_on(flow: Flow, day: date, client: int, number: int = 1, **changes: Any) -> list[UUID]:
    """Accept so many messages whose ids are of the day; what they wait for is still ahead."""
    await make_day(flow, day)
    items = [accept_item(client, message_id=id_of(day), **changes) for _ in range(number)]
    answers = await flow.accept(items)
    assert {answer.outcome for answer in answers} == {"accepted"}
    return [item.message_id for item in items]


async def delivered_on(
    flow: Flow, day: date, client: int, carrier: int, number: int = 1, **changes: Any
) -> list[UUID]:
    """Accept messages, submit them, and deliver them by receipts of the same day."""
    ids = await accepted_on(flow, day, client, number, carrier_id=carrier, **changes)
    for reference in await flow.submitted(ids, carrier):
        await flow.receipt(carrier, reference, "delivered", receipt_id=id_of(day))
    await flow.later(ids, A_MONTH_SECONDS)
    return ids


async def told(flow: Flow, message_ids: Sequence[UUID]) -> None:
    """End the callbacks of messages, and move them to the messages' day."""
    for message_id in message_ids:
        await flow.pool.execute(
            """update tollwire.callbacks
               set id = $2, due_at = due_at - interval '40 days', attempts = 1, status = 200,
                   done_at = clock_timestamp(), outcome = 'delivered'
               where message_id = $1""",
            message_id,
            id_of(uuid7_day(message_id)),
        )


def retention(pool: Pool, archive: Path | None, **changes: Any) -> Retention:
    """The retention as the ledger process has it."""
    folder = "" if archive is None else str(archive)
    return Retention(pool, RetentionSettings(archive_folder=folder, **changes))


async def rows_of(flow: Flow, day: date) -> dict[str, int]:
    """How many rows of the day each partition of it has; a partition that is gone is left out."""
    found = await flow.pool.fetch(
        "select parent, parent || '_' || $1 from tollwire.partition_rules order by 1",
        day.strftime("%Y%m%d"),
    )
    tables = [
        (parent, name) for parent, name in found if await flow.pool.fetchval("select to_regclass($1)", name)
    ]
    return {parent: await flow.pool.fetchval(f"select count(*) from {name}") for parent, name in tables}
