"""A client may replay a callback as long as it is kept, and the sweep finds it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api import callback_reads
from api.callback_reads import ReplayWish
from dlr import store
from tests.integration.test_hot_plans import explained
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, delivered_on, told
from tests.support.servers import Database

LONG_AGO = 80
LEASE_SECONDS = 60


async def old_callback(flow: Flow, outcome: str) -> tuple[int, UUID]:
    """A client, and its callback of long ago that ended so."""
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    await told(flow, await delivered_on(flow, days_ago(LONG_AGO), client, carrier))
    sql = "update tollwire.callbacks set outcome = $2 where client_id = $1 returning id"
    return client, await flow.pool.fetchval(sql, client, outcome)


@pytest.mark.parametrize(
    ("outcome", "is_named"), [("delivered", True), ("gave_up", True), ("gave_up", False)]
)
async def test_what_a_client_replays_is_sent_however_old_it_is(
    database: Database, outcome: str, is_named: bool
) -> None:
    async with open_flow(database) as flow:
        client, callback = await old_callback(flow, outcome)
        assert await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS) == []
        since = datetime.now(UTC) - timedelta(days=LONG_AGO + 2)
        wish = ReplayWish([callback], None, None) if is_named else ReplayWish(None, since, None)
        async with flow.pool.acquire() as conn:
            assert await callback_reads.replay_callbacks(conn, client, wish) == (1, None)
        ((leased, _),) = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        (work,) = await store.load_callbacks(flow.pool, [leased])
        assert (work.callback_id, work.skip) == (callback, None)


async def test_a_sweep_looks_once_for_what_is_old_and_not_for_each_endpoint(database: Database) -> None:
    async with open_flow(database) as flow:
        client, _ = await old_callback(flow, "delivered")
        clients = [client] * 2
        for _ in range(2):
            clients.append(await flow.client())
            await flow.endpoint(clients[-1])
        carrier = await flow.carrier()
        for one in clients[1:]:
            for reference in await flow.submitted(await flow.accepted(one), carrier):
                await flow.receipt(carrier, reference, "delivered")
        await flow.pool.execute(
            "update tollwire.callbacks set due_at = clock_timestamp() where done_at is null"
        )
    async with explained(database) as (flow, plans):
        assert len(await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)) == 3
        old = f"on callbacks_{days_ago(LONG_AGO):%Y%m%d}"
        reads = [line for plan in plans for line in plan.splitlines() if old in line and "never" not in line]
        assert reads
        assert all("loops=1)" in line for line in reads)
        assert "endpoint_id_due_at" in "".join(reads), "the index of what is open, which has nothing there"
