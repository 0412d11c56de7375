"""A message's own callback_url has turns and a breaker of its own: what fails there is not the endpoint's."""

import asyncio
import re

import pytest

from dlr import store
from dlr.breaker import FAILURES_TO_OPEN
from dlr.piles import SWEEP_FIRST
from dlr.records import ATTEMPTS_MAX
from tests.integration.test_hot_plans import explained
from tests.support.deliveries import OUTCOMES, by_its_path, client_at, ended, open_deliver, told, tried
from tests.support.endpoints import endpoint
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

HEALTH = "select disabled_at, open_until from tollwire.callback_health"
WAITING = "select done_at is null from tollwire.callbacks where id = $1"
SUBSCRIBE = "update tollwire.callback_endpoints set events = array['message.sent', 'message.delivered']"
SENT = "select id from tollwire.callbacks where event_type = 'message.sent'"
FLAGS = "select event_type, own_url from tollwire.callbacks order by message_id, sequence"
FAILS = """
    insert into tollwire.callback_health (endpoint_id, consecutive_failures, failing_since, open_until)
    select id, 5, clock_timestamp(), clock_timestamp() + $1 * interval '1 second'
    from tollwire.callback_endpoints
    on conflict (endpoint_id) do update set open_until = excluded.open_until
"""
PILE = 300
DUE = "update tollwire.callbacks set due_at = clock_timestamp()"
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


async def submitted(flow: Flow, client: int, url: str | None, number: int = 1) -> None:
    """Messages with this callback_url that are on their way: that is told by whoever sweeps."""
    await flow.submitted(await flow.accepted(client, number, callback_url=url), await flow.carrier())


async def test_what_a_sweep_brings_for_another_url_waits_for_no_endpoint(database: Database) -> None:
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/500"))
        await flow.pool.execute(SUBSCRIBE)
        async with open_deliver(flow) as deliver:
            await told(flow, deliver, await ended(flow, client, None, FAILURES_TO_OPEN))
            await is_written(flow, "open_until")
            await flow.pool.execute(FAILS, 300)
            await flow.pool.execute("delete from tollwire.callbacks")
            await submitted(flow, client, server.url(target="/200"), 2 * SWEEP_FIRST)
            own = [row[0] for row in await flow.pool.fetch(SENT)]
            # It shows with a few that it takes them, and is brought more.
            for _ in range(2):
                await deliver.sweep()
            assert await tried(flow, own) == ["delivered"] * 2 * SWEEP_FIRST


@pytest.mark.parametrize(("open_seconds", "of_the_endpoint"), [(300, 0), (-300, 1)])
async def test_an_endpoint_that_fails_holds_back_what_goes_to_its_own_url(
    database: Database, open_seconds: int, of_the_endpoint: int
) -> None:
    async with open_flow(database) as flow:
        client = await client_at(flow, "https://dead.example.org/")
        await flow.pool.execute(SUBSCRIBE)
        await flow.pool.execute(FAILS, open_seconds)
        await submitted(flow, client, None, 5)
        await submitted(flow, client, "https://dead.example.org/", 5)
        theirs = {row[0] for row in await flow.pool.fetch(SENT)}
        await submitted(flow, client, "https://alive.example.org/", 5)
        own = {row[0] for row in await flow.pool.fetch(SENT)} - theirs
        leased = {id_ for id_, _ in await store.lease_callbacks(flow.pool, 100, 20, 60)}
        assert own <= leased
        assert len(leased & theirs) == of_the_endpoint
        await flow.pool.execute(DUE)
        # An endpoint that was switched off ends what is told of its messages, wherever.
        await flow.pool.execute("update tollwire.callback_health set disabled_at = clock_timestamp()")
        assert await store.lease_callbacks(flow.pool, 100, 20, 60) == []


async def test_each_event_knows_whether_its_message_named_another_url(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await client_at(flow, "https://home.example.org/")
        await flow.pool.execute(SUBSCRIBE)
        for url in ("https://elsewhere.example.org/", "https://home.example.org/", None):
            await ended(flow, client, url)
        flags = [tuple(row) for row in await flow.pool.fetch(FLAGS)]
        kinds = ("message.sent", "message.delivered")
        assert flags == [(kind, is_own) for is_own in (True, False, False) for kind in kinds]


async def test_tries_are_counted_as_far_as_the_column_goes(database: Database) -> None:
    """A callback that was replayed again and again: its note does not fail for ever."""
    async with open_flow(database) as flow, endpoint(by_its_path) as server:
        client = await client_at(flow, server.url(target="/200"))
        async with open_deliver(flow) as deliver:
            works = await ended(flow, client, None)
            await flow.pool.execute("update tollwire.callbacks set attempts = $1", ATTEMPTS_MAX)
            counted = [work._replace(attempts=ATTEMPTS_MAX) for work in works]
            assert await told(flow, deliver, counted) == ["delivered"]


async def test_what_goes_elsewhere_is_found_beside_the_pile_of_an_endpoint_that_fails(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        client = await client_at(flow, "https://dead.example.org/")
        await flow.pool.execute(SUBSCRIBE)
        await flow.pool.execute(FAILS, 300)
        await submitted(flow, client, None, PILE)
        await submitted(flow, client, "https://alive.example.org/")
    async with explained(database) as (flow, plans):
        assert len(await store.lease_callbacks(flow.pool, 100, 20, 60)) == 1
    assert any("_own on callbacks" in plan for plan in plans)
    assert max(map(int, re.findall(r"Rows Removed by Filter: (\d+)", "".join(plans)))) < PILE
