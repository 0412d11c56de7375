"""No entry comes behind a seal: neither of a clock that was set back, nor of a commit that took long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta

import asyncpg
import pytest

from ledger import checkpoints
from ledger.checkpoints import close_day
from ledger.verify import verify_database
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, make_day
from tests.support.scene import PAST_TOP_UP, SIGNER, past_account
from tests.support.servers import Database

WRITERS = ("place_holds_v1", "settle_holds_v1", "post_credit_v1", "open_account_v1")
TEXT = "select pg_get_functiondef(oid) from pg_proc where proname = $1"
OLDEST_AFTER = "select min(day) from ledger.entries where account_id = $1 and version > $2"


def noon_of(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


@asynccontextmanager
async def clock_set_back(flow: Flow, day: date) -> AsyncIterator[None]:
    """Whoever writes entries, or opens an account, has the clock of a day's noon."""
    seconds = (datetime.now(UTC) - noon_of(day)).total_seconds()
    sound = [await flow.pool.fetchval(TEXT, name) for name in WRITERS]
    for text in sound:
        back = f"(clock_timestamp() - interval '{seconds} seconds')"
        await flow.pool.execute(text.replace("clock_timestamp()", back))
    try:
        yield
    finally:
        for text in sound:
            await flow.pool.execute(text)


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as flow:
        yield flow


async def test_after_a_clock_was_set_back_entries_are_of_the_day_after_the_seal(
    flow: Flow, database: Database
) -> None:
    day, carrier = days_ago(1), await flow.carrier()
    used, unused = await past_account(flow), await flow.client(0)
    await make_day(flow, day + timedelta(days=1))
    async with flow.pool.acquire() as conn:
        await close_day(conn, day, SIGNER)
    async with clock_set_back(flow, day):
        later = await flow.client(0)
        for account in (used, unused, later):
            await flow.credit(account, "top_up", 1_000_000, "behind")
            (reference,) = await flow.submitted(await flow.accepted(account), carrier)
            await flow.receipt(carrier, reference, "delivered")
    for account, version in ((used, 3), (unused, 0), (later, 0)):
        assert await flow.pool.fetchval(OLDEST_AFTER, account, version) == day + timedelta(days=1)
    assert await verify_database(database.dsn(), signer=SIGNER) == []
    assert await verify_database(database.dsn(), full=False, signer=SIGNER) == []


async def test_a_day_is_not_closed_while_an_entry_of_it_waits_for_its_commit(
    flow: Flow, database: Database
) -> None:
    day = days_ago(1)
    account = await past_account(flow)
    async with flow.pool.acquire() as conn, flow.pool.acquire() as closer:
        await closer.execute("set lock_timeout = '50ms'")
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(PAST_TOP_UP, account, noon_of(day) + timedelta(hours=1), "late")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await close_day(closer, day, SIGNER)
        await transaction.commit()
        seal = await close_day(closer, day, SIGNER)
    assert seal.amounts["EUR"]["top_up"]["entries"] == 4
    assert await verify_database(database.dsn(), signer=SIGNER) == []


async def test_an_account_in_which_the_day_goes_on_is_not_locked_to_close_it(flow: Flow) -> None:
    """Of busy accounts: nobody who sends waits for the books."""
    account = await past_account(flow)
    await flow.credit(account, "top_up", 5, "today")
    async with flow.pool.acquire() as conn, flow.pool.acquire() as closer:
        await closer.execute("set lock_timeout = '50ms'")
        async with conn.transaction():
            await conn.execute("select from ledger.accounts where id = $1 for update", account)
            assert (await close_day(closer, days_ago(1), SIGNER)).accounts == 1


async def test_no_day_is_sealed_while_an_account_may_still_have_entries_of_it(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was opened by a clock set back, after all others were closed."""
    day = days_ago(1)
    await make_day(flow, day)
    account = await past_account(flow)
    monkeypatch.setattr(checkpoints, "ACCOUNTS_A_CALL", 1)
    amounts = checkpoints.day_amounts

    async def open_one(conn: asyncpg.Connection, day: date) -> object:
        async with clock_set_back(flow, day):
            await flow.client(0)
        return await amounts(conn, day)

    async with flow.pool.acquire() as conn:
        with monkeypatch.context() as while_closing:
            while_closing.setattr(checkpoints, "day_amounts", open_one)
            with pytest.raises(asyncpg.RestrictViolationError, match="accounts"):
                await close_day(conn, day, SIGNER)
        assert (await close_day(conn, day, SIGNER)).accounts == 1
    assert (await flow.account(account))["last_entry_at"] == noon_of(day) + timedelta(hours=12)
