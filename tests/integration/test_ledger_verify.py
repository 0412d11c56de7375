"""`ledger verify` finds what is wrong with the books, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime

import asyncpg
import pytest

from ledger import retention_store, verify, verify_ranges
from ledger.checkpoints import close_day, unsealed_days
from ledger.retention_store import Partition
from ledger.verify import Finding, verify_database, verify_snapshot
from shared.runtime.postgres import Connection
from tests.support import old_days
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, delivered_on, make_day
from tests.support.plants import PLANTS
from tests.support.scene import PAST_TOP_UP, SIGNER, past_account, scene
from tests.support.servers import Database


def yesterday() -> date:
    return days_ago(1)


def noon(days_ago: int) -> datetime:
    day = old_days.days_ago(days_ago)
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@asynccontextmanager
async def rolled_back(conn: Connection) -> AsyncIterator[None]:
    """Whatever is done inside is undone."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("full", [True, False])
async def test_whole_books_have_no_findings(database: Database, full: bool) -> None:
    async with open_flow(database) as flow:
        await scene(flow)
    for role in ("postgres", "ledger", "readonly"):
        assert await verify_database(database.dsn(role), full=full, signer=SIGNER) == []


@pytest.fixture(params=["one piece", "many pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in one pass; or each day by itself, and in parts of its accounts."""
    if request.param == "many pieces":
        monkeypatch.setattr(verify_ranges, "BYTES_MIN", 1)
        monkeypatch.setattr(verify_ranges, "ENTRY_BYTES_A_SPAN", 1)
        monkeypatch.setattr(verify_ranges, "LOCK_BYTES_A_RANGE", 5_000)


@pytest.mark.usefixtures("pieces")
async def test_every_planted_corruption_is_named(database: Database) -> None:
    async with open_flow(database) as flow:
        names = await scene(flow)
    conn = await asyncpg.connect(database.dsn())
    missed = []
    for plant in PLANTS:
        async with rolled_back(conn):
            await conn.execute("set local session_replication_role = replica")
            await conn.execute(plant.sql.format(**names))
            found = {finding.check for finding in await verify_snapshot(conn, signer=SIGNER)}
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


FAULTS_BETWEEN_DAYS = {
    "hash = sha256('x')": {"entry 1: chain_broken", "entry 2: chain_broken"},
    "at = at + interval '1 day 2 hours', day = day + 1": {"entry 1: chain_broken", "entry 2: time_backwards"},
    "posted_after_micros = posted_after_micros + 1": {
        "entry 1: chain_broken", "entry 1: running_balance", "entry 2: running_balance",
    },
    "version = 7": {"entry 2: version_gap", "entry 7: version_gap"},
}  # fmt: skip


@pytest.mark.usefixtures("pieces")
async def test_an_account_is_followed_from_day_to_day(database: Database) -> None:
    database.is_corrupted_on_purpose()
    async with open_flow(database) as flow:
        account = await flow.client(0)
        for ago in (3, 2, 1):
            await make_day(flow, days_ago(ago))
            await flow.pool.execute(PAST_TOP_UP, account, noon(ago), f"past-{ago}")
        assert await verify_database(database.dsn()) == []
        async with flow.pool.acquire() as conn:
            await conn.execute("set session_replication_role = replica")
            for change, named in FAULTS_BETWEEN_DAYS.items():
                async with rolled_back(conn):
                    await conn.execute(f"update ledger.entries set {change} where version = 1")
                    found = await verify_snapshot(conn)
                    words = {f"{f.sentence.split(':')[0]}: {f.check}" for f in found}
                    assert named <= words, change


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


MESSAGES = (
    "ledger.credit_locks", "tollwire.messages", "tollwire.message_states", "tollwire.attempts",
    "tollwire.dead_letters",
)  # fmt: skip


async def dropped(flow: Flow, day: date) -> list[str]:
    """Which tables of a retired day go now."""
    gone = []
    for parent in MESSAGES:
        name = f"{parent.split('.')[1]}_{day:%Y%m%d}"
        partition = Partition(parent, name, "uuid", day, is_attached=True)
        try:
            assert await retention_store.detach(flow.pool, partition) is None
            assert await retention_store.drop(flow.pool, partition) is None
        except asyncpg.LockNotAvailableError:
            continue
        gone.append(parent)
    return gone


async def test_no_day_is_dropped_under_a_verification(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables would go after the look at which days there are and before the first read of them."""
    monkeypatch.setattr(verify, "ENTRIES_FOR_TWO", 0)
    day, gone = days_ago(100), list[str]()
    conn, other = [await asyncpg.connect(database.dsn("readonly")) for _ in range(2)]
    async with open_flow(database) as flow:
        await delivered_on(flow, day, await flow.client(), await flow.carrier(), 3)
        await flow.pool.execute("insert into tollwire.retired_days (day, manifest) values ($1, '{}')", day)

        async def see_the_same_after_the_drop() -> Connection:
            gone.extend(await dropped(flow, day))
            name = await conn.fetchval("select pg_export_snapshot()")
            await other.execute(f"begin isolation level repeatable read; set transaction snapshot '{name}'")
            return other

        async with conn.transaction(isolation="repeatable_read", readonly=True):
            assert await verify_snapshot(conn, open_others=[see_the_same_after_the_drop]) == []
        await other.execute("commit")
        assert gone == []
        assert await dropped(flow, day) == list(MESSAGES)
    await conn.close()
    await other.close()
