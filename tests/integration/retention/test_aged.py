"""What goes by its age: idempotency keys, references, the journal; and what nobody looks after any more."""

from datetime import date, timedelta

from dlr.store import lease_callbacks
from ledger import retention_store as store
from ledger.archive import Archive
from shared.runtime.postgres import Pool
from tests.support.flow import Flow
from tests.support.old_days import days_ago, delivered_on, id_of, make_day, retention, rows_of

OLD = days_ago(500)


async def slots(flow: Flow) -> list[str]:
    keys = "tollwire.idempotency_keys"
    rows = await flow.pool.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass", keys
    )
    return sorted(row[0].removeprefix("tollwire.idempotency_keys_") for row in rows)


async def test_slots_of_keys_go_when_no_key_of_them_can_be_asked_for(flow, pool):
    for days in range(2, 8):
        await make_day(flow, days_ago(days))
    now = await flow.pool.fetchval("select floor(extract(epoch from clock_timestamp()) / 43200)::int")
    await retention(pool, None).run_once()
    # Accept looks back six slots before its own; one more is left.
    oldest = date(1970, 1, 1).toordinal() + (now - 7) // 2
    first = date.fromordinal(oldest).strftime("%Y%m%d") + "ab"[(now - 7) % 2]
    assert (await slots(flow))[0] == first
    assert f"{days_ago(7):%Y%m%d}a" not in await slots(flow)


async def test_references_go_after_their_time_unless_a_receipt_may_ask_for_them(flow, pool):
    for days in (15, 14, 12):
        await make_day(flow, days_ago(days))
    receipt = await flow.receive(await flow.carrier(), "late", "delivered")
    await flow.pool.execute(
        "update tollwire.receipts set received_at = clock_timestamp() - interval '13 days' where id = $1",
        receipt,
    )
    await retention(pool, None).run_once()
    assert "tollwire.carrier_references" in await rows_of(flow, days_ago(15))
    await flow.pool.execute("update tollwire.receipts set received_at = clock_timestamp()")
    await retention(pool, None).run_once()
    assert "tollwire.carrier_references" not in await rows_of(flow, days_ago(15))
    assert "tollwire.carrier_references" in await rows_of(flow, days_ago(14))


async def forgotten(flow: Flow) -> None:
    """A callback and a receipt that nobody has looked after for long; and one of each that waits."""
    day = days_ago(20)
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    await delivered_on(flow, day, client, carrier)
    await delivered_on(flow, day, client, carrier)
    await flow.pool.execute(
        "update tollwire.callbacks set id = $1, due_at = created_at - interval '7 days' where id = "
        "(select min(id::text)::uuid from tollwire.callbacks)",
        id_of(day),
    )
    for receipt_id, age in ((id_of(day), 15), (None, 13)):
        changes = {} if receipt_id is None else {"receipt_id": receipt_id}
        kept = await flow.receive(carrier, "nobody's", "delivered", **changes)
        await flow.pool.execute(
            "update tollwire.receipts set received_at = clock_timestamp() - $2::interval where id = $1",
            kept,
            timedelta(days=age),
        )


async def ended(flow: Flow, pool: Pool, *, is_swept: bool = True) -> list[str]:
    """Run the retention, after a sweep of dlr that has room for nothing; the outcomes that there are then."""
    if is_swept:
        await lease_callbacks(flow.pool, 0, 0, 60)
    await retention(pool, None).run_once()
    rows = await flow.pool.fetch(
        "select outcome from tollwire.callbacks union all select outcome from tollwire.receipts"
        " where reference = 'nobody''s'"
    )
    return sorted(row[0] for row in rows if row[0] is not None)


async def time_passes(flow: Flow, interval: timedelta) -> None:
    """For what is remembered of dlr's sweeps."""
    await flow.pool.execute(
        "update tollwire.watermarks set at = at - $1::interval, position = position::numeric"
        " - extract(epoch from $1::interval) where name = 'end_forgotten'",
        interval,
    )


async def ends_after_six_days(flow: Flow, pool: Pool) -> None:
    """Each of them with somebody to look: nothing is ended before, and then both."""
    for _ in range(6):
        await time_passes(flow, timedelta(hours=23))
        assert await ended(flow, pool) == []
    await time_passes(flow, timedelta(hours=7))
    assert await ended(flow, pool) == ["discarded", "unmatched"]


async def test_what_nobody_looks_after_is_ended(flow, pool):
    await forgotten(flow)
    assert await ended(flow, pool) == []
    await ends_after_six_days(flow, pool)


async def test_after_a_stop_or_a_restore_nothing_is_ended_that_nobody_could_look_after(flow, pool):
    await forgotten(flow)
    await ended(flow, pool)
    for _ in range(2):
        # The ledger process runs on without dlr.
        for _ in range(8):
            await time_passes(flow, timedelta(hours=23))
            assert await ended(flow, pool, is_swept=False) == []
        for _ in range(6):
            assert await ended(flow, pool) == []
            await time_passes(flow, timedelta(hours=23))


async def test_a_clock_that_was_a_year_ahead_puts_it_off_for_six_days_and_no_more(flow, pool):
    await forgotten(flow)
    await ended(flow, pool)
    await time_passes(flow, timedelta(days=-365))
    assert await ended(flow, pool) == []
    await ends_after_six_days(flow, pool)


async def test_sweeps_write_of_themselves_once_an_hour(flow, pool):
    row = "select xmin::text from tollwire.watermarks where name = 'end_forgotten'"
    await ended(flow, pool)
    noted = await flow.pool.fetchval(row)
    await ended(flow, pool)
    assert await flow.pool.fetchval(row) == noted
    await time_passes(flow, timedelta(minutes=61))
    noted = await flow.pool.fetchval(row)
    await ended(flow, pool)
    assert await flow.pool.fetchval(row) != noted


async def journal_of(flow: Flow, day: date, *, entries: int) -> None:
    """Entries of an old day, as if somebody had been charged then."""
    await make_day(flow, day)
    account = await flow.client(0)
    for version in range(1, entries + 1):
        await flow.pool.execute(
            """insert into ledger.entries (account_id, version, day, at, kind, debit_account, credit_account,
                   amount_micros, posted_after_micros, held_after_micros, hash)
               values ($1, $2, $3, $3::date::timestamp at time zone 'UTC', 'top_up', 0, $1, 5, 5, 0,
                   decode(repeat('00', 32), 'hex'))""",
            account, version, day,
        )  # fmt: skip
    await flow.pool.execute(
        """insert into ledger.checkpoints (day, account_id, version, posted_micros, held_micros, chain_head)
           values ($1, $2, $3, 5, 0, decode(repeat('00', 32), 'hex'))""",
        day, account, entries,
    )  # fmt: skip


async def sealed(flow: Flow, day: date, *, entries: int) -> None:
    await flow.pool.execute(
        """insert into ledger.seals (day, accounts, entries, amounts, root, signature, key_id)
           values ($1, 1, $2, '{}', '', '', 'k1')""",
        day, entries,
    )  # fmt: skip


async def test_a_sealed_day_of_the_journal_is_archived_and_dropped_after_400_days(
    database, flow, pool, tmp_path
):
    database.is_corrupted_on_purpose()
    await journal_of(flow, OLD, entries=3)
    await retention(pool, tmp_path).run_once()
    # Its messages are gone, but nobody has sealed the journal yet.
    assert await rows_of(flow, OLD) == {"ledger.entries": 3}
    assert await store.blocker(pool, OLD, "entries") == "the day is not sealed"

    await sealed(flow, OLD, entries=3)
    await retention(pool, tmp_path).run_once()
    assert await rows_of(flow, OLD) == {}
    row = await flow.row(
        "select manifest, entries_at, entries_manifest from tollwire.retired_days where day = $1", OLD
    )
    assert row["entries_manifest"]["tables"]["ledger.entries"]["rows"] == 3
    assert row["entries_at"] is not None
    assert (Archive(tmp_path).folder_of("entries", OLD) / "entries.csv.gz").exists()


async def test_a_journal_that_differs_from_its_seal_is_kept(database, flow, pool, tmp_path):
    database.is_corrupted_on_purpose()
    await journal_of(flow, OLD, entries=2)
    await sealed(flow, OLD, entries=3)
    await retention(pool, tmp_path).run_once()
    assert await rows_of(flow, OLD) == {"ledger.entries": 2}
    manifest = {"tables": {"ledger.entries": {"rows": 2}}}
    assert (
        await store.note_archive(pool, OLD, "entries", manifest)
        == "the archive has 2 entries, the seal does not"
    )


async def test_the_journal_stays_while_holds_of_its_day_are_online(database, flow, pool):
    database.is_corrupted_on_purpose()
    await journal_of(flow, OLD, entries=1)
    await sealed(flow, OLD, entries=1)
    assert await store.blocker(pool, OLD, "entries") == f"the holds of {OLD} are still online"
    assert (
        await store.retire_day(pool, OLD, "entries", 400, unarchived=True)
        == f"the holds of {OLD} are still online"
    )
