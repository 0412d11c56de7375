"""The ledger process verifies the books and seals the days that are over."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from ledger.bookkeeping import ROUND_SECONDS, Bookkeeping
from shared.runtime.keyring import Keyring
from tests.support.flow import open_flow
from tests.support.servers import Database


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


def findings() -> float | None:
    return REGISTRY.get_sample_value("tollwire_ledger_findings")


async def test_whole_books_are_verified_and_today_stays_open(database: Database, keyring: Keyring):
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier()
        await flow.submitted(await flow.accepted(client, 3), carrier)
        bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring)
        await bookkeeping.step()
        await bookkeeping.close_days()
        assert findings() == 0
        assert await flow.pool.fetchval("select count(*) from ledger.seals") == 0


async def test_a_fault_in_the_books_is_counted_and_seals_nothing(database: Database, keyring: Keyring):
    database.is_corrupted_on_purpose()
    async with open_flow(database) as flow:
        client = await flow.client()
        await flow.accepted(client)
        async with flow.pool.acquire() as connection:
            await connection.execute("set session_replication_role = replica")
            await connection.execute(
                "update ledger.accounts set posted_micros = posted_micros + 1 where id = $1", client
            )
            await connection.execute("set session_replication_role = origin")
        await Bookkeeping(flow.pool, database.dsn("ledger"), keyring).step()
        assert (findings() or 0) > 0


async def test_books_that_were_all_seen_are_left_in_peace_for_a_minute(
    database: Database, keyring: Keyring
) -> None:
    database.is_corrupted_on_purpose()
    now = 0.0
    async with open_flow(database) as flow:
        client = await flow.client()
        await flow.accepted(client, 3)
        bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring, monotonic=lambda: now)
        await bookkeeping.step()
        assert findings() == 0
        async with flow.pool.acquire() as connection:
            await connection.execute("set session_replication_role = replica")
            await connection.execute("update ledger.accounts set held_micros = 0 where id = $1", client)
            await connection.execute("set session_replication_role = origin")
        now = ROUND_SECONDS - 1
        await bookkeeping.step()
        assert findings() == 0
        now = ROUND_SECONDS
        await bookkeeping.step()
        assert (findings() or 0) > 0
