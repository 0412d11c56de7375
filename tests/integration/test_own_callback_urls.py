"""A message's own callback_url has turns and a breaker of its own: what fails there is not the endpoint's."""

import asyncio

import pytest

from dlr import store
from dlr.breaker import FAILURES_TO_OPEN
from dlr.records import ATTEMPTS_MAX
from tests.support.deliveries import OUTCOMES, by_its_path, client_at, ended, open_deliver, told
from tests.support.endpoints import endpoint
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

HEALTH = "select disabled_at, open_until from tollwire.callback_health"
WAITING = "select done_at is null from tollwire.callbacks where id = $1"
ERROR = "select error from tollwire.callback_attempts where callback_id = $1"


async def is_written(flow: Flow, column: str) -> None:
    """Wait until the endpoint's row has it."""
    async with asyncio.timeout(10):
        while not any(row[column] for row in await flow.pool.fetch(HEALTH)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("status", [410, 500])
async def test_what_fails_at_a_messages_own_url_is_not_the_endpoints_fault(
    database: Database, status: int
) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/200"))
        async with open_deliver(flow) as deliver:
            own = await ended(flow, client, server.url(target=f"/{status}"), FAILURES_TO_OPEN)
            assert await told(flow, deliver, own) == ["gave_up" if status == 410 else None] * FAILURES_TO_OPEN
            assert await flow.pool.fetch(HEALTH) == []
            assert await told(flow, deliver, await ended(flow, client, None)) == ["delivered"]


async def test_a_message_that_names_the_endpoints_url_speaks_for_the_endpoint(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        url = server.url(target="/410")
        client = await client_at(flow, url)
        async with open_deliver(flow) as deliver:
            assert await told(flow, deliver, await ended(flow, client, url)) == ["discarded"]
            await is_written(flow, "disabled_at")


async def test_a_host_that_an_operator_takes_off_the_list_is_not_called_any_more(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, "https://elsewhere.example.org/")
        allow = "update tollwire.clients set allowed_callback_hosts = $2 where id = $1"
        await flow.pool.execute(allow, client, ["127.0.0.1"])
        own = await ended(flow, client, server.url(target="/200"), 2)
        async with open_deliver(flow) as deliver:
            assert await told(flow, deliver, own[:1]) == ["delivered"]
        await flow.pool.execute(allow, client, [])
        async with open_deliver(flow) as deliver:
            deliver.deliver_soon(own[1:])
            async with asyncio.timeout(10):
                while await flow.pool.fetchval(WAITING, own[1].callback_id):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
        [row] = await flow.pool.fetch(OUTCOMES, [own[1].callback_id])
        assert row[0] == "gave_up"
        assert "not registered any more" in await flow.pool.fetchval(ERROR, own[1].callback_id)


async def test_an_endpoint_that_is_left_alone_keeps_no_other_url_waiting(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/500"))
        async with open_deliver(flow) as deliver:
            await told(flow, deliver, await ended(flow, client, None, FAILURES_TO_OPEN))
            await is_written(flow, "open_until")
            assert [work.skip for work in await ended(flow, client, None)] == ["open"]
            own = await ended(flow, client, server.url(target="/200"))
            loaded = await store.load_callbacks(flow.pool, [work.callback_id for work in own])
            assert own == loaded
            assert [work.skip for work in own] == [None]
            assert await told(flow, deliver, own) == ["delivered"]


async def test_tries_are_counted_as_far_as_the_column_goes(database: Database) -> None:
    """A callback that was replayed again and again: its note does not fail for ever."""
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/200"))
        async with open_deliver(flow) as deliver:
            works = await ended(flow, client, None)
            await flow.pool.execute("update tollwire.callbacks set attempts = $1", ATTEMPTS_MAX)
            counted = [work._replace(attempts=ATTEMPTS_MAX) for work in works]
            assert await told(flow, deliver, counted) == ["delivered"]
