"""The history that benches start from is one that Tollwire could have written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.fill import SealedAlready, Wish, fill
from bench.fill_share import TEXT
from ledger.checkpoints import KeyringSigner
from ledger.clockwork_store import look_due
from ledger.verify import verify_database
from shared.runtime.keyring import Keyring
from tests.support.flow import open_flow
from tests.support.old_days import days_ago
from tests.support.servers import Database

MESSAGES, BACKLOG, DAYS, CLIENTS = 900, 60, 3, 20
ROWS = """
select (select count(*) from tollwire.messages), (select count(*) from ledger.credit_locks),
       (select count(*) from tollwire.message_states where final_at is not null),
       (select count(*) from tollwire.attempts), (select count(*) from tollwire.carrier_references),
       (select count(*) from tollwire.receipts), (select count(*) from tollwire.callbacks),
       (select count(*) from tollwire.outbox), (select count(*) from ledger.seals),
       (select count(*) from tollwire.clients),
       (select count(*) from ledger.entries where message_id is not null)
"""


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


@pytest.fixture
def wish(database: Database, keyring: Keyring) -> Wish:
    return Wish(
        dsn=database.dsn(), messages=MESSAGES, days=DAYS, clients=CLIENTS, backlog=BACKLOG, keyring=keyring,
        has_texts=True, is_sealed=True, processes=1,
    )  # fmt: skip


async def test_a_filled_database_has_whole_books(database: Database, keyring: Keyring, wish: Wish) -> None:
    said: list[str] = []
    await fill(wish, said.append)
    assert any(f"{MESSAGES + BACKLOG:,} messages" in line for line in said)
    for full in (True, False):
        assert await verify_database(database.dsn(), full=full, signer=KeyringSigner(keyring)) == []
    async with open_flow(database) as flow:
        found = tuple(await flow.row(ROWS))
        every = MESSAGES + BACKLOG
        # In the minutes after midnight the last day may not be sealed yet.
        sealed = DAYS - (datetime.now(UTC).date() - timedelta(days=1) - days_ago(1)).days
        assert found == (
            every, every, MESSAGES, MESSAGES, MESSAGES, MESSAGES, MESSAGES, BACKLOG, sealed, CLIENTS,
            2 * MESSAGES + BACKLOG,
        )  # fmt: skip


async def test_the_backlog_is_due_and_its_texts_open(
    database: Database, keyring: Keyring, wish: Wish
) -> None:
    await fill(wish, lambda _: None)
    async with open_flow(database, "ledger") as flow:
        due = await look_due(flow.pool, BACKLOG * 2)
    assert {work: len(ids) for work, ids in due.items()} == {"dispatch": BACKLOG}
    async with open_flow(database) as flow:
        sql = "select sealed from tollwire.message_texts where message_id = $1"
        for message in due["dispatch"]:
            assert keyring.unseal(await flow.pool.fetchval(sql, message), message.bytes) == TEXT


async def test_two_fills_of_one_database_stand_side_by_side(database: Database, wish: Wish) -> None:
    for is_sealed in (False, True):
        await fill(replace(wish, is_sealed=is_sealed), lambda _: None)
    with pytest.raises(SealedAlready):
        await fill(wish, lambda _: None)
    async with open_flow(database) as flow:
        assert await flow.pool.fetchval("select count(*) from tollwire.clients") == 2 * CLIENTS


async def test_two_processes_fill_as_one_does(database: Database, wish: Wish) -> None:
    async with open_flow(database) as flow:
        await fill(Wish(dsn=wish.dsn, messages=MESSAGES, clients=CLIENTS, processes=2), lambda _: None)
        assert await flow.pool.fetchval("select count(*) from tollwire.messages") == MESSAGES
