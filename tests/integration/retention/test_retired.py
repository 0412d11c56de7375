"""What may still happen to a day between its retirement and the last of its tables."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from api import callback_reads
from api.callback_reads import ReplayWish
from ledger import retention_store as store
from ledger.retention_store import Partition
from shared.runtime.postgres import Pool
from tests.integration.test_hot_plans import explained
from tests.support.flow import Flow
from tests.support.old_days import days_ago, delivered_on, id_of, retention, rows_of, told
from tests.support.servers import Database

OLD = days_ago(100)
KEPT = days_ago(20)
OPEN_AGAIN = "update tollwire.callbacks set done_at = null, outcome = null, due_at = now() where id = $1"
REPLAYED = "insert into tollwire.replays (replay_of, number, message_id) values ($1, 1, $1)"
AT_ONCE_MAX = 100_000


async def retired(flow: Flow, pool: Pool) -> tuple[int, UUID]:
    """A client, and its callback of a day that has just been retired; the tables are all there."""
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    await told(flow, await delivered_on(flow, OLD, client, carrier))
    while not (await store.inspect_day(pool, OLD)).is_closed:
        pass
    assert await store.retire_day(pool, OLD, "messages", 90, unarchived=True) is None
    return client, await flow.pool.fetchval("update tollwire.callbacks set outcome = 'gave_up' returning id")


async def partition_of(pool: Pool, table: str) -> Partition:
    (found,) = [p for p in await store.list_partitions(pool) if p.day == OLD and p.parent == table]
    return found


@pytest.mark.parametrize("is_named", [True, False])
async def test_what_is_of_a_retired_day_is_not_replayed(flow: Flow, pool: Pool, is_named: bool) -> None:
    client, callback = await retired(flow, pool)
    since = datetime.now(UTC) - timedelta(days=110)
    wish = ReplayWish([callback], None, None) if is_named else ReplayWish(None, since, None)
    async with flow.pool.acquire() as connection:
        assert await callback_reads.replay_callbacks(connection, client, wish) == (0, None)
    assert await flow.pool.fetchval("select done_at from tollwire.callbacks where id = $1", callback)


async def test_a_callback_of_a_message_of_a_retired_day_is_not_replayed(flow: Flow, pool: Pool) -> None:
    """A late receipt's stands in a later day than its message."""
    client, callback = await retired(flow, pool)
    later = id_of(days_ago(0))
    await flow.pool.execute("update tollwire.callbacks set id = $2 where id = $1", callback, later)
    async with flow.pool.acquire() as connection:
        replayed = await callback_reads.replay_callbacks(connection, client, ReplayWish([later], None, None))
    assert replayed == (0, None)


async def test_a_callback_that_was_opened_after_all_keeps_the_tables_until_it_is_told(
    flow: Flow, pool: Pool
) -> None:
    _, callback = await retired(flow, pool)
    await flow.pool.execute(OPEN_AGAIN, callback)
    for table in ("callbacks", "callback_attempts", "messages"):
        partition = await partition_of(pool, f"tollwire.{table}")
        assert await store.detach(pool, partition) == f"callback {callback} is open"
    sql = "update tollwire.callbacks set done_at = now(), outcome = 'delivered' where id = $1"
    await flow.pool.execute(sql, callback)
    await retention(pool, None, archive_enabled=False).run_once()
    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}


async def test_a_callback_that_is_opened_while_its_table_is_taken_off_keeps_it(
    flow: Flow, pool: Pool
) -> None:
    _, callback = await retired(flow, pool)
    partition = await partition_of(pool, "tollwire.callbacks")
    # Long enough for the test to see it wait.
    await flow.pool.execute(
        "alter function tollwire.detach_partition_v1(text, text) set lock_timeout = '20s'"
    )
    async with flow.pool.acquire() as client, client.transaction():
        await client.execute(OPEN_AGAIN, callback)
        detaching = asyncio.create_task(store.detach(pool, partition))
        while not await client.fetchval("select exists (select from pg_locks where not granted)"):
            pass
    with pytest.raises(asyncpg.LockNotAvailableError):
        await detaching
    assert await partition_of(pool, "tollwire.callbacks") == partition
    assert await store.detach(pool, partition) == f"callback {callback} is open"


async def test_the_list_of_replays_goes_with_the_dead_letters_of_its_day(flow: Flow, pool: Pool) -> None:
    client, carrier = await flow.client(), await flow.carrier()
    (old,) = await delivered_on(flow, OLD, client, carrier)
    (kept,) = await delivered_on(flow, KEPT, client, carrier)
    for message_id in (old, kept):
        await flow.pool.execute(REPLAYED, message_id)
    await retention(pool, None, archive_enabled=False).run_once()
    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}
    assert [row[0] for row in await flow.pool.fetch("select replay_of from tollwire.replays")] == [kept]


async def test_many_replays_go_in_several_calls(flow: Flow, pool: Pool) -> None:
    await retired(flow, pool)
    await flow.pool.execute(
        """insert into tollwire.replays (replay_of, number, message_id)
           select tollwire.uuid7_v1($1::date::timestamp at time zone 'UTC' + n * interval '1 ms'), 1, $3
           from generate_series(1, $2::integer) n""",
        OLD,
        AT_ONCE_MAX,
        id_of(OLD),
    )
    partition = await partition_of(pool, "tollwire.dead_letters")
    assert await store.detach(pool, partition) is None
    assert "are to go" in str(await store.drop(pool, partition))
    assert await store.drop(pool, partition) is None
    assert await flow.pool.fetchval("select count(*) from tollwire.replays") == 0


async def test_an_open_callback_of_a_later_day_keeps_the_tables_of_its_message(
    flow: Flow, pool: Pool
) -> None:
    _, callback = await retired(flow, pool)
    later = id_of(days_ago(0))
    await flow.pool.execute("update tollwire.callbacks set id = $2 where id = $1", callback, later)
    await flow.pool.execute(OPEN_AGAIN, later)
    partition = await partition_of(pool, "tollwire.messages")
    assert await store.detach(pool, partition) == f"callback {later} is open"


MANY_MORE = """
    insert into tollwire.callbacks (id, message_id, client_id, endpoint_id, event_type, sequence, due_at,
                                    created_at, done_at, outcome)
    select tollwire.uuid7_v1($1::date::timestamp at time zone 'UTC' + n * interval '1 ms'), c.message_id,
           c.client_id, c.endpoint_id, c.event_type, 1, c.due_at, c.created_at, c.done_at, c.outcome
    from tollwire.callbacks c cross join generate_series(1, 3000) n
"""
ALL_OPEN = "update tollwire.callbacks set done_at = null, outcome = null"
ALL_DONE = "update tollwire.callbacks set done_at = now(), outcome = 'delivered'"
OTHERS_LOOKED_AT = re.compile(r"Rows Removed by Filter: (\d{3,})")


async def test_the_looks_for_an_open_callback_pass_over_what_is_done(
    database: Database, flow: Flow, pool: Pool
) -> None:
    """Also by statistics from when many were open. The last of the looks is under the table's lock."""
    await retired(flow, pool)
    await flow.pool.execute(MANY_MORE, OLD)
    await flow.pool.execute(f"{ALL_OPEN}; analyze tollwire.callbacks; {ALL_DONE}")
    partition = await partition_of(pool, "tollwire.callbacks")
    async with explained(database) as (ledger, plans):
        assert await store.blocker(ledger.pool, OLD, "messages") is None
        assert await store.detach(ledger.pool, partition) is None
    told_of = [plan for plan in plans if "callbacks_" in plan]
    assert len(told_of) >= 3
    assert [
        plan for plan in told_of if OTHERS_LOOKED_AT.search(plan) or "Seq Scan on callbacks" in plan
    ] == []
