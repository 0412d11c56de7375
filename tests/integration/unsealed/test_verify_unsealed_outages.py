"""The proof before a seal, while the server goes away: it forgets nothing, and hears the stop."""

from asyncio import timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from itertools import count

import asyncpg
import pytest

from ledger import verify_books, verify_online, verify_unsealed
from ledger.bookkeeping import Bookkeeping
from ledger.pace import never
from ledger.verify_books import Account
from ledger.verify_unsealed import prove_unsealed
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection, OutcomeUnknown
from tests.support.flow import Flow, open_flow
from tests.support.postgres_proxy import open_proxy
from tests.support.proofs import plant, proved, sealed
from tests.support.scene import SIGNER, past_account, scene
from tests.support.servers import Database, run_apart

END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = 'tollwire_ledger'
"""


@pytest.mark.usefixtures("small_bites")
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_server_that_is_away_for_a_moment_is_asked_again(
    database: Database, flow: Flow, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    """A proof of hours does not begin anew for it, and forgets nothing."""
    monkeypatch.setattr(verify_unsealed, "TRY_AGAIN_SECONDS", (0.0, 0.1))
    names = await scene(flow)
    if not is_whole:
        await plant(database, f"delete from ledger.credit_locks where message_id = '{names['queued']}'")
        await plant(database, f"delete from tollwire.outbox where message_id = '{names['waiting']}'")

    async def end_sessions() -> bool:
        await flow.pool.execute(END_SESSIONS)
        return True

    async with open_flow(database, "ledger") as ledger:
        findings = await prove_unsealed(ledger.pool, database.dsn("ledger"), SIGNER, end_sessions)
    expected = set() if is_whole else {"entry_without_lock", "outbox_missing"}
    assert findings is not None
    assert {finding.check for finding in findings} >= expected
    assert bool(findings) is not is_whole


@pytest.mark.usefixtures("small_bites")
async def test_a_bite_that_ends_with_its_connection_keeps_what_it_found(
    database: Database, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bite loses its connection once, when all of it was read and its COMMIT is still to come."""
    names = await scene(flow)
    for message in ("delivered", "undelivered", "queued", "waiting"):
        await plant(database, f"update tollwire.messages set segments = 3 where id = '{names[message]}'")
        await plant(database, f"delete from ledger.credit_locks where message_id = '{names[message]}'")
    snapshot, takes = verify_online._snapshot, count()

    @asynccontextmanager
    async def ends_early(conn: Connection) -> AsyncIterator[None]:
        async with snapshot(conn):
            pid = await conn.fetchval("select pg_backend_pid()")
            yield
            if next(takes) % 2 == 0:
                await flow.pool.execute("select pg_terminate_backend($1)", pid)

    async with open_flow(database, "ledger") as ledger:
        expected = await proved(ledger, database)
        monkeypatch.setattr(verify_unsealed, "TRY_AGAIN_SECONDS", (0.0, 0.1, 0.1))
        monkeypatch.setattr(verify_online, "_snapshot", ends_early)
        assert await proved(ledger, database) == expected
    assert {"entry_without_lock", "price_not_of_segments"} <= {finding.check for finding in expected}


async def test_a_host_that_fell_silent_is_not_waited_for(
    database: Database, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums of open holds are read by a connection of their own, without the pool's limits."""
    monkeypatch.setattr(verify_unsealed, "TRY_AGAIN_SECONDS", (0.0,))
    monkeypatch.setattr(verify_unsealed, "ANSWER_SECONDS", 2.5)
    names, load_accounts, takes = await scene(flow), verify_books.load_accounts, count()
    await plant(database, f"delete from ledger.credit_locks where message_id = '{names['queued']}'")
    async with open_proxy(database.dsn("ledger")) as (proxy, dsn):

        async def silent_once(conn: Connection, since: date) -> list[Account]:
            if next(takes) == 0:
                proxy.strand()
            return await load_accounts(conn, since)

        monkeypatch.setattr(verify_books, "load_accounts", silent_once)
        async with timeout(60):
            findings = await verify_unsealed._Patience(never).take(
                partial(verify_unsealed._compare_holds, dsn)
            )
    assert {finding.check for finding in findings} == {"held_differs", "open_holds_differ"}


# Each row of an hour of its own takes as long as many do in large tables on slow disks.
SLOW_ROWS = """
    insert into ledger.credit_locks (message_id, account_id, amount_micros, hold_version, held_at)
    select tollwire.uuid7_floor_v1(current_date + make_interval(hours => h)), {account}, 1, 99, now()
    from generate_series(1, 8) h;
    alter table ledger.credit_locks enable row level security;
    create policy slow on ledger.credit_locks using (pg_sleep(0.9) is not null);
    alter database {database} set enable_seqscan = off
"""


async def test_a_day_of_which_all_takes_longer_than_an_answer_may_is_added_up(
    database: Database, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_unsealed, "TRY_AGAIN_SECONDS", ())
    monkeypatch.setattr(verify_unsealed, "ANSWER_SECONDS", 6.0)
    account = (await flow.account(await flow.client()))["id"]
    await plant(database, SLOW_ROWS.format(account=account, database=database.name))
    findings = await verify_unsealed._compare_holds(database.dsn("ledger"))
    assert {finding.check for finding in findings} == {"held_differs", "open_holds_differ"}


async def test_a_proof_whose_server_is_away_hears_the_stop(
    database: Database, flow: Flow, keyring: Keyring
) -> None:
    """A process has 25 s for its stop; the tries go on for longer."""
    looks = count()

    async def take_away() -> None:
        conn = await asyncpg.connect(database.dsn())
        await conn.execute(f"alter database {database.name} connection limit 0")
        await conn.execute(END_SESSIONS)
        await conn.close()

    def should_stop() -> bool:
        look = next(looks)
        if look == 0:
            run_apart(take_away)
        return look > 2

    await past_account(flow)
    async with open_flow(database, "ledger") as ledger:
        bookkeeping = Bookkeeping(ledger.pool, database.dsn("ledger"), keyring)
        with pytest.raises(OutcomeUnknown):  # of the lease, which ends by itself
            async with timeout(15):
                await bookkeeping.close_days(should_stop)
    assert await sealed(flow) == 0
