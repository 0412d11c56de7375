"""A settle whose answer was lost: the same call again hands on what the first one did (RULES 4)."""

import asyncio
from uuid import UUID

from dlr import store
from dlr.store import ReceivedReceipt, Settled
from shared.runtime.postgres import open_pool
from tests.support.flow import LEASE_SECONDS, Flow, PoolSettings, open_flow
from tests.support.postgres_proxy import open_proxy
from tests.support.servers import Database


async def sent(flow: Flow, *, has_endpoint: bool = True) -> tuple[UUID, ReceivedReceipt]:
    """A message that a carrier has, and the receipt that ends it."""
    carrier, client = await flow.carrier(), await flow.client()
    if has_endpoint:
        await flow.endpoint(client)
    (message_id,) = ids = await flow.accepted(client)
    (reference,) = await flow.submitted(ids, carrier)
    return message_id, flow.new_receipt(carrier, reference, "delivered")


def about(settled: Settled) -> tuple[object, ...]:
    """What is handed on: a fact, counts, and the callback."""
    told = settled.told
    return (
        settled.outcome, settled.client_id, settled.region, settled.lane, settled.carrier_id,
        settled.callback_id, told.message_id, told.state, told.final_at, told.segments, told.price_micros,
        told.currency, told.is_charged, told.message_attempts, told.error_code, told.message_created_at,
    )  # fmt: skip


async def test_a_settle_whose_answer_was_lost_hands_on_what_it_did(database: Database) -> None:
    async with (
        open_flow(database) as flow,
        open_proxy(database.dsn("postgres")) as (proxy, dsn),
        open_pool(PoolSettings(dsn, postgres_pool_max=1), application_name="tollwire-test") as pool,
    ):
        message_id, receipt = await sent(flow)
        await store.receive_batch(flow.pool, [receipt])
        await store.settle_batch(pool, [], LEASE_SECONDS)  # it is prepared on this connection
        proxy.swallow_answers()
        settling = asyncio.create_task(store.settle_batch(pool, [receipt.receipt_id], LEASE_SECONDS))
        async with asyncio.timeout(10):
            while await flow.state(message_id) != "DELIVERED":  # noqa: ASYNC110 - a database gives no event
                await asyncio.sleep(0.01)
        proxy.cut()
        proxy.heal()
        (settled,) = await settling
        assert (settled.outcome, settled.message_id, settled.state) == ("moved", message_id, "DELIVERED")
        (work,) = await store.load_callbacks(flow.pool, [settled.callback_id])  # type: ignore[list-item] # it is there
        assert (work.skip, work.event_type) == (None, "message.delivered")


async def test_what_is_told_again_is_what_was_told(database: Database) -> None:
    async with open_flow(database) as flow:
        receipts = [(await sent(flow))[1], (await sent(flow, has_endpoint=False))[1]]
        ids = [receipt.receipt_id for receipt in receipts]
        first = await store.take_receipts(flow.pool, receipts, LEASE_SECONDS)
        again = await store.settle_batch(flow.pool, ids, LEASE_SECONDS, ids)
        assert [about(settled) for settled in again] == [about(settled) for settled in first]
        # It is loaded by those who deliver it: what its endpoint says may have changed.
        assert {settled.told.event_type for settled in again} == {None}


async def test_nobody_else_is_told_again(database: Database) -> None:
    async with open_flow(database) as flow:
        (_, receipt), (_, other) = await sent(flow), await sent(flow)
        ids = [receipt.receipt_id, other.receipt_id]
        await store.take_receipts(flow.pool, [receipt, other], LEASE_SECONDS)
        again = await store.settle_batch(flow.pool, ids, LEASE_SECONDS, ids[:1])
        assert [settled.outcome for settled in again] == ["moved", "done"]


async def test_a_callback_that_somebody_has_tried_is_not_handed_on_again(database: Database) -> None:
    async with open_flow(database) as flow:
        _, receipt = await sent(flow)
        ids = [receipt.receipt_id]
        (first,) = await store.take_receipts(flow.pool, [receipt], LEASE_SECONDS)
        await flow.pool.execute("update tollwire.callbacks set attempts = 1 where id = $1", first.callback_id)
        (again,) = await store.settle_batch(flow.pool, ids, LEASE_SECONDS, ids)
        assert (again.outcome, again.callback_id) == ("moved", None)
