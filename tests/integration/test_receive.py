"""Receipts are kept whatever stands in the way of settling them, and soon settled when it is gone."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from dlr import store as dlr_store
from dlr.deliver import Deliver
from dlr.endpoint_book import EndpointBook
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.receive import FLUSH_MAX, NotKept, Receive
from dlr.settle import Settle
from dlr.store import ReceivedReceipt
from embedded.nats import NatsServer
from shared.runtime.clock import Clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import LEASE_SECONDS, Flow, open_flow
from tests.support.servers import Database

KEYRING = Keyring("k1", {"k1": bytes(32)})
STATE = "select state from tollwire.message_states where message_id = $1"
# The endpoint has no secret, so that no post is made; that is noted as a try.
IS_TRIED = "select attempts = 1 from tollwire.callbacks where id = $1"
KEPT = "select count(*) from tollwire.receipts where settled_at is null"


@asynccontextmanager
async def open_settle(database: Database, nats: NatsServer) -> AsyncIterator[tuple[Flow, Settle, Clock]]:
    async with (
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        open_jetstream(NatsAccess(nats_url=nats.url, nats_token=nats.token)) as jetstream,
        FactPublisher(jetstream) as facts,
        CallbackPoster(CallbackSettings(callback_allow_private=True)) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock) as deliver,
        Settle(flow.pool, facts, deliver) as settle,
    ):
        deliver.apply(EndpointBook({}, KEYRING), math.inf)
        yield flow, settle, clock


@asynccontextmanager
async def open_receive(database: Database, nats: NatsServer) -> AsyncIterator[tuple[Flow, Receive]]:
    async with (
        open_settle(database, nats) as (flow, settle, clock),
        Receive(flow.pool, settle, KEYRING, clock) as receive,
    ):
        yield flow, receive


async def until_state(flow: Flow, message_id: UUID, state: str) -> None:
    async with asyncio.timeout(10):
        while await flow.pool.fetchval(STATE, message_id) != state:  # noqa: ASYNC110 - a database gives no event
            await asyncio.sleep(0.02)


async def test_a_receipt_is_settled_when_the_carrier_hears_received(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier, client = await flow.carrier(), await flow.client()
        (message_id,) = ids = await flow.accepted(client)
        (reference,) = await flow.submitted(ids, carrier)
        await receive.take([flow.new_receipt(carrier, reference, "delivered")])
        assert await flow.state(message_id) == "DELIVERED"


async def test_a_receipt_is_kept_while_its_account_is_locked_and_settled_afterwards(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier, client = await flow.carrier(), await flow.client()
        (message_id,) = ids = await flow.accepted(client)
        (reference,) = await flow.submitted(ids, carrier)
        async with flow.pool.acquire() as connection, connection.transaction():
            await connection.execute("select from ledger.accounts where id = $1 for update", client)
            await receive.take([flow.new_receipt(carrier, reference, "delivered")])
            assert await flow.pool.fetchval(KEPT) == 1
        await until_state(flow, message_id, "DELIVERED")
        assert await flow.pool.fetchval(KEPT) == 0


async def test_a_receipt_that_overtakes_our_own_note_of_its_submit_is_settled_at_once(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier, client = await flow.carrier(), await flow.client()
        (message_id,) = ids = await flow.accepted(client)
        await receive.take([flow.new_receipt(carrier, f"ref-{message_id}-1-1", "delivered")])
        assert await flow.state(message_id) == "QUEUED"
        await flow.submitted(ids, carrier)
        # Nobody sweeps in this test: it is the same process that looks again.
        await until_state(flow, message_id, "DELIVERED")


async def test_a_callback_whose_settle_was_not_heard_does_not_wait_for_its_lease(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_settle(database, nats_server) as (flow, settle, _):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        (reference,) = await flow.submitted(await flow.accepted(client), carrier)
        receipt = flow.new_receipt(carrier, reference, "delivered")
        (unheard,) = await dlr_store.take_receipts(flow.pool, [receipt], LEASE_SECONDS)
        settle.settle_soon([receipt.receipt_id], is_doubtful=True)
        async with asyncio.timeout(10):
            while not await flow.pool.fetchval(IS_TRIED, unheard.callback_id):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)


async def test_keeping_a_receipt_again_is_a_commit_that_waits_for_the_standby(database: Database) -> None:
    async with open_flow(database) as flow:
        receipt = flow.new_receipt(await flow.carrier(), "reference", "delivered")
        columns = [list(column) for column in zip(receipt, strict=True)]
        await flow.pool.fetch(dlr_store.RECEIVE, *columns, 30)
        async with flow.pool.acquire() as connection, connection.transaction():
            await connection.fetch(dlr_store.RECEIVE, *columns, 30)
            # Without one it would be answered at once, though the first call's may be on the primary alone.
            assert await connection.fetchval("select pg_current_xact_id_if_assigned()::text") is not None


# Receipts with these references stand for what a server refuses: a row's own fault, and one that is nobody's.
REFUSING = """
    create function public.refuse() returns trigger language plpgsql as $$ begin
        case new.reference when 'poison' then raise check_violation;
            when 'broken' then raise internal_error; else return new; end case;
    end $$;
    create trigger refuse before insert on tollwire.receipts for each row execute function public.refuse();
"""
IDS = "select count(*) from tollwire.receipts where id = any ($1)"


async def kept(flow: Flow, posts: Sequence[Sequence[ReceivedReceipt]]) -> list[int]:
    """How many receipts of each POST are kept."""
    return [await flow.pool.fetchval(IDS, [row.receipt_id for row in post]) for post in posts]


def post(flow: Flow, carrier: int, *references: str) -> list[ReceivedReceipt]:
    return [flow.new_receipt(carrier, reference, "delivered") for reference in references]


async def test_a_receipt_that_cannot_be_kept_costs_only_itself(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier = await flow.carrier()
        await flow.pool.execute(REFUSING)
        posts = [
            post(flow, carrier, "a", "b"),
            post(flow, carrier, "c", "poison", "d", "e"),
            post(flow, carrier, "f"),
        ]
        answers = await asyncio.gather(*map(receive.keep, posts), return_exceptions=True)
        assert await kept(flow, posts) == [2, 3, 1]
        assert [type(answer) for answer in answers] == [type(None), NotKept, type(None)]
        assert str(answers[1]) == "1 of 4 receipts cannot be kept; the others are"


async def test_what_is_kept_is_not_refused_for_the_fault_of_another_flush(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier = await flow.carrier()
        await flow.pool.execute(REFUSING)
        # Together they are two transactions.
        posts = [post(flow, carrier, *["a"] * FLUSH_MAX), post(flow, carrier, "broken")]
        answers = await asyncio.gather(*map(receive.keep, posts), return_exceptions=True)
        assert await kept(flow, posts) == [FLUSH_MAX, 0]
        assert answers[0] is None
        assert isinstance(answers[1], asyncpg.InternalServerError)


async def test_a_post_without_receipts_sets_nobody_apart(database: Database, nats_server: NatsServer) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier, client = await flow.carrier(), await flow.client()
        (message_id,) = ids = await flow.accepted(client)
        (reference,) = await flow.submitted(ids, carrier)
        await receive.keep([])
        await receive.take(post(flow, carrier, reference))
        assert await flow.state(message_id) == "DELIVERED"


async def test_a_fault_of_one_receipt_does_not_set_the_others_apart(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_receive(database, nats_server) as (flow, receive):
        carrier, client = await flow.carrier(), await flow.client()
        (message_id,) = ids = await flow.accepted(client)
        (reference,) = await flow.submitted(ids, carrier)
        await flow.pool.execute(REFUSING)
        with pytest.raises(NotKept):
            await receive.keep(post(flow, carrier, "poison"))
        await receive.take(post(flow, carrier, reference))
        assert await flow.state(message_id) == "DELIVERED"
