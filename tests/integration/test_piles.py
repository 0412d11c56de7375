"""What a sweep takes of an endpoint's pile: what the endpoint has places for."""

import asyncio

from dlr.piles import SWEEP_FIRST, SWEEP_MAX
from tests.support.deliveries import client_at, open_deliver
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint, says
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

PILE = 3 * SWEEP_FIRST
DUE = "update tollwire.callbacks set due_at = clock_timestamp()"
DONE = "select count(*) from tollwire.callbacks where done_at is not null"
NO_MESSAGE = """
    insert into tollwire.callbacks
        (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at)
    select tollwire.callback_id_v1(clock_timestamp(), gen_random_uuid(), 1::smallint), gen_random_uuid(),
           e.client_id, e.id, 'message.delivered', 1, clock_timestamp(), clock_timestamp()
    from unnest($1::bigint[]) x(id) join tollwire.callback_endpoints e using (id)
    cross join generate_series(1, $2)
"""
SENT_BACK = """
    select count(*) from tollwire.callbacks
    where attempts = 0 and done_at is null and due_at between $1::timestamptz and $1 + interval '50 seconds'
"""
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


async def test_what_finds_no_connection_free_comes_again_soon_and_was_not_tried(database: Database) -> None:
    released = asyncio.Event()

    async def silence(_: Request, reply: Reply) -> None:
        await released.wait()
        await reply.send(answer(503))

    async with open_flow(database) as flow, endpoint(silence) as one, endpoint(silence) as other:
        await pile(flow, one)
        await pile(flow, other)
        now = await flow.pool.fetchval("select clock_timestamp()")
        async with open_deliver(flow, connections_max=1) as deliver:
            await deliver.sweep()
            async with asyncio.timeout(10):
                while await flow.pool.fetchval(SENT_BACK, now) < SWEEP_FIRST:  # noqa: ASYNC110 - unheard
                    await asyncio.sleep(0.02)
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


async def test_large_piles_hide_nobody_behind_them(database: Database) -> None:
    """As many as a sweep takes have more than their share of it; the last is told in the next sweep."""
    database.is_corrupted_on_purpose()  # these events have no message: they are discarded once they are read
    async with open_flow(database) as flow:
        endpoints = [await flow.endpoint(await flow.client()) for _ in range(SWEEP_MAX // SWEEP_FIRST + 1)]
        await flow.pool.execute(NO_MESSAGE, endpoints, PILE)
        of_the_last = f"{DONE} and endpoint_id = {endpoints[-1]}"
        async with open_deliver(flow) as deliver:
            for asked, number in ((DONE, SWEEP_MAX), (of_the_last, SWEEP_FIRST)):
                assert await flow.pool.fetchval(of_the_last) == 0
                await deliver.sweep()
                async with asyncio.timeout(20):
                    while await flow.pool.fetchval(asked) < number:  # noqa: ASYNC110 - unheard
                        await asyncio.sleep(0.02)
