"""What a dlr process does with receipts that it settles while it is asked to stop."""

import asyncio

from dlr.deliver import Deliver
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.settle import Settle
from embedded.nats import NatsServer
from shared.runtime.clock import open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.loops import Stop
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import open_flow
from tests.support.servers import Database

IS_DUE = "select due_at <= clock_timestamp() from tollwire.callbacks order by id desc limit 1"


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
