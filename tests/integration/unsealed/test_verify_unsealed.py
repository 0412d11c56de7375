"""Before a day is sealed what it rests on is proved: by one process, in bites, and not all that is kept."""

from asyncio import timeout
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest

from ledger import retention_store
from ledger.bookkeeping import Bookkeeping
from ledger.checkpoints import KeyringSigner, close_day
from ledger.verify_unsealed import prove_unsealed
from shared.runtime.keyring import Keyring
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, delivered_on, id_of, make_day
from tests.support.proofs import plant, proved, sealed, yes
from tests.support.scene import PAST_TOP_UP, SIGNER, past_account, scene
from tests.support.servers import Database

# What is planted, one after the other, and what names it since then: the check, the account, the message; of
# tests/support/scene.py.
FOUND = {
    "update ledger.entries set amount_micros = 1 where account_id = {account} and version = 3":
        ("chain_broken", "account", None),
    "update ledger.accounts set posted_micros = posted_micros + 1 where id = {planned}":
        ("balance_differs", "planned", None),
    "update ledger.accounts set credit_limit_micros = 3000 where id = {account}":
        ("credit_limit_differs", "account", None),
    "update ledger.operations set amount_micros = 3 where reference = 'correction'":
        ("entry_without_operation", "account", None),
    "update ledger.credit_locks set resolved_at = now(), state = 'RELEASED' where message_id = '{sent}'":
        ("open_holds_differ", "account", None),
    "update ledger.credit_locks set amount_micros = 1 where message_id = '{waiting}'":
        ("held_differs", "planned", None),
    "delete from ledger.credit_locks where message_id = '{cancelled}'":
        ("entry_without_lock", "account", "cancelled"),
    "update ledger.credit_locks set hold_version = 99 where message_id = '{queued}'":
        ("lock_without_entry", "account", "queued"),
    "delete from tollwire.outbox where message_id = '{queued}'": ("outbox_missing", "account", "queued"),
    "update ledger.entries set account_id = {holds} where account_id = {planned} and version = 1":
        ("entry_of_no_client", "holds", None),
    "update ledger.checkpoints set held_micros = 1 where account_id = {past}": ("seal_broken", None, None),
    "update ledger.seals set signature = 'x'": ("seal_forged", None, None),
    "drop trigger seals_no_truncate on ledger.seals": ("guard_missing", None, None),
}  # fmt: skip
# Version 1 once more, a day later: the key of a partition does not know of the other days.
FORGED = """
insert into ledger.entries (account_id, version, day, at, kind, debit_account, credit_account, amount_micros,
    posted_after_micros, held_after_micros, reference, hash)
select {account}, version, day + 1, at + interval '1 day', kind, debit_account, credit_account, 9000000,
    9000000, 0, 'forged', hash
from ledger.entries where account_id = {past} and version = 1
"""
ORPHAN = """
insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at)
values ('{id}', 1, 1, 1, now())
"""


@pytest.mark.usefixtures("small_bites")
async def test_what_a_seal_rests_on_is_proved_in_bites(database: Database, flow: Flow) -> None:
    names = await scene(flow) | {None: None}
    names["holds"] = await flow.pool.fetchval("select id from ledger.accounts where kind = 'holds'")
    seen = set[tuple[Any, ...]]()
    async with open_flow(database, "ledger") as ledger:
        assert await proved(ledger, database) == []
        for sql, (check, account, message) in FOUND.items():
            await plant(database, sql.format_map(names))
            found = {
                (each.check, each.account_id, each.message_id) for each in await proved(ledger, database)
            }
            assert (check, names[account], names[message]) in found - seen, sql
            seen = found


@pytest.mark.usefixtures("small_bites")
@pytest.mark.parametrize("top_ups", [0, 1, 7])
@pytest.mark.parametrize(
    ("account", "check"), [(None, "version_gap"), (0, "entry_of_no_client"), (-7, "entry_of_no_client")]
)
async def test_an_entry_under_an_old_number_on_a_new_day_is_not_sealed(
    database: Database, flow: Flow, keyring: Keyring, account: int | None, check: str, top_ups: int
) -> None:
    """Of a client that is alone in its bite, idle that day or not, or of an account that cannot be."""
    past = await past_account(flow, days_ago=2)
    place, signer = past if account is None else account, KeyringSigner(keyring)
    async with flow.pool.acquire() as conn:
        await close_day(conn, days_ago(2), signer)
    await make_day(flow, days_ago(1))
    noon = datetime.combine(days_ago(1), time(12), UTC)
    for n in range(top_ups):
        await flow.pool.execute(PAST_TOP_UP, past, noon + timedelta(hours=1, seconds=n), f"later-{n}")
    async with open_flow(database, "ledger") as ledger:
        assert await prove_unsealed(ledger.pool, database.dsn("ledger"), signer, yes) == []
        await plant(database, FORGED.format(account=place, past=past))
        findings = await prove_unsealed(ledger.pool, database.dsn("ledger"), signer, yes)
        await Bookkeeping(ledger.pool, database.dsn("ledger"), keyring).close_days()
    assert findings is not None
    assert (check, place) in {(finding.check, finding.account_id) for finding in findings}
    assert await sealed(flow) == 1


@pytest.mark.usefixtures("small_bites")
async def test_a_proof_ends_where_only_an_old_number_is_left_of_a_bite(
    database: Database, flow: Flow, keyring: Keyring
) -> None:
    past = await past_account(flow, days_ago=2)
    async with flow.pool.acquire() as conn:
        await close_day(conn, days_ago(2), KeyringSigner(keyring))
    for n in range(7):
        await flow.credit(past, "top_up", 100, f"today-{n}")
    await make_day(flow, days_ago(1))
    await plant(database, FORGED.format(account=past, past=past))
    await plant(database, f"delete from ledger.entries where account_id = {past} and version between 4 and 7")
    async with open_flow(database, "ledger") as ledger, timeout(30):
        assert "version_gap" in {finding.check for finding in await proved(ledger, database)}


@pytest.mark.usefixtures("small_bites")
async def test_between_two_bites_no_snapshot_is_open(database: Database, flow: Flow) -> None:
    await scene(flow)
    seen: list[int] = []

    async def look() -> bool:
        sql = """select count(*) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null
                   and backend_type = 'client backend'"""
        seen.append(await flow.pool.fetchval(sql))
        return True

    async with open_flow(database, "ledger") as ledger:
        assert await prove_unsealed(ledger.pool, database.dsn("ledger"), SIGNER, look) == []
    assert len(seen) > len(FOUND)
    assert set(seen) == {0}


async def test_a_process_that_is_told_to_stop_seals_nothing(
    database: Database, flow: Flow, keyring: Keyring
) -> None:
    await past_account(flow)
    bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring)
    await bookkeeping.close_days(lambda: True)
    assert await sealed(flow) == 0
    await bookkeeping.close_days()
    assert await sealed(flow) == 1


async def test_one_process_at_a_time_closes_days(database: Database, flow: Flow, keyring: Keyring) -> None:
    await past_account(flow)
    other = uuid4()
    assert await retention_store.take_upkeep(flow.pool, "close_days", other, 60)
    bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring)
    await bookkeeping.close_days()
    assert await sealed(flow) == 0
    await retention_store.take_upkeep(flow.pool, "close_days", other, 0)
    await bookkeeping.close_days()
    assert await sealed(flow) == 1
    assert await retention_store.take_upkeep(flow.pool, "close_days", other, 60)


async def test_messages_of_sealed_days_are_proved_again_where_an_entry_since_is_about_them(
    database: Database, flow: Flow, keyring: Keyring
) -> None:
    """The day of the messages is sealed; the entries of one of them are of today."""
    (message,) = await delivered_on(flow, days_ago(3), await flow.client(), await flow.carrier())
    await past_account(flow, days_ago=2)
    async with flow.pool.acquire() as conn:
        await close_day(conn, days_ago(2), KeyringSigner(keyring))
    await past_account(flow, days_ago=1)
    bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring)

    await plant(database, f"update tollwire.messages set segments = 3 where id = '{message}'")
    await bookkeeping.close_days()
    assert await sealed(flow) == 1
    await plant(database, f"update tollwire.messages set segments = 1 where id = '{message}'")
    await plant(database, ORPHAN.format(id=id_of(days_ago(3))))
    await bookkeeping.close_days()
    assert await sealed(flow) == 2


async def test_messages_of_days_that_are_not_sealed_are_proved(
    database: Database, flow: Flow, keyring: Keyring
) -> None:
    await past_account(flow)
    await make_day(flow, days_ago(1))
    await plant(database, ORPHAN.format(id=id_of(days_ago(1))))
    await Bookkeeping(flow.pool, database.dsn("ledger"), keyring).close_days()
    assert await sealed(flow) == 0
