"""What waits for its endpoint's turn goes by what is so when the turn comes, not by what was so before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dlr.breaker import FAILURES_TO_OPEN, OPEN_SECONDS_MIN
from dlr.deliver import CROWDED_SECONDS, Deliver
from dlr.held import RESERVE
from dlr.piles import SWEEP_FIRST
from dlr.store import CallbackWork
from dlr.turns import Limits
from shared.domain.signatures import new_secret, parse_secret, sign
from shared.runtime.loops import Stop
from shared.storage.audit import Actor
from shared.storage.callback_endpoints import EndpointSettings, put_endpoint
from tests.support.deliveries import add_secret, client_at, ended, inform, open_deliver, tried
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint, says
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

EVENTS = ["message.delivered"]
ALLOW = "update tollwire.clients set allowed_callback_hosts = $2 where id = $1"
ENDPOINT = "select id from tollwire.callback_endpoints where client_id = $1"
WAITING = """
    select attempts, outcome, due_at <= clock_timestamp() + interval '2 s' as is_due
    from tollwire.callbacks where id = $1
"""
SOON = """
    select count(*) from tollwire.callbacks
    where id = any ($1) and attempts = 0 and done_at is null and not is_leased
      and due_at <= clock_timestamp() + $2 * interval '1 second'
"""
DUE = "update tollwire.callbacks set due_at = clock_timestamp() where id = any ($1)"


class Gate:
    """An endpoint that answers nobody before it is opened."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.is_open = asyncio.Event()

    async def __call__(self, _: Request, reply: Reply) -> None:
        self.is_reached.set()
        await self.is_open.wait()
        await reply.send(answer(200))


@asynccontextmanager
async def one_waits(
    flow: Flow, deliver: Deliver, gate: Gate, works: list[CallbackWork]
) -> AsyncIterator[None]:
    """The first is on its way and the second waits for the turn; when the block ends, the turn comes."""
    deliver.deliver_soon(works)
    await gate.is_reached.wait()
    yield
    await inform(flow, deliver)
    gate.is_open.set()
    assert await tried(flow, [works[0].callback_id]) == ["delivered"]


async def noted(flow: Flow, callback_id: object) -> tuple[int, str | None, bool]:
    """Wait until it is done or due again."""
    async with asyncio.timeout(10):
        while True:
            row = await flow.row(WAITING, callback_id)
            if row["outcome"] or row["is_due"]:
                return row["attempts"], row["outcome"], row["is_due"]
            await asyncio.sleep(0.02)


def is_signed_by(server: Endpoint, number: int, secret: str) -> bool:
    """Whether this request is signed by this secret and no other."""
    request = server.requests[number]
    sent = request.headers
    signed = sign(parse_secret(secret), sent["webhook-id"], int(sent["webhook-timestamp"]), request.body)
    return sent["webhook-signature"] == signed


async def test_what_waits_for_a_turn_goes_to_where_its_endpoint_was_moved(database: Database) -> None:
    gate = Gate()
    async with open_flow(database) as flow, endpoint(gate) as old, endpoint(says(answer(200))) as new:
        client = await client_at(flow, old.url())
        works = await ended(flow, client, None, 2)
        waiting = works[1].callback_id
        async with open_deliver(flow, polls=False) as deliver:
            async with one_waits(flow, deliver, gate, works), flow.pool.acquire() as connection:
                await put_endpoint(
                    connection, client, EndpointSettings(new.url(), EVENTS, False), Actor("client")
                )
            assert await noted(flow, waiting) == (0, None, True)
            await flow.pool.execute(DUE, [waiting])
            await deliver.sweep()
            assert await tried(flow, [waiting]) == ["delivered"]
        assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_what_waits_for_a_turn_is_signed_with_the_secret_of_then(database: Database) -> None:
    gate, rotated = Gate(), new_secret(bytes(range(32)))
    async with open_flow(database) as flow, endpoint(gate) as server:
        client = await client_at(flow, server.url())
        works = await ended(flow, client, None, 2)
        async with open_deliver(flow, polls=False) as deliver:
            async with one_waits(flow, deliver, gate, works):
                await flow.pool.execute("delete from tollwire.callback_secrets")
                await add_secret(flow, await flow.pool.fetchval(ENDPOINT, client), rotated)
            assert await tried(flow, [works[1].callback_id]) == ["delivered"]
        assert not is_signed_by(server, 0, rotated)
        assert is_signed_by(server, 1, rotated)


async def test_a_host_that_is_taken_off_while_a_callback_waits_for_it_is_not_called(
    database: Database,
) -> None:
    gate = Gate()
    async with open_flow(database) as flow, endpoint(gate) as server:
        client = await client_at(flow, "https://elsewhere.example.org/")
        await flow.pool.execute(ALLOW, client, ["127.0.0.1"])
        works = await ended(flow, client, server.url(), 2)
        async with open_deliver(flow, polls=False) as deliver:
            async with one_waits(flow, deliver, gate, works):
                await flow.pool.execute(ALLOW, client, [])
            assert (await noted(flow, works[1].callback_id))[:2] == (1, "gave_up")
        assert len(server.requests) == 1


async def due_within(
    flow: Flow, works: list[CallbackWork], seconds: float, number: int | None = None
) -> None:
    """Wait until these are due so soon, or some of them, and as they were."""
    ids, enough = [work.callback_id for work in works], len(works) if number is None else number
    async with asyncio.timeout(10):
        while await flow.pool.fetchval(SOON, ids, seconds) < enough:  # noqa: ASYNC110 - a database gives no event
            await asyncio.sleep(0.02)


async def test_what_waits_is_due_at_once_when_its_process_stops(database: Database) -> None:
    gate, stop = Gate(), Stop()
    async with open_flow(database) as flow, endpoint(gate) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, 5)
        async with open_deliver(flow, polls=False) as deliver:
            deliver.deliver_soon(works)
            await gate.is_reached.wait()
            stop.request("the test says so")
            await deliver.stop_with(stop)
            await due_within(flow, works[1:], 0.0)
            gate.is_open.set()
        assert len(server.requests) == 1


async def test_what_waits_is_due_when_its_endpoint_may_be_asked_again(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(says(answer(500))) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, 2 * FAILURES_TO_OPEN)
        async with open_deliver(flow, polls=False) as deliver:
            deliver.deliver_soon(works)
            await due_within(flow, works[FAILURES_TO_OPEN:], OPEN_SECONDS_MIN)
        assert len(server.requests) == FAILURES_TO_OPEN


async def test_what_finds_too_many_waiting_for_its_endpoint_is_due_again_soon(database: Database) -> None:
    gate = Gate()
    async with open_flow(database) as flow, endpoint(gate) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, 6)
        async with open_deliver(flow, limits=Limits(waiting_max=2)) as deliver:
            deliver.deliver_soon(works)
            await gate.is_reached.wait()
            await due_within(flow, works[3:], CROWDED_SECONDS)
            gate.is_open.set()
            await swept_to_the_end(flow, deliver, works)
        assert len(server.requests) == len(works)


async def test_what_finds_the_memory_full_of_its_endpoint_is_due_again_soon(database: Database) -> None:
    gate = Gate()
    async with open_flow(database) as flow, endpoint(gate) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, 15)
        async with open_deliver(flow, held_max=20) as deliver:
            deliver.deliver_soon(works)
            await gate.is_reached.wait()
            await due_within(flow, works[10:], CROWDED_SECONDS)
            gate.is_open.set()
            await swept_to_the_end(flow, deliver, works)
        assert len(server.requests) == len(works)


async def test_what_was_swept_and_finds_the_memory_full_is_due_again_soon(database: Database) -> None:
    gate = Gate()
    async with open_flow(database) as flow, endpoint(gate) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, SWEEP_FIRST)
        async with open_deliver(flow, held_max=SWEEP_FIRST) as deliver:
            await flow.pool.execute(DUE, [work.callback_id for work in works])
            await deliver.sweep()
            await gate.is_reached.wait()
            await due_within(flow, works, CROWDED_SECONDS, number=SWEEP_FIRST // 2 - SWEEP_FIRST // RESERVE)
            gate.is_open.set()
            await flow.pool.execute(DUE, [work.callback_id for work in works])  # a reserve kept its lease
            await swept_to_the_end(flow, deliver, works)
        assert len(server.requests) == len(works)


async def swept_to_the_end(flow: Flow, deliver: Deliver, works: list[CallbackWork]) -> None:
    """Sweep until each was tried, in a fraction of a lease."""
    tries = asyncio.create_task(tried(flow, [work.callback_id for work in works]))
    while not tries.done():
        await deliver.sweep()
        await asyncio.sleep(0.1)
    assert set(await tries) == {"delivered"}
