"""Receipts taken a second time, because the first answer was lost, beside their sweep (RULES 3, 4)."""

import asyncio

from dlr import store
from tests.support.flow import LEASE_SECONDS, open_flow
from tests.support.servers import Database

WAITING = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


async def test_a_take_that_is_made_again_holds_no_receipt_while_it_waits_for_a_message(
    database: Database,
) -> None:
    """The sweep settles the same receipt: it has the message, and wants the receipt next."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        receipt = flow.new_receipt(carrier, f"ref-{message}-1-1", "delivered")
        (early,) = await store.take_receipts(flow.pool, [receipt], LEASE_SECONDS)
        assert early.outcome == "waiting"
        await flow.submitted([message], carrier)
        async with flow.pool.acquire() as sweep, sweep.transaction():
            await sweep.execute(
                "select from tollwire.message_states where message_id = $1 for update", message
            )
            again = asyncio.ensure_future(store.take_receipts(flow.pool, [receipt], LEASE_SECONDS))
            async with asyncio.timeout(10):
                while await flow.pool.fetchval(WAITING) < 1:  # noqa: ASYNC110 - the event is the server's
                    await asyncio.sleep(0)
            await sweep.execute(
                "select from tollwire.receipts where id = $1 for update nowait", receipt.receipt_id
            )
        assert [settled.outcome for settled in await again] == ["moved"]


async def test_taking_a_receipt_again_is_a_commit_that_waits_for_the_standby(database: Database) -> None:
    async with open_flow(database) as flow:
        receipt = flow.new_receipt(await flow.carrier(), "reference", "delivered")
        columns = [list(column) for column in zip(receipt, strict=True)]
        for is_settled in (False, True):
            await flow.pool.fetch(store.TAKE, *columns, 30, LEASE_SECONDS, 0 if is_settled else 96)
        async with flow.pool.acquire() as connection, connection.transaction():
            await connection.fetch(store.TAKE, *columns, 30, LEASE_SECONDS, 96)
            assert await connection.fetchval("select pg_current_xact_id_if_assigned()::text") is not None
