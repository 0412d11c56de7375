"""A day goes when it is over, in the archive, and needed by nothing; else it says what keeps it."""

from datetime import timedelta

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ledger import retention_store as store
from shared.runtime.postgres import Pool
from tests.support.flow import outcome
from tests.support.old_days import (
    accepted_on,
    days_ago,
    delivered_on,
    id_of,
    make_day,
    retention,
    rows_of,
    told,
)
from tests.support.own_time import own_time

OLD = days_ago(100)
OF_A_DAY = {
    "ledger.credit_locks", "tollwire.messages", "tollwire.message_states", "tollwire.message_texts",
    "tollwire.attempts", "tollwire.receipts", "tollwire.callbacks", "tollwire.callback_attempts",
    "tollwire.dead_letters", "tollwire.message_traces",
}  # fmt: skip


async def inspected(pool: Pool, day=OLD) -> str | None:
    """Look at the day to the end; what keeps it open."""
    while not (look := await store.inspect_day(pool, day)).is_closed:
        if look.reason is not None:
            return look.reason
    return None


async def test_an_old_day_is_archived_and_dropped_with_all_its_tables(flow, pool, tmp_path):
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    ids = await delivered_on(flow, OLD, client, carrier, 3)
    await told(flow, ids)
    before = await rows_of(flow, OLD)
    assert [before[f"tollwire.{table}"] for table in ("messages", "receipts", "callbacks")] == [3, 3, 3]

    await retention(pool, tmp_path).run_once()

    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}
    manifest = await flow.pool.fetchval("select manifest from tollwire.retired_days where day = $1", OLD)
    assert {table: facts["rows"] for table, facts in manifest["tables"].items()} == {
        table: before[table] for table in OF_A_DAY - {"tollwire.message_texts", "tollwire.message_traces"}
    }
    assert (tmp_path / "messages" / OLD.isoformat() / "manifest.json").exists()


async def test_a_day_is_archived_long_before_it_is_dropped(flow, pool, tmp_path):
    day = days_ago(40)
    await delivered_on(flow, day, await flow.client(), await flow.carrier())
    await retention(pool, tmp_path).run_once()
    assert await flow.pool.fetchval("select day from tollwire.archived_days") == day
    assert set(await rows_of(flow, day)) >= OF_A_DAY


async def test_without_an_archive_folder_nothing_is_dropped_and_that_is_said(flow, pool):
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    with capture_logs() as logs:
        await retention(pool, None).run_once()
    assert set(await rows_of(flow, OLD)) >= OF_A_DAY
    assert "no archive folder is set, so no day is archived or dropped" in [line["event"] for line in logs]


async def test_an_archive_that_is_switched_off_is_not_waited_for(flow, pool):
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    await retention(pool, None, archive_enabled=False).run_once()
    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}


async def test_a_message_that_is_not_final_keeps_its_day(flow, pool, tmp_path):
    (message_id,) = await accepted_on(flow, OLD, await flow.client(), carrier_id=await flow.carrier())
    await retention(pool, tmp_path).run_once()
    assert set(await rows_of(flow, OLD)) >= OF_A_DAY
    assert await inspected(pool) == f"message {message_id} is QUEUED"


async def test_a_day_is_looked_at_from_where_the_last_look_ended(flow, pool):
    client, carrier = await flow.client(), await flow.carrier()
    await delivered_on(flow, OLD, client, carrier, 2)
    assert await inspected(pool) is None
    row = await flow.row("select states, locks from tollwire.day_inspections where day = $1", OLD)
    assert tuple(row) == (2, 2)


async def test_books_that_are_not_right_keep_their_day(database, flow, pool):
    database.is_corrupted_on_purpose()
    ids = await delivered_on(flow, OLD, await flow.client(), await flow.carrier(), 2)
    await flow.pool.execute("alter table ledger.credit_locks disable trigger credit_locks_resolve_once")
    await flow.pool.execute(
        "update ledger.credit_locks set state = 'HELD', resolved_at = null where message_id = $1", ids[0]
    )
    assert await inspected(pool) == f"the hold of message {ids[0]} is HELD"
    await flow.pool.execute("delete from ledger.credit_locks where message_id = $1", ids[0])
    assert await inspected(pool) == "it has 2 messages and 1 holds: verify the ledger"


async def test_a_receipt_that_may_still_come_keeps_the_day(flow, pool):
    ids = await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    await flow.pool.execute(
        "update tollwire.message_states set submitted_at = clock_timestamp() - interval '7 days'"
    )
    await inspected(pool)
    assert str(await store.blocker(pool, OLD, "messages")).startswith("a receipt may still come")
    assert len(ids) == 1


async def test_what_may_have_been_sent_without_an_answer_keeps_the_day_for_its_receipt(flow, pool):
    """A scheduled message goes out weeks after its day; ended without an answer, it has no time of submit."""
    client, carrier = await flow.client(), await flow.carrier()
    unknown, never_left = await accepted_on(flow, OLD, client, 2, carrier_id=carrier)
    await flow.cancel(client, [never_left])
    await flow.claim([unknown], carrier)
    await flow.record([outcome(unknown, 1, "uncertain")], carrier)
    await flow.later([unknown], 2 * 3_600)
    await flow.expire([unknown])
    assert (await flow.state(unknown), await flow.state(never_left)) == ("FAILED_PERM", "CANCELLED")

    await inspected(pool)
    assert str(await store.blocker(pool, OLD, "messages")).startswith("a receipt may still come")

    await flow.pool.execute("delete from tollwire.day_inspections")
    await flow.pool.execute(
        "update tollwire.message_states set final_at = final_at - interval '9 days' where message_id = $1",
        unknown,
    )
    await inspected(pool)
    assert await store.blocker(pool, OLD, "messages") is None


# What is planted, how it is taken away again, and what the server says of it.
PLANTED = (
    (
        """insert into tollwire.outbox (message_id, lane, carrier_id, due_at, dispatch_at)
           values ($1, 'bulk', 1, now(), now())""",
        "delete from tollwire.outbox",
        "is in the outbox",
    ),
    (
        "insert into tollwire.hold_watch values ($1, now())",
        "delete from tollwire.hold_watch",
        "is watched",
    ),
    (
        """insert into tollwire.callbacks
               (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at)
           values (tollwire.uuid7_v1(now()), $1, 1, 1, 'message.late_receipt', 1, now(), now())""",
        "delete from tollwire.callbacks",
        "is open",
    ),
    (
        """insert into tollwire.receipts (id, carrier_id, reference, state, received_at, due_at)
           values ($1, 1, 'r', 'delivered', now(), now())""",
        "delete from tollwire.receipts where settled_at is null",
        "is not settled",
    ),
)


async def test_whatever_still_needs_the_day_keeps_it_and_is_named(flow, pool):
    (message_id,) = await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    await inspected(pool)
    for plant, remove, words in PLANTED:
        assert await store.blocker(pool, OLD, "messages") is None
        await flow.pool.execute(plant, message_id)
        assert words in str(await store.blocker(pool, OLD, "messages"))
        assert words in str(await store.retire_day(pool, OLD, "messages", 90, unarchived=True))
        await flow.pool.execute(remove)


async def test_the_oldest_day_goes_first(flow, pool):
    client, carrier = await flow.client(), await flow.carrier()
    before = OLD - timedelta(days=1)
    await accepted_on(flow, before, client, carrier_id=carrier)
    await delivered_on(flow, OLD, client, carrier)
    await inspected(pool)
    assert await store.retire_day(pool, OLD, "messages", 90, unarchived=True) == f"{before} goes first"


async def test_the_server_refuses_what_its_caller_should_not_ask(flow, pool):
    young = days_ago(20)
    await delivered_on(flow, young, await flow.client(), await flow.carrier())
    await inspected(pool, young)
    assert await store.retire_day(pool, young, "messages", 0, unarchived=True) == "it is too young"
    assert (
        await store.note_archive(pool, young, "messages", {"tables": {}})
        == "the day has 1 messages, the archive does not"
    )
    (partition,) = [
        p for p in await store.list_partitions(pool) if p.day == young and p.parent == "tollwire.messages"
    ]
    assert await store.detach(pool, partition) == "the day is not retired"
    assert await store.drop(pool, partition) == "the day is not retired"
    stranger = partition._replace(name="outbox")
    assert await store.detach(pool, stranger) == "outbox is no partition of tollwire.messages"


async def test_a_removal_that_was_cut_off_is_finished_by_the_next_run(flow, pool, tmp_path):
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    await inspected(pool)
    assert await store.retire_day(pool, OLD, "messages", 90, unarchived=True) is None
    (partition,) = [
        p for p in await store.list_partitions(pool) if p.day == OLD and p.parent == "tollwire.callbacks"
    ]
    assert await store.detach(pool, partition) is None
    assert (await store.list_partitions(pool)).count(partition._replace(is_attached=False)) == 1
    await retention(pool, tmp_path).run_once()
    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}


async def test_taking_a_partition_off_never_waits_long_for_the_traffic(flow, pool):
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    await inspected(pool)
    await store.retire_day(pool, OLD, "messages", 90, unarchived=True)
    (partition,) = [
        p for p in await store.list_partitions(pool) if p.day == OLD and p.parent == "tollwire.messages"
    ]
    async with flow.pool.acquire() as busy, busy.transaction():
        await busy.fetch("select count(*) from tollwire.messages")
        async with own_time() as own:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await store.detach(pool, partition)
            assert own() < 1
    assert await store.detach(pool, partition) is None


async def test_one_process_at_a_time_does_the_upkeep(flow, pool, tmp_path):
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    assert await store.take_upkeep(pool, "retention", id_of(OLD), 60)
    await retention(pool, tmp_path).run_once()
    assert set(await rows_of(flow, OLD)) >= OF_A_DAY
    await store.take_upkeep(pool, "retention", id_of(OLD), 0)


async def test_a_stop_ends_the_run_after_its_step(flow, pool, tmp_path):
    await make_day(flow, OLD)
    await retention(pool, tmp_path).run_once(lambda: True)
    assert set(await rows_of(flow, OLD)) >= OF_A_DAY


async def test_what_is_past_its_time_is_shown_though_a_run_does_not_come_to_it(flow, pool, monkeypatch):
    """The texts of a large day may take all the time that a run has."""
    monkeypatch.setattr("ledger.retention.RUN_SECONDS", 0.0)
    await make_day(flow, OLD)
    await make_day(flow, OLD + timedelta(days=1))
    await retention(pool, None).run_once()
    assert {due: overdue("messages", due) for due in ("archive", "drop")} == {"archive": 2, "drop": 2}
    await retention(pool, None, archive_enabled=False).run_once()
    assert {due: overdue("messages", due) for due in ("archive", "drop")} == {"archive": 0, "drop": 2}


def overdue(part: str, due: str) -> float | None:
    return REGISTRY.get_sample_value("tollwire_retention_overdue_days", {"part": part, "due": due})
