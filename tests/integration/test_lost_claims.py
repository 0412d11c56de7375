"""A claim whose answer was lost: whoever lives knows that nothing of it was submitted, and gives it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from embedded.nats import NatsServer
from shared.runtime.clock import open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.postgres import OutcomeUnknown, open_pool
from shared.runtime.server_settings import NatsAccess
from shared.storage.config import load_carriers
from shared.storage.facts import FactPublisher
from tests.support.flow import Flow, PoolSettings, new_id, open_flow
from tests.support.postgres_proxy import Proxy, open_proxy
from tests.support.servers import Database
from worker.journal import Journal
from worker.lost_claims import ASKING_MAX, LostClaim, LostClaims
from worker.store import Claimed

# Half of it the claim is asked for again, and then given up.
DEADLINE_SECONDS = 2

HOLD = "select from tollwire.message_states where message_id = any ($1) for update"


@asynccontextmanager
async def open_journal(database: Database, nats_server: NatsServer) -> AsyncIterator[tuple[Journal, Proxy]]:
    """A journal behind a proxy."""
    nats = NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)
    async with (
        open_proxy(database.dsn("worker")) as (proxy, dsn),
        open_pool(PoolSettings(dsn), application_name="tollwire-test") as pool,
        open_clock(pool) as clock,
        open_jetstream(nats) as jetstream,
        FactPublisher(jetstream) as facts,
        Journal(pool, jetstream, facts, clock) as journal,
    ):
        yield journal, proxy


@asynccontextmanager
async def open_lost_claims(database: Database, journal: Journal) -> AsyncIterator[LostClaims]:
    """What asks for lost claims, by itself."""
    async with (
        open_pool(PoolSettings(database.dsn("worker")), application_name="tollwire-test") as pool,
        LostClaims(pool, journal.carrier, journal.record) as lost_claims,
    ):
        yield lost_claims


def lost(carrier: int, message: UUID) -> LostClaim:
    """A lost call for one message."""
    return LostClaim(new_id(), carrier, 60, [(message.hex, 1)])


async def made(flow: Flow, journal: Journal) -> tuple[int, int]:
    """A client and a carrier that the journal knows."""
    client, carrier = await flow.client(), await flow.carrier()
    async with flow.pool.acquire() as connection:
        journal.apply(await load_carriers(connection))
    return client, carrier


async def waiting(flow: Flow) -> int:
    """How many of the database's connections wait for a lock."""
    sql = """select count(distinct l.pid) from pg_locks l join pg_stat_activity a using (pid)
        where not l.granted and a.datname = current_database()"""
    return int(await flow.pool.fetchval(sql))


async def until_waiting(flow: Flow, number: int) -> None:
    async with asyncio.timeout(10):
        while await waiting(flow) != number:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)


async def given_back(flow: Flow, messages: list[UUID]) -> int:
    sql = "select count(*) from tollwire.outbox where message_id = any ($1) and dispatch_no = 2"
    return int(await flow.pool.fetchval(sql, messages))


async def until_given_back(flow: Flow, messages: list[UUID]) -> None:
    async with asyncio.timeout(10):
        while await given_back(flow, messages) < len(messages):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_done", [True, False])
async def test_what_a_lost_call_claimed_is_given_back_and_not_taken_for_sent(
    database: Database, nats_server: NatsServer, is_done: bool
) -> None:
    async with open_flow(database) as flow, open_journal(database, nats_server) as (journal, proxy):
        client, carrier = await made(flow, journal)
        warm, *messages = await flow.accepted(client, 4)
        await journal.claim(carrier, [(warm.hex, 1)], 60)
        async with flow.pool.acquire() as other, other.transaction():
            if is_done:
                proxy.break_instead_of_answering(messages[0].bytes)
            else:
                await other.execute("select from tollwire.message_states for update")
            with pytest.raises(OutcomeUnknown) as caught:
                await journal.claim(carrier, [(id_.hex, 1) for id_ in messages], DEADLINE_SECONDS)
            assert {await flow.state(id_) for id_ in messages} == {"SENDING" if is_done else "QUEUED"}
        assert caught.value.was_sent
        proxy.heal()
        await until_given_back(flow, messages)
        for message in messages:
            row = await flow.outbox(message)
            assert row is not None
            assert row["due_at"] <= await flow.pool.fetchval("select clock_timestamp()")
            assert await flow.state(message) == "QUEUED"
        sql = "select outcome::text from tollwire.attempts where message_id = any ($1)"
        rows = await flow.pool.fetch(sql, messages)
        assert [row[0] for row in rows] == ["unclaimed"] * len(messages)


async def test_what_one_half_claimed_is_given_back_when_the_other_is_not_answered(
    database: Database, nats_server: NatsServer
) -> None:
    """The caller hears of neither."""
    async with open_flow(database) as flow, open_journal(database, nats_server) as (journal, _):
        client, carrier = await made(flow, journal)
        first, second, unfit, locked = await flow.accepted(client, 4)
        work = [(first.hex, 1), (second.hex, 1), (unfit.hex, 2**31), (locked.hex, 1)]
        async with flow.pool.acquire() as other, other.transaction():
            await other.execute(HOLD, [locked])
            with pytest.raises(OutcomeUnknown):
                await journal.claim(carrier, work, DEADLINE_SECONDS)
            await until_given_back(flow, [first, second])
        await until_given_back(flow, [locked])
        assert {await flow.state(id_) for id_ in (first, second, unfit, locked)} == {"QUEUED"}


async def test_lost_calls_are_made_again_few_at_a_time(database: Database, nats_server: NatsServer) -> None:
    """Many are lost when the database has too much to do, and are not to add to it."""
    async with (
        open_flow(database) as flow,
        open_journal(database, nats_server) as (journal, _),
        open_lost_claims(database, journal) as lost_claims,
    ):
        client, carrier = await made(flow, journal)
        messages = await flow.accepted(client, 3 * ASKING_MAX)
        async with flow.pool.acquire() as other, other.transaction():
            await other.execute(HOLD, messages)
            for message in messages:
                lost_claims.add(lost(carrier, message))
            await until_waiting(flow, ASKING_MAX)
            assert max([await waiting(flow) for _ in range(200)]) == ASKING_MAX
        await until_given_back(flow, messages)


async def test_a_lost_call_that_is_not_answered_is_made_again_after_a_pause(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.store.ASK_SECONDS", 0.5)
    monkeypatch.setattr("worker.lost_claims.PAUSE_SECONDS", 0.5)
    async with (
        open_flow(database) as flow,
        open_journal(database, nats_server) as (journal, _),
        open_lost_claims(database, journal) as lost_claims,
    ):
        client, carrier = await made(flow, journal)
        (message,) = await flow.accepted(client, 1)
        async with flow.pool.acquire() as other, other.transaction():
            await other.execute(HOLD, [message])
            lost_claims.add(lost(carrier, message))
            for number in (1, 0, 1):
                await until_waiting(flow, number)
        await until_given_back(flow, [message])


async def test_a_lost_call_that_is_under_way_when_the_worker_stops_is_heard_and_recorded(
    database: Database, nats_server: NatsServer
) -> None:
    """Cut off, it might claim all the same."""
    async with open_flow(database) as flow, open_journal(database, nats_server) as (journal, _):
        client, carrier = await made(flow, journal)
        (message,) = await flow.accepted(client, 1)
        stop = asyncio.Event()

        async def ask() -> None:
            async with open_lost_claims(database, journal) as lost_claims:
                lost_claims.add(lost(carrier, message))
                await stop.wait()

        async with flow.pool.acquire() as other, other.transaction():
            await other.execute(HOLD, [message])
            asking = asyncio.create_task(ask())
            await until_waiting(flow, 1)
            stop.set()
            for _ in range(20):
                await waiting(flow)
        await asking
        assert await given_back(flow, [message]) == 1


async def test_what_is_being_given_back_when_the_worker_stops_is_recorded(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_flow(database) as flow, open_journal(database, nats_server) as (journal, _):
        client, carrier = await made(flow, journal)
        (message,) = await flow.accepted(client, 1)
        (claim,) = await journal.claim(carrier, [(message.hex, 1)], 60)
        async with open_lost_claims(database, journal) as lost_claims:
            lost_claims.give_back(carrier, [Claimed(message, claim)])
        assert await given_back(flow, [message]) == 1


@pytest.mark.parametrize(("ask_seconds", "closing_seconds"), [(1.5, 60.0), (60.0, 0.2)])
async def test_a_worker_that_stops_waits_for_no_pause_and_for_no_call_without_end(
    database: Database,
    nats_server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
    ask_seconds: float,
    closing_seconds: float,
) -> None:
    monkeypatch.setattr("worker.store.ASK_SECONDS", ask_seconds)
    monkeypatch.setattr("worker.lost_claims.PAUSE_SECONDS", 60.0)
    monkeypatch.setattr("worker.lost_claims.CLOSING_SECONDS", closing_seconds)
    async with open_flow(database) as flow, open_journal(database, nats_server) as (journal, _):
        client, carrier = await made(flow, journal)
        (message,) = await flow.accepted(client, 1)
        async with flow.pool.acquire() as other, other.transaction(), asyncio.timeout(20):
            await other.execute(HOLD, [message])
            async with open_lost_claims(database, journal) as lost_claims:
                lost_claims.add(lost(carrier, message))
                await until_waiting(flow, 1)
                if ask_seconds < closing_seconds:
                    await until_waiting(flow, 0)
