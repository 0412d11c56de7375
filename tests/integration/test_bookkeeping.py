"""The ledger process verifies the books and seals the days that are over."""

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from ledger import retention_store, verify_messages, verify_online
from ledger.bookkeeping import ROUND_SECONDS, Bookkeeping
from ledger.checkpoints import KeyringSigner, close_day
from ledger.findings import Finding
from ledger.verify_online import OnlineVerifier
from shared.runtime.keyring import Keyring
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago
from tests.support.proofs import plant, sealed
from tests.support.scene import past_account
from tests.support.servers import Database


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


def findings(walks: Iterable[str] = ("accounts", "messages", "proof")) -> float | None:
    """The sum that the alert takes; None while no walk knows anything."""
    shown = [REGISTRY.get_sample_value("tollwire_ledger_findings", {"walk": walk}) for walk in walks]
    known = [value for value in shown if value is not None]
    return sum(known) if known else None


def restless(flow: Flow, database: Database, keyring: Keyring) -> Bookkeeping:
    """It begins a round whenever the last one is over."""
    clock = count(0, ROUND_SECONDS).__next__
    return Bookkeeping(flow.pool, database.dsn("ledger"), keyring, monotonic=clock)


async def shown_after(bookkeeping: Bookkeeping, *, steps: int) -> list[float | None]:
    """What the gauge says after each step."""
    shown = []
    for _ in range(steps):
        await bookkeeping.step()
        shown.append(findings())
    return shown


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


async def test_a_long_round_rests_between_its_steps_unless_something_is_wrong(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round over the messages takes several steps, each of which seems to work for a second."""
    monkeypatch.setattr(verify_online, "MESSAGES_A_BITE", 2)
    taken: list[int] = []
    step = OnlineVerifier.step

    async def worked_for_a_second(verifier: OnlineVerifier) -> list[Finding]:
        taken.append(now)
        verifier.worked_seconds += 1
        return await step(verifier)

    monkeypatch.setattr(OnlineVerifier, "step", worked_for_a_second)
    now = 0

    async def steps_at(*moments: int) -> list[int]:
        nonlocal now
        taken.clear()
        for moment in moments:
            now = moment
            await bookkeeping.step()
        return list(taken)

    async with open_flow(database) as flow:
        messages = await flow.accepted(await flow.client(), 14)
        bookkeeping = Bookkeeping(flow.pool, database.dsn("ledger"), keyring, monotonic=lambda: now)
        assert await steps_at(0, 1, 2, 3, 59) == [0, 1, 2, 3]  # nothing holds up the first round
        await plant(database, f"update tollwire.messages set segments = 3 where id = '{messages[7]}'")
        assert await steps_at(60, 159, 170) == [60, 170]
        assert findings() == 1
        assert await steps_at(171, 172) == [171, 172]


async def test_a_fault_among_many_messages_shows_until_a_whole_round_is_without_it(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few accounts: a round over them ends in every step, and one over the messages in every fourth."""
    monkeypatch.setattr(verify_online, "MESSAGES_A_BITE", 2)
    fault = "update tollwire.messages set segments = {} where id = '{}'"
    async with open_flow(database) as flow:
        messages = await flow.accepted(await flow.client(), 14)
        bookkeeping = restless(flow, database, keyring)
        assert (await shown_after(bookkeeping, steps=6))[-1] == 0
        await plant(database, fault.format(3, messages[7]))
        shown = await shown_after(bookkeeping, steps=15)
        found = shown.index(1)
        assert found < 5
        assert set(shown[found:]) == {1}
        await plant(database, fault.format(1, messages[7]))
        shown = await shown_after(bookkeeping, steps=10)
        assert shown[0] == 1
        assert shown[-1] == 0
        assert shown == sorted(shown, reverse=True)  # type: ignore[type-var]


async def test_a_fault_of_an_account_shows_until_a_whole_round_is_without_it(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_online, "BITES_A_STEP", 1)
    monkeypatch.setattr(verify_online, "ACCOUNTS_A_BITE", 1)
    fault = "update ledger.accounts set overdrawn_micros = {} where id = {}"
    async with open_flow(database) as flow:
        clients = [await flow.client() for _ in range(4)]
        bookkeeping = restless(flow, database, keyring)
        await plant(database, fault.format(9, clients[1]))
        shown = await shown_after(bookkeeping, steps=16)
        found = next(step for step, value in enumerate(shown) if value)
        assert found < 5
        assert not {0, None} & set(shown[found:])
        await plant(database, fault.format(0, clients[1]))
        assert (await shown_after(bookkeeping, steps=11))[-1] == 0


async def test_what_a_step_found_shows_though_the_rest_of_it_failed(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_away(*_: object) -> None:
        raise ConnectionResetError

    async with open_flow(database) as flow:
        client = await flow.client()
        await plant(database, f"update ledger.accounts set overdrawn_micros = 9 where id = {client}")
        bookkeeping = restless(flow, database, keyring)
        monkeypatch.setattr(verify_messages, "fold_messages", is_away)
        with pytest.raises(ConnectionResetError):
            await bookkeeping.step()
        assert (findings(["accounts"]) or 0) > 0
        assert findings(["messages"]) is None  # nobody knows anything of them


async def test_what_only_a_proof_finds_shows_until_a_proof_is_clean(
    database: Database, keyring: Keyring
) -> None:
    fault = "update ledger.seals set signature = decode('{}', 'hex')"
    async with open_flow(database) as flow:
        await past_account(flow, days_ago=2)
        bookkeeping = restless(flow, database, keyring)
        await bookkeeping.close_days()
        assert (await sealed(flow), findings(["proof"])) == (1, 0)
        signature = await flow.pool.fetchval("select encode(signature, 'hex') from ledger.seals")
        await past_account(flow)
        await plant(database, fault.format("00" * 32))
        await bookkeeping.close_days()
        assert (findings(["proof"]) or 0) > 0
        assert set(await shown_after(bookkeeping, steps=3)) == {findings(["proof"])}
        await plant(database, fault.format(signature))
        await bookkeeping.close_days()
        assert (await sealed(flow), findings()) == (2, 0)


async def test_what_a_proof_has_found_shows_before_its_end(database: Database, keyring: Keyring) -> None:
    fault = "update ledger.accounts set overdrawn_micros = {} where id = {}"
    async with open_flow(database) as flow:
        past = await past_account(flow)
        await plant(database, fault.format(9, past))
        bookkeeping = restless(flow, database, keyring)
        await bookkeeping.close_days(lambda: True)  # after its first bite
        assert (findings(["proof"]) or 0) > 0
        await plant(database, fault.format(0, past))
        await bookkeeping.close_days(lambda: True)
        assert (findings(["proof"]) or 0) > 0  # it is not through
        await bookkeeping.close_days()
        assert findings(["proof"]) == 0


async def test_a_finding_is_over_when_another_process_has_proved_and_sealed(
    database: Database, keyring: Keyring
) -> None:
    fault = "update ledger.accounts set overdrawn_micros = {} where id = {}"
    async with open_flow(database) as flow:
        past = await past_account(flow)
        await plant(database, fault.format(9, past))
        bookkeeping = restless(flow, database, keyring)
        await bookkeeping.close_days()
        assert (findings(["proof"]) or 0) > 0
        await plant(database, fault.format(0, past))
        async with flow.pool.acquire() as conn:
            await close_day(conn, days_ago(1), KeyringSigner(keyring))
        await bookkeeping.close_days()
        assert findings(["proof"]) == 0


async def test_of_what_another_process_proves_nothing_is_said(database: Database, keyring: Keyring) -> None:
    """A 0 of yesterday would outlive what the other one has found, and dies with."""
    async with open_flow(database) as flow:
        bookkeeping = restless(flow, database, keyring)
        await bookkeeping.close_days()
        assert findings(["proof"]) == 0
        await past_account(flow)
        other = uuid4()
        assert await retention_store.take_upkeep(flow.pool, "close_days", other, 60)
        await bookkeeping.close_days()
        assert findings(["proof"]) is None
        await retention_store.take_upkeep(flow.pool, "close_days", other, 0)
        await bookkeeping.close_days()
        assert findings(["proof"]) == 0


async def test_a_step_is_noted_when_it_worked_and_not_when_it_failed(
    database: Database, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round may take hours; what stands still or fails each time goes on nowhere."""

    async def is_away(*_: object) -> None:
        raise ConnectionResetError

    def noted() -> float | None:
        return REGISTRY.get_sample_value("tollwire_ledger_verify_step_timestamp_seconds")

    monkeypatch.setattr(verify_online, "BITES_A_STEP", 1)
    async with open_flow(database) as flow:
        await flow.client()
        bookkeeping = restless(flow, database, keyring)
        before = noted()
        await bookkeeping.step()
        worked = noted()
        assert before != worked
        monkeypatch.setattr(verify_messages, "fold_messages", is_away)
        with pytest.raises(ConnectionResetError):
            await bookkeeping.step()
        assert noted() == worked
