"""`ledger verify` finds what is wrong with the books, and nothing else."""

from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from ledger.checkpoints import close_day, unsealed_days
from ledger.verify import Finding, verify_database, verify_snapshot
from tests.support.flow import open_flow
from tests.support.plants import PLANTS
from tests.support.scene import SIGNER, past_account, scene
from tests.support.servers import Database


def yesterday() -> date:
    return (datetime.now(UTC) - timedelta(days=1)).date()


@pytest.mark.parametrize("full", [True, False])
async def test_whole_books_have_no_findings(database: Database, full: bool) -> None:
    async with open_flow(database) as flow:
        await scene(flow)
    for role in ("postgres", "ledger", "readonly"):
        assert await verify_database(database.dsn(role), full=full, signer=SIGNER) == []


async def test_every_planted_corruption_is_named(database: Database) -> None:
    async with open_flow(database) as flow:
        names = await scene(flow)
    conn = await asyncpg.connect(database.dsn())
    missed = []
    for plant in PLANTS:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("set local session_replication_role = replica")
        await conn.execute(plant.sql.format(**names))
        found = {finding.check for finding in await verify_snapshot(conn, signer=SIGNER)}
        await transaction.rollback()
        if not plant.found_by <= found:
            missed.append(f"{plant.name}: {sorted(plant.found_by - found)} missing in {sorted(found)}")
    await conn.close()
    assert not missed, "\n".join(missed)


async def test_a_finding_says_where_and_what(database: Database) -> None:
    async with open_flow(database) as flow:
        account = await flow.client(credit_micros=1_000)
    database.is_corrupted_on_purpose()
    conn = await asyncpg.connect(database.dsn())
    await conn.execute("update ledger.accounts set open_holds = 1 where id = $1", account)
    await conn.close()

    (finding,) = await verify_database(database.dsn())
    assert finding == Finding(
        "open_holds_differ", "how many locks are HELD: the account says 1, they say 0", account
    )
    assert str(finding) == f"open_holds_differ: account {account}: {finding.sentence}"


async def test_entries_after_a_checkpoint_are_verified_from_it(database: Database) -> None:
    async with open_flow(database) as flow:
        account = await past_account(flow)
        async with flow.pool.acquire() as conn:
            await close_day(conn, yesterday(), SIGNER)
        await flow.credit(account, "top_up", 10, "today")
        assert await verify_database(database.dsn(), full=False, signer=SIGNER) == []
        database.is_corrupted_on_purpose()
        await flow.pool.execute("alter table ledger.entries disable trigger entries_append_only")
        await flow.pool.execute("update ledger.entries set amount_micros = 11 where reference = 'today'")
        await flow.pool.execute("update ledger.entries set amount_micros = 11 where reference = 'past-1'")
        await flow.pool.execute("alter table ledger.entries enable trigger entries_append_only")

    def broken(findings: list[Finding]) -> set[str]:
        return {finding.sentence for finding in findings if finding.check == "chain_broken"}

    after = broken(await verify_database(database.dsn(), full=False))
    assert [sentence.split(":")[0] for sentence in after] == ["entry 4"]
    assert len(broken(await verify_database(database.dsn()))) == 2


async def test_the_chain_goes_on_from_a_checkpoint_when_older_entries_are_gone(database: Database) -> None:
    async with open_flow(database) as flow:
        account = await past_account(flow)
        async with flow.pool.acquire() as conn:
            await close_day(conn, yesterday(), SIGNER)
        await flow.credit(account, "top_up", 10, "today")
        await flow.pool.execute(f"drop table ledger.entries_{yesterday():%Y%m%d}")
    assert await verify_database(database.dsn(), signer=SIGNER) == []


async def test_a_day_is_closed_once_and_only_when_it_is_over(database: Database) -> None:
    async with open_flow(database) as flow:
        await past_account(flow)
        async with flow.pool.acquire() as conn:
            today = datetime.now(UTC).date()
            assert await unsealed_days(conn, today) == [yesterday()]
            seal = await close_day(conn, yesterday(), SIGNER)
            assert (seal.accounts, seal.entries) == (1, 3)
            assert seal.amounts == {"EUR": {"top_up": {"entries": 3, "micros": 15_000}}}
            assert await unsealed_days(conn, today) == []
            with pytest.raises(asyncpg.RestrictViolationError):
                await close_day(conn, yesterday(), SIGNER)
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await close_day(conn, today, SIGNER)


async def test_the_ledger_role_closes_a_day(database: Database) -> None:
    async with open_flow(database) as flow:
        await past_account(flow)
    conn = await asyncpg.connect(database.dsn("ledger"))
    assert (await close_day(conn, yesterday(), SIGNER)).accounts == 1
    await conn.close()
