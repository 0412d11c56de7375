"""The verification beside live traffic goes round in small steps and misses nothing on its way."""

import asyncpg
import pytest

from ledger import verify_messages as messages
from ledger import verify_online
from ledger.checkpoints import close_day
from ledger.verify_online import OnlineVerifier
from tests.support.flow import accept_item, open_flow
from tests.support.old_days import days_ago
from tests.support.scene import SIGNER, past_account, scene
from tests.support.servers import Database

FOUND_ONLINE = {
    "update ledger.entries set amount_micros = amount_micros + 1 where version = 3": "chain_broken",
    "delete from ledger.entries where version = 3": "version_gap",
    "update ledger.accounts set overdrawn_micros = 9 where kind = 'client'": "overdrawn_unjustified",
    "update ledger.credit_locks set state = 'RELEASED' where state = 'CAPTURED'": "resolution_differs",
    "update ledger.credit_locks set hold_version = hold_version + 1": "lock_without_entry",
    "delete from tollwire.outbox": "outbox_missing",
}


async def one_round(verifier: OnlineVerifier, *, steps_max: int = 50) -> set[str]:
    found: set[str] = set()
    until = verifier.rounds + 1
    for _ in range(steps_max):
        found |= {finding.check for finding in await verifier.step()}
        if verifier.rounds == until:
            return found
    raise AssertionError("the round does not end")


async def test_whole_books_are_gone_round_without_findings(database: Database) -> None:
    async with open_flow(database, "postgres") as flow:
        await scene(flow)
        clients = [await flow.client() for _ in range(3)]
        for _ in range(4):
            await flow.accept([accept_item(client) for client in clients])
    async with open_flow(database, "ledger") as flow:
        verifier = OnlineVerifier(flow.pool)
        assert await one_round(verifier) == set()
        assert await one_round(verifier) == set()


async def test_an_account_that_is_sealed_in_the_middle_of_its_walk_leaves_nothing_to_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of it fits into a bite; the next account has many entries, and older ones."""
    monkeypatch.setattr(verify_online, "ENTRIES_A_BITE", 3)
    async with open_flow(database) as flow:
        await past_account(flow, top_ups=5)
        await flow.accepted(await flow.client(), 6)
        verifier = OnlineVerifier(flow.pool)
        findings = await verifier.some_accounts()
        async with flow.pool.acquire() as conn:
            await close_day(conn, days_ago(1), SIGNER)
        while not verifier.rounds:
            findings += await verifier.some_accounts()
    assert findings == []


async def test_what_a_step_found_before_it_failed_is_told_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_flow(database) as flow:
        await scene(flow)
    database.is_corrupted_on_purpose()
    conn = await asyncpg.connect(database.dsn())
    await conn.execute("update ledger.accounts set overdrawn_micros = 9 where kind = 'client'")
    await conn.close()
    async with open_flow(database) as flow:
        verifier = OnlineVerifier(flow.pool)
        with monkeypatch.context() as away:
            away.setattr(messages, "fold_messages", _is_away)
            with pytest.raises(ConnectionResetError):
                await verifier.step()
        assert "overdrawn_unjustified" in {finding.check for finding in await verifier.step()}
        assert verifier.rounds == 1  # the account was not looked at again


async def _is_away(*_: object) -> None:
    raise ConnectionResetError


async def test_small_steps_see_what_large_ones_see(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_online, "ENTRIES_A_BITE", 3)
    monkeypatch.setattr(verify_online, "MESSAGES_A_BITE", 2)
    async with open_flow(database) as flow:
        await scene(flow)
    database.is_corrupted_on_purpose()
    conn = await asyncpg.connect(database.dsn())
    await conn.execute("set session_replication_role = replica")
    for sql, check in FOUND_ONLINE.items():
        await conn.execute(sql)
        async with open_flow(database) as flow:
            assert check in await one_round(OnlineVerifier(flow.pool)), sql
    await conn.close()
