"""Receipts that fit no message: days of another system's at the same carrier cost next to nothing."""

from datetime import timedelta

import pytest

from dlr import store
from tests.integration.test_hot_plans import REMOVED, explained
from tests.support.flow import open_flow
from tests.support.servers import Database

WAITING = 400
DUE = 3
# How long a receipt of this age and so many tries waits for the next look.
WAITS = (
    (timedelta(), 0, timedelta(seconds=1)),
    (timedelta(minutes=4), 7, timedelta(seconds=128)),
    (timedelta(hours=2), 14, timedelta(minutes=15)),
    (timedelta(hours=16), 20, timedelta(hours=2)),
    (timedelta(hours=95), 60, timedelta(hours=11, minutes=52, seconds=30)),
)


async def test_what_is_due_is_found_without_reading_what_waits(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        waiting = [flow.new_receipt(carrier, f"another's {n}", "delivered") for n in range(WAITING)]
        await store.receive_batch(flow.pool, waiting)
        due = [receipt.receipt_id for receipt in waiting[::100][:DUE]]
        for n, receipt in enumerate(due):
            await flow.pool.execute(
                "update tollwire.receipts set due_at = clock_timestamp() - $2::interval where id = $1",
                receipt,
                timedelta(minutes=DUE - n),
            )
        await flow.pool.execute("analyze")
    async with explained(database) as (flow, plans):
        assert set(await store.lease_receipts(flow.pool, DUE - 1)) == set(due[:-1])
        assert await store.lease_receipts(flow.pool, DUE) == due[-1:]
        assert plans
        assert sum(int(number) for number in REMOVED.findall("\n".join(plans))) <= DUE


@pytest.mark.parametrize(("age", "tries", "wait"), WAITS, ids=str)
async def test_the_longer_a_receipt_waits_the_seldomer_it_is_looked_at(
    database: Database, age: timedelta, tries: int, wait: timedelta
) -> None:
    async with open_flow(database) as flow:
        receipt = await flow.receive(await flow.carrier(), "another's", "delivered")
        await flow.pool.execute(
            "update tollwire.receipts set received_at = clock_timestamp() - $1::interval, tries = $2",
            age,
            tries,
        )
        assert [s.outcome for s in await flow.settle([receipt])] == ["waiting"]
        row = await flow.row("select due_at - clock_timestamp() as left from tollwire.receipts")
        assert wait - timedelta(seconds=20) < row["left"] < wait + timedelta(seconds=20)
