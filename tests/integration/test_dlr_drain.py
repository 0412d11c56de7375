"""What a dlr process does with receipts that it settles while it is asked to stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from dlr import store
from dlr.deliver import Deliver
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.held import Lease
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.settle import FLUSH_MAX, Settle
from embedded.nats import NatsServer
from shared.runtime.clock import Clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.loops import Stop
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.deliveries import client_at, ended
from tests.support.flow import LEASE_SECONDS, Flow, open_flow
from tests.support.locks import BLOCKED, held
from tests.support.servers import Database

UNTOUCHED = "select count(*) from tollwire.receipts where due_at = '2026-01-01 00:00+00'"
IS_DUE = "select due_at <= clock_timestamp() from tollwire.callbacks order by id desc limit 1"
# Of the last event: that of the end, where there are others.
IS_UNTOUCHED_AND_DUE = """
    select due_at <= clock_timestamp() and not is_leased and attempts = 0 and done_at is null
    from tollwire.callbacks order by sequence desc limit 1
"""


class StopsAtFlush:
    """Who is told to stop when the first receipts are settled; nobody has an endpoint here."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def lease(self) -> Lease:
        return Lease(LEASE_SECONDS, 0.0)

    def deliver_soon(self, works: object, leased_at: float) -> None:
        self._stop.request("test")

    def load_soon(self, callback_ids: object, leased_at: float) -> None: ...


class NotesLeases:
    """Who is given callbacks: since when it is told that they are leased."""

    def __init__(self) -> None:
        self.leased_at: list[float] = []

    def lease(self) -> Lease:
        return Lease(LEASE_SECONDS, Clock().monotonic())

    def deliver_soon(self, works: object, leased_at: float) -> None:
        self.leased_at.append(leased_at)

    def load_soon(self, callback_ids: object, leased_at: float) -> None: ...


@asynccontextmanager
async def settling(
    database: Database, nats_server: NatsServer, deliver: StopsAtFlush | NotesLeases
) -> AsyncIterator[tuple[Flow, Settle]]:
    """A flow, and who settles its receipts and hands their callbacks on."""
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
        Settle(flow.pool, facts, deliver) as settle,
    ):
        yield flow, settle


async def test_a_backlog_of_receipts_is_left_to_others_after_the_stop(
    database: Database, nats_server: NatsServer
) -> None:
    stop = Stop()
    async with settling(database, nats_server, StopsAtFlush(stop)) as (flow, settle):
        carrier = await flow.carrier()
        receipts = [flow.new_receipt(carrier, f"foreign-{n}", "delivered") for n in range(2 * FLUSH_MAX)]
        await store.receive_batch(flow.pool, receipts)
        await flow.pool.execute("update tollwire.receipts set due_at = '2026-01-01 00:00+00'")

        await settle.run_sweeps(stop, interval_seconds=60)
        assert await flow.pool.fetchval(UNTOUCHED) == FLUSH_MAX

        await settle.sweep(Stop())
        assert await flow.pool.fetchval(UNTOUCHED) == 0


async def test_a_lease_counts_from_before_the_settlement_that_gave_it(
    database: Database, nats_server: NatsServer
) -> None:
    """The database counts from within it, which may take seconds: what is later here would be too late."""
    deliver = NotesLeases()
    async with settling(database, nats_server, deliver) as (flow, settle):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        (reference,) = await flow.submitted(await flow.accepted(client), carrier)
        receipt = flow.new_receipt(carrier, reference, "delivered")
        await store.receive_batch(flow.pool, [receipt])
        await settle.settle([receipt.receipt_id])
        due_at = await flow.pool.fetchval("select extract(epoch from due_at) from tollwire.callbacks")
        now = await flow.pool.fetchval("select extract(epoch from clock_timestamp())")
        ends_in = deliver.leased_at[0] + LEASE_SECONDS - Clock().monotonic()
    assert ends_in <= float(due_at - now), "it ends here no later than in the database"


@asynccontextmanager
async def open_dlr(
    database: Database, nats_server: NatsServer
) -> AsyncIterator[tuple[Flow, Deliver, Settle]]:
    """What settles and delivers, with endpoints of which it knows nothing yet."""
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
        yield flow, deliver, settle


async def stop(deliver: Deliver) -> None:
    asked = Stop()
    asked.request("test")
    await deliver.stop_with(asked)


async def stop_while_blocked(
    database: Database, flow: Flow, deliver: Deliver, work: Awaitable[object]
) -> None:
    """Stop it while something of it waits for the database; it has ended when this returns."""
    async with held(database, "lock table tollwire.callbacks in share row exclusive mode"):
        task = asyncio.ensure_future(work)
        async with asyncio.timeout(10):
            while not await flow.pool.fetchval(BLOCKED):  # noqa: ASYNC110 - a database gives no event
                await asyncio.sleep(0.01)
        await stop(deliver)
    await task


async def until_untouched_and_due(flow: Flow) -> None:
    async with asyncio.timeout(10):
        while not await flow.pool.fetchval(IS_UNTOUCHED_AND_DUE):  # noqa: ASYNC110 - a database gives no event
            await asyncio.sleep(0.01)


async def submitted(flow: Flow) -> tuple[int, str]:
    """A message of a client with an endpoint: its carrier, and its name there."""
    carrier, client = await flow.carrier(), await flow.client()
    await flow.endpoint(client)
    (reference,) = await flow.submitted(await flow.accepted(client), carrier)
    return carrier, reference


async def test_a_callback_made_after_the_stop_is_due_at_once_for_another_process(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_dlr(database, nats_server) as (flow, deliver, settle):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        first, second = await flow.submitted(await flow.accepted(client, 2), carrier)
        await settle.settle([await flow.receive(carrier, first, "delivered")])
        assert not await flow.pool.fetchval(IS_DUE)
        await stop(deliver)
        await settle.settle([await flow.receive(carrier, second, "delivered")])
        assert await flow.pool.fetchval(IS_DUE)


async def test_a_callback_that_another_process_took_after_the_stop_stays_its_own(
    database: Database, nats_server: NatsServer
) -> None:
    """Not even a note of the process that made it says anything of it."""
    async with open_dlr(database, nats_server) as (flow, deliver, settle):
        carrier, reference = await submitted(flow)
        await stop(deliver)
        await settle.settle([await flow.receive(carrier, reference, "delivered")])
        assert await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        await deliver.__aexit__()
        assert not await flow.pool.fetchval(IS_DUE)


async def test_a_callback_that_is_being_made_when_the_stop_comes_is_due_at_once(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_dlr(database, nats_server) as (flow, deliver, settle):
        carrier, reference = await submitted(flow)
        receipt = await flow.receive(carrier, reference, "delivered")
        await stop_while_blocked(database, flow, deliver, settle.settle([receipt]))
        await until_untouched_and_due(flow)


async def test_a_callback_that_is_being_swept_when_the_stop_comes_is_due_at_once(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_dlr(database, nats_server) as (flow, deliver, _):
        await ended(flow, await client_at(flow, "https://client.example.org/"), None)
        await flow.pool.execute("update tollwire.callbacks set due_at = clock_timestamp()")
        await stop_while_blocked(database, flow, deliver, deliver.sweep())
        await until_untouched_and_due(flow)


async def test_an_end_that_waits_for_the_submit_when_the_stop_comes_is_due_at_once(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_dlr(database, nats_server) as (flow, deliver, _):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client, events=["message.sent", "message.delivered"])
        (reference,) = await flow.submitted(await flow.accepted(client), carrier)
        assert await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        settled = await flow.receipt(carrier, reference, "delivered")
        assert settled.told.skip == "behind"
        deliver.deliver_soon([settled.told])
        await asyncio.sleep(0)  # it waits now
        await stop(deliver)
        await until_untouched_and_due(flow)
