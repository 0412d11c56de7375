"""A day is closed in small statements, however much was booked on it: the ledger's role has 5 s for each."""

from datetime import UTC, datetime

import asyncpg
import pytest

from ledger import checkpoints
from ledger.checkpoints import close_day, unsealed_days
from tests.support.flow import open_flow
from tests.support.old_days import days_ago, make_day
from tests.support.scene import SIGNER, past_account
from tests.support.servers import Database

ENTRIES = 600_000
# Far less than adding all of them up takes, far more than one page of them.
STATEMENT_MS = 60
PAGE = 2_000
# Far less than a look at each of them, far more than one at whether there is one.
LOOK_MS = 30
# No chain: who closes a day relies on the proof before it.
MANY = """
insert into ledger.entries (account_id, version, day, at, kind, debit_account, credit_account, amount_micros,
                            posted_after_micros, held_after_micros, hash)
select $1, n, ($2 at time zone 'UTC')::date, $2, 'top_up', f.id, $1, 7, 7 * n, 0,
       decode(repeat('00', 32), 'hex')
from generate_series(1, $3) n, ledger.accounts f where f.kind = 'funding' and f.currency = 'EUR'
"""


async def test_a_day_is_closed_whose_sums_take_longer_than_a_statement_may(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.is_corrupted_on_purpose()
    monkeypatch.setattr(checkpoints, "ENTRIES_A_CALL", PAGE, raising=False)
    day = days_ago(1)
    async with open_flow(database) as flow:
        account = await past_account(flow, top_ups=0)
        await make_day(flow, day)
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        await flow.pool.execute(MANY, account, noon, ENTRIES, timeout=60)
        await flow.pool.execute("vacuum analyze ledger.entries", timeout=60)
    conn = await asyncpg.connect(database.dsn("ledger"))
    try:
        await conn.execute(f"set statement_timeout = {LOOK_MS}")
        assert await unsealed_days(conn, days_ago(0)) == [day]
        await conn.execute(f"set statement_timeout = {STATEMENT_MS}")
        seal = await close_day(conn, day, SIGNER)
    finally:
        await conn.close()
    assert seal.entries == ENTRIES
    assert seal.amounts == {"EUR": {"top_up": {"entries": ENTRIES, "micros": 7 * ENTRIES}}}


async def test_the_sums_of_a_day_are_those_of_its_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages end inside an account, and between two."""
    day = days_ago(1)
    async with open_flow(database) as flow:
        for _ in range(3):
            await past_account(flow, top_ups=4)
        async with flow.pool.acquire() as conn:
            for page in (1, 3, 4, 12, 100):
                monkeypatch.setattr(checkpoints, "ENTRIES_A_CALL", page)
                sums = {"EUR": {"top_up": {"entries": 12, "micros": 60_000}}}
                assert await checkpoints.day_amounts(conn, day) == sums
                assert await checkpoints.day_amounts(conn, days_ago(2)) == {}
