"""A day whose partitions are not made is nobody's fault: calls wait for it, and no row is sorted out."""

import asyncio

import asyncpg
import pytest

from dlr import store
from ledger.days import make_days
from shared.runtime.server_calls import PartitionMissing, is_bisectable, is_retryable
from tests.support.flow import Flow, open_flow
from tests.support.old_days import drop_days, soon_given_up
from tests.support.servers import Database


async def receipt_without_a_day(flow: Flow) -> store.ReceivedReceipt:
    await drop_days(flow, "tollwire.receipts")
    return flow.new_receipt(await flow.carrier(), "reference", "delivered")


async def test_a_missing_partition_is_not_taken_for_a_violated_check(database: Database) -> None:
    async with open_flow(database) as flow:
        receipt = await receipt_without_a_day(flow)
        with pytest.raises(asyncpg.CheckViolationError) as missing:
            await flow.pool.fetch(store.RECEIVE, *[[value] for value in receipt], 30)
        with pytest.raises(asyncpg.CheckViolationError) as violated:
            await flow.carrier(rate_per_second=-1)
        with pytest.raises(asyncpg.CheckViolationError) as raised:
            await flow.pool.execute("do $$ begin raise check_violation; end $$")
    assert [is_bisectable(one.value) for one in (missing, violated, raised)] == [False, True, True]
    assert [is_retryable(one.value) for one in (missing, violated, raised)] == [True, False, False]


async def test_a_call_waits_for_its_day_and_is_answered(database: Database) -> None:
    async with open_flow(database) as flow:
        receipt = await receipt_without_a_day(flow)
        call = asyncio.ensure_future(store.receive_batch(flow.pool, [receipt]))
        await asyncio.wait([call], timeout=0.2)
        assert not call.done()
        await make_days(flow.pool)
        await call
        assert await flow.pool.fetchval("select count(*) from tollwire.receipts") == 1


async def test_where_the_day_is_not_made_in_time_nothing_was_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_given_up(monkeypatch, "dlr.store.CALL_DEADLINE_SECONDS")
    async with open_flow(database) as flow:
        receipt = await receipt_without_a_day(flow)
        with pytest.raises(PartitionMissing, match="the day's partitions are not made") as caught:
            await store.receive_batch(flow.pool, [receipt])
        assert not caught.value.was_sent
