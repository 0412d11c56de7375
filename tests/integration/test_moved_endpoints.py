"""An endpoint is moved, a host registered, a secret made: what dlr has not heard yet ends no callback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from dlr import store
from dlr.deliver import Deliver
from dlr.store import CallbackWork
from shared.domain.retry import CALLBACK_ATTEMPTS_MAX
from shared.domain.signatures import new_secret, parse_secret, sign
from shared.storage.audit import Actor
from shared.storage.callback_endpoints import EndpointSettings, put_endpoint
from tests.support.deliveries import (
    OUTCOMES,
    POLL_SECONDS,
    add_secret,
    by_its_path,
    client_at,
    ended,
    inform,
    open_deliver,
    told,
    tried,
)
from tests.support.endpoints import endpoint
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

OLD_URL = "https://old.example.org/hook"
EVENTS = ["message.delivered", "message.undelivered"]
LONG = timedelta(minutes=1)
AGE = """
    update tollwire.callbacks
    set created_at = created_at - $1::interval, due_at = clock_timestamp(), attempts = 2
"""
DUE = "update tollwire.callbacks set due_at = clock_timestamp() where done_at is null and attempts > 0"
COUNT_TOLD = "select count(*) from tollwire.callbacks where outcome = 'delivered'"
ALLOW = "update tollwire.clients set allowed_callback_hosts = $2 where id = $1"
ENDPOINT = "select id from tollwire.callback_endpoints where client_id = $1"
HEALTH = "select disabled_at, disabled_reason from tollwire.callback_health"
TRIES = """
    select c.attempts, a.error from tollwire.callbacks c
    left join tollwire.callback_attempts a on a.callback_id = c.id
"""


async def move(flow: Flow, client: int, url: str) -> None:
    """The client sets its endpoint anew."""
    async with flow.pool.acquire() as connection:
        await put_endpoint(connection, client, EndpointSettings(url, EVENTS, False), Actor("client"))


def old(works: list[CallbackWork]) -> list[CallbackWork]:
    """The same of events of long ago."""
    return [work._replace(created_at=work.created_at - LONG) for work in works]


@asynccontextmanager
async def polled_from_now_on(flow: Flow, deliver: Deliver) -> AsyncIterator[None]:
    """What a process knows is brought up to date again and again."""

    async def poll() -> None:
        while not is_over.is_set():
            await inform(flow, deliver)
            await asyncio.sleep(POLL_SECONDS)

    is_over = asyncio.Event()
    polling = asyncio.create_task(poll())
    try:
        yield
    finally:
        is_over.set()
        await polling


async def test_what_waits_for_an_endpoint_goes_to_where_it_was_moved(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, OLD_URL)
        waiting = [work.callback_id for work in await ended(flow, client, None, 5)]
        await flow.pool.execute(AGE, LONG)
        async with open_deliver(flow, polls=False) as deliver:
            await move(flow, client, server.url(target="/200"))
            await deliver.sweep()
            assert await tried(flow, waiting) == ["delivered"] * 5
        assert len(server.requests) == 5


async def test_what_ends_after_the_move_is_told_at_the_new_url_at_once(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, OLD_URL)
        async with open_deliver(flow, polls=False) as deliver:
            await move(flow, client, server.url(target="/200"))
            works = await ended(flow, client, None)
            assert [(work.url, work.is_own_url) for work in works] == [(server.url(target="/200"), False)]
            assert await told(flow, deliver, works) == ["delivered"]


async def test_a_410_of_the_new_url_switches_the_endpoint_off(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/200"))
        async with open_deliver(flow, polls=False) as deliver:
            await move(flow, client, server.url(target="/410"))
            async with polled_from_now_on(flow, deliver):
                assert await told(flow, deliver, await ended(flow, client, None)) == ["discarded"]


async def test_a_410_of_the_url_that_the_endpoint_has_left_is_not_its_fault(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        left = server.url(target="/410")
        client = await client_at(flow, left)
        async with open_deliver(flow, polls=False) as deliver:
            await move(flow, client, server.url(target="/200"))
            works = await ended(flow, client, left)
            assert [work.is_own_url for work in works] == [True]
            assert await told(flow, deliver, works) == ["gave_up"]
            assert await told(flow, deliver, await ended(flow, client, None)) == ["delivered"]
        assert not [row for row in await flow.pool.fetch(HEALTH) if row["disabled_at"]]


async def test_a_410_of_the_old_url_that_comes_after_the_move_leaves_the_endpoint_on(
    database: Database,
) -> None:
    """A client moves because the old URL is gone, and says so there: what was on its way meets it."""
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/410"))
        async with open_deliver(flow) as deliver:
            on_their_way = await ended(flow, client, None)
            await move(flow, client, server.url(target="/200"))
            deliver.deliver_soon(on_their_way)
            async with asyncio.timeout(30):  # its breaker is open for 5 s
                while await flow.pool.fetchval(COUNT_TOLD) == 0:
                    await flow.pool.execute(DUE)
                    await deliver.sweep()
                    await asyncio.sleep(0.1)
        assert not [row for row in await flow.pool.fetch(HEALTH) if row["disabled_at"]]


async def test_a_replay_to_a_host_that_was_registered_a_moment_ago_is_told(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, "https://elsewhere.example.org/")
        works = old(await ended(flow, client, server.url(target="/200")))
        async with open_deliver(flow, polls=False) as deliver:
            await flow.pool.execute(ALLOW, client, ["127.0.0.1"])
            deliver.deliver_soon(works)
            async with polled_from_now_on(flow, deliver):
                assert await tried(flow, [work.callback_id for work in works]) == ["delivered"]


async def test_a_secret_that_was_made_a_moment_ago_signs(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await flow.client()
        endpoint_id = await flow.endpoint(client, url=server.url(target="/200"))
        works = old(await ended(flow, client, None))
        async with open_deliver(flow, polls=False) as deliver:
            await add_secret(flow, endpoint_id, new_secret(bytes(24)))
            deliver.deliver_soon(works)
            async with polled_from_now_on(flow, deliver):
                assert await tried(flow, [work.callback_id for work in works]) == ["delivered"]
        assert [tuple(row) for row in await flow.pool.fetch(TRIES)] == [(1, None)]


async def test_what_has_no_secret_is_noted_and_not_ended(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await flow.client()
        await flow.endpoint(client, url=server.url(target="/200"))
        (work,) = await ended(flow, client, None)
        async with open_deliver(flow) as deliver:
            deliver.deliver_soon([work])
            async with asyncio.timeout(10):
                while (await flow.row(TRIES))["error"] is None:  # noqa: ASYNC110 - a database gives no event
                    await asyncio.sleep(0.02)
        assert tuple(await flow.row(TRIES)) == (1, "no_secret")
        assert [row[0] for row in await flow.pool.fetch(OUTCOMES, [work.callback_id])] == [None]


async def test_a_last_try_is_signed_with_the_secret_of_now(database: Database) -> None:
    """A client rotates its secret at once, since it is lost or known to others, and replays."""
    rotated = new_secret(bytes(range(32)))
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/200"))
        works = [work._replace(attempts=CALLBACK_ATTEMPTS_MAX) for work in await ended(flow, client, None)]
        async with open_deliver(flow, polls=False) as deliver:
            await flow.pool.execute("delete from tollwire.callback_secrets")
            await add_secret(flow, await flow.pool.fetchval(ENDPOINT, client), rotated)
            deliver.deliver_soon(works)
            async with polled_from_now_on(flow, deliver):
                assert await tried(flow, [work.callback_id for work in works]) == ["delivered"]
        (request,) = server.requests
        sent = request.headers
        signed = sign(parse_secret(rotated), sent["webhook-id"], int(sent["webhook-timestamp"]), request.body)
        assert sent["webhook-signature"] == signed


async def test_what_waits_for_news_is_let_go_by_a_stop_and_stays(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, "https://elsewhere.example.org/")
        (work,) = old(await ended(flow, client, server.url(target="/200")))
        async with asyncio.timeout(20), open_deliver(flow, polls=False) as deliver:
            deliver.deliver_soon([work])
            await store.load_callbacks(flow.pool, [work.callback_id])  # some turns of the loop: it has begun
        assert tuple(await flow.row(TRIES)) == (0, None)
        assert [row[0] for row in await flow.pool.fetch(OUTCOMES, [work.callback_id])] == [None]
