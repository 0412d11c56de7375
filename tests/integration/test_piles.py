"""What a sweep takes of an endpoint's pile: what the endpoint has places for."""

import asyncio

from dlr.deliver import SWEEP_FIRST
from tests.support.deliveries import client_at, open_deliver
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint, says
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

PILE = 3 * SWEEP_FIRST
DUE = "update tollwire.callbacks set due_at = clock_timestamp()"
LEASED = "select count(*) from tollwire.callbacks where due_at > clock_timestamp()"


async def pile(flow: Flow, server: Endpoint) -> None:
    """Events of a client that are due, and nobody has tried yet."""
    carrier, client = await flow.carrier(), await client_at(flow, server.url())
    receipts = [
        await flow.receive(carrier, reference, "delivered")
        for reference in await flow.submitted(await flow.accepted(client, PILE), carrier)
    ]
    await flow.settle(receipts)
    await flow.pool.execute(DUE)


async def arrived(server: Endpoint, number: int) -> None:
    async with asyncio.timeout(10):
        while len(server.requests) < number:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_an_endpoint_that_never_answers_is_brought_few(database: Database) -> None:
    released = asyncio.Event()

    async def silence(_: Request, reply: Reply) -> None:
        await released.wait()
        await reply.send(answer(503))

    async with open_flow(database) as flow, endpoint(silence) as server:
        await pile(flow, server)
        async with open_deliver(flow) as deliver:
            for _ in range(3):
                await deliver.sweep()
                await arrived(server, 1)
            assert SWEEP_FIRST <= await flow.pool.fetchval(LEASED) < 2 * SWEEP_FIRST
            released.set()


async def test_an_endpoint_that_answers_is_brought_all(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(says(answer())) as server:
        await pile(flow, server)
        async with open_deliver(flow) as deliver:
            await deliver.sweep()
            await arrived(server, SWEEP_FIRST)
            assert len(server.requests) == SWEEP_FIRST
            async with asyncio.timeout(10):
                while len(server.requests) < PILE:
                    await deliver.sweep()
