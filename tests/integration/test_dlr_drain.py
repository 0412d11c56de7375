"""What a dlr process does with receipts that it settles while it is asked to stop."""

import asyncio

from dlr import store
from dlr.deliver import Deliver
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.settle import FLUSH_MAX, Settle
from embedded.nats import NatsServer
from shared.runtime.clock import open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.loops import Stop
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import open_flow
from tests.support.servers import Database

UNTOUCHED = "select count(*) from tollwire.receipts where due_at = '2026-01-01 00:00+00'"
IS_DUE = "select due_at <= clock_timestamp() from tollwire.callbacks order by id desc limit 1"


class StopsAtFlush:
    """Who is told to stop when the first receipts are settled; nobody has an endpoint here."""

    lease_seconds = 0

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def deliver_soon(self, works: object) -> None:
        self._stop.request("test")

    def load_soon(self, callback_ids: object) -> None: ...


async def test_a_backlog_of_receipts_is_left_to_others_after_the_stop(
    database: Database, nats_server: NatsServer
) -> None:
    stop = Stop()
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
        Settle(flow.pool, facts, StopsAtFlush(stop)) as settle,
    ):
        carrier = await flow.carrier()
        receipts = [flow.new_receipt(carrier, f"foreign-{n}", "delivered") for n in range(2 * FLUSH_MAX)]
        await store.receive_batch(flow.pool, receipts)
        await flow.pool.execute("update tollwire.receipts set due_at = '2026-01-01 00:00+00'")

        await settle.run_sweeps(stop, interval_seconds=60)
        assert await flow.pool.fetchval(UNTOUCHED) == FLUSH_MAX

        await settle.sweep(Stop())
        assert await flow.pool.fetchval(UNTOUCHED) == 0


async def test_a_callback_made_after_the_stop_is_due_at_once_for_another_process(
    database: Database, nats_server: NatsServer
) -> None:
    async with (
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
        CallbackPoster(CallbackSettings(callback_allow_private=True)) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock) as deliver,
        Settle(flow.pool, facts, deliver) as settle,
    ):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        first, second = await flow.submitted(await flow.accepted(client, 2), carrier)
        await settle.settle([await flow.receive(carrier, first, "delivered")])
        assert not await flow.pool.fetchval(IS_DUE)
        stop = Stop()
        stopping = asyncio.create_task(deliver.stop_with(stop))
        stop.request("test")
        await stopping
        await settle.settle([await flow.receive(carrier, second, "delivered")])
        assert await flow.pool.fetchval(IS_DUE)
