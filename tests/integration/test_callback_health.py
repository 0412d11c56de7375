"""Endpoints' health in PostgreSQL: what one dlr process writes, the others follow."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from dlr import store
from dlr.breaker import FAILURES_TO_OPEN, OPEN_SECONDS_MAX, OPEN_SECONDS_MIN
from dlr.endpoints import DISABLE_AFTER, Endpoints
from dlr.health import Health, HealthNotes
from dlr.poster import Delivery
from shared.domain.callbacks import Outcome, Posted
from shared.runtime.clock import Clock
from shared.storage.audit import Actor
from shared.storage.callback_endpoints import EndpointSettings, put_endpoint
from tests.support.endpoint_turns import SetClock, delivery
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

# And a second: five of them are more than five days.
A_DAY_SECONDS = 86_401.0


@dataclass
class Process:
    """A dlr process's view of endpoints; the network answers what a test sets."""

    endpoints: Endpoints
    notes: HealthNotes
    clock: SetClock
    status: int = 500
    posted: list[int] = field(default_factory=list)

    async def post(self, delivery: Delivery) -> Outcome:
        self.posted.append(delivery.endpoint_id)
        return Posted(self.status, 5, "198.51.100.7", b"")

    async def send(self, endpoint_id: int, times: int = 1) -> list[Outcome | None]:
        one = delivery(endpoint_id, "https://client.example/")
        return [await self.endpoints.post(self, one) for _ in range(times)]


@asynccontextmanager
async def process(flow: Flow, clock: SetClock) -> AsyncIterator[Process]:
    async with HealthNotes(flow.pool) as notes, Endpoints(clock, notes, jitter=lambda: 0.0) as endpoints:
        yield Process(endpoints, notes, clock)


async def clock_of(flow: Flow) -> SetClock:
    """A clock that starts at the database's time and then stands."""
    clock = SetClock()
    clock.seconds += (
        await flow.pool.fetchval("select clock_timestamp()")
    ).timestamp() - clock.now().timestamp()
    return clock


async def test_a_breaker_that_opens_here_keeps_others_away_and_closes_for_all(database: Database) -> None:
    async with open_flow(database, "dlr") as flow, open_flow(database) as owner:
        endpoint_id = await owner.endpoint(await owner.client())
        clock = await clock_of(flow)
        async with process(flow, clock) as one, process(flow, clock) as other:
            await one.send(endpoint_id, FAILURES_TO_OPEN)
            async with one.notes:
                pass  # leaving it waits until what was noted is written
            await other.endpoints.follow()
            assert await other.send(endpoint_id) == [None]

            clock.seconds += OPEN_SECONDS_MIN
            other.status = 200
            assert await other.send(endpoint_id) != [None]
            async with other.notes:
                pass
            await one.endpoints.follow()
            row = await owner.row(
                "select * from tollwire.callback_health where endpoint_id = $1", endpoint_id
            )

            assert (row["consecutive_failures"], row["open_until"], row["failing_since"]) == (0, None, None)
            one.status = 200
            assert None not in await one.send(endpoint_id, 10)


async def test_a_word_that_is_not_written_yet_is_newer_than_the_row(database: Database) -> None:
    async with open_flow(database, "dlr") as flow, open_flow(database) as owner:
        endpoint_id = await owner.endpoint(await owner.client())
        clock = Clock()
        async with HealthNotes(flow.pool) as notes:
            notes.note(Health(endpoint_id, 5, clock.now(), clock.now() + timedelta(seconds=5), None))
            _, known_better = await notes.read()
            assert endpoint_id in known_better
        rows, known_better = await notes.read()

    assert known_better == frozenset()
    assert [(row.endpoint_id, row.consecutive_failures, row.is_disabled) for row in rows] == [
        (endpoint_id, 5, False)
    ]


async def url_of(flow: Flow, endpoint_id: int) -> str:
    return str(
        await flow.pool.fetchval("select url from tollwire.callback_endpoints where id = $1", endpoint_id)
    )


async def test_an_endpoint_that_its_client_sets_anew_is_on_again(database: Database) -> None:
    async with open_flow(database, "dlr") as flow, open_flow(database) as owner:
        client = await owner.client()
        endpoint_id = await owner.endpoint(client)
        async with process(flow, await clock_of(flow)) as it:
            it.endpoints.disable(
                endpoint_id, "the endpoint answered 410 Gone", await url_of(owner, endpoint_id)
            )
            async with it.notes:
                pass
            await it.endpoints.follow()
            assert await it.send(endpoint_id) == [None]

            settings = EndpointSettings(
                "https://client.example/new", ["message.delivered"], keep_answers=False
            )
            async with owner.pool.acquire() as connection:
                await put_endpoint(connection, client, settings, Actor("operator/test", "127.0.0.1"))
            await it.endpoints.follow()

            assert await it.send(endpoint_id) != [None]


async def took_a_callback(
    flow: Flow, client: int, endpoint_id: int, *, days_ago: int, url: str | None
) -> None:
    """A callback that was delivered so long ago, at the endpoint's URL or at the message's own."""
    [message_id] = await flow.accepted(client, callback_url=url)
    carrier = await flow.carrier()
    [reference] = await flow.submitted([message_id], carrier)
    await flow.receipt(carrier, reference, "delivered")
    await flow.pool.execute(
        "update tollwire.callbacks set outcome = 'delivered', done_at = clock_timestamp() - $2::interval"
        " where endpoint_id = $1",
        endpoint_id,
        timedelta(days=days_ago),
    )


async def test_what_other_processes_delivered_keeps_an_endpoint_on(database: Database) -> None:
    """One process may have seen nothing but failures for five days, since its successes went to others."""
    async with open_flow(database, "dlr") as flow, open_flow(database) as owner:
        silent, lately, before, elsewhere = [
            (client, await owner.endpoint(client)) for client in [await owner.client() for _ in range(4)]
        ]
        await took_a_callback(owner, *lately, days_ago=4, url=None)
        await took_a_callback(owner, *before, days_ago=6, url=None)
        await took_a_callback(owner, *elsewhere, days_ago=4, url="https://other.example/")
        clock = await clock_of(flow)
        async with process(flow, clock) as it, process(flow, clock) as other:
            for _, endpoint_id in (silent, lately, before, elsewhere):
                await it.send(endpoint_id, FAILURES_TO_OPEN)
            for _ in range(DISABLE_AFTER.days):
                clock.seconds += A_DAY_SECONDS
                for _, endpoint_id in (silent, lately, before, elsewhere):
                    await it.send(endpoint_id)
            async with it.notes:
                pass
            await it.endpoints.follow()
            await other.endpoints.follow()
            rows = await owner.pool.fetch(
                "select endpoint_id from tollwire.callback_health where disabled_reason is not null"
            )
            assert {row[0] for row in rows} == {silent[1], before[1], elsewhere[1]}
            clock.seconds += OPEN_SECONDS_MAX
            for one in (it, other):
                assert await one.send(silent[1]) == [None]
                assert await one.send(lately[1]) != [None]
            async with it.notes:
                pass
            row = await owner.row("select * from tollwire.callback_health where endpoint_id = $1", lately[1])
            assert row["disabled_at"] is None, (
                "the five days count from the last that was taken, as far as known"
            )


async def test_a_success_takes_back_what_was_to_be_switched_off(database: Database) -> None:
    async with open_flow(database, "dlr") as flow, open_flow(database) as owner:
        silent, gone = [await owner.endpoint(await owner.client()) for _ in range(2)]
        now = (await clock_of(flow)).now()
        async with HealthNotes(flow.pool) as notes:
            for reason, unless, endpoint_id in (("silent", DISABLE_AFTER, silent), ("gone", None, gone)):
                notes.note(Health(endpoint_id, 9, now, None, reason, unless))
                notes.note(Health(endpoint_id, 0, None, None, None))
        rows, _ = await notes.read()

    assert [(row.endpoint_id, row.is_disabled) for row in rows] == [(gone, True)]


async def test_a_word_on_an_endpoint_that_is_gone_harms_nobody(database: Database) -> None:
    async with open_flow(database, "dlr") as flow:
        async with HealthNotes(flow.pool) as notes:
            notes.note(Health(999_999, 5, None, None, None))
        rows, _ = await notes.read()

    assert rows == []


async def piles(flow: Flow) -> list[int]:
    """Three endpoints with four callbacks each that are due, by their ids."""
    carrier, endpoints = await flow.carrier(), []
    for _ in range(3):
        client = await flow.client()
        endpoints.append(await flow.endpoint(client))
        for reference in await flow.submitted(await flow.accepted(client, 4), carrier):
            await flow.receipt(carrier, reference, "delivered")
    await flow.pool.execute("update tollwire.callbacks set due_at = clock_timestamp()")
    return endpoints


async def test_no_more_is_leased_of_an_endpoint_than_there_is_room_for(database: Database) -> None:
    async with open_flow(database) as flow:
        first, second, third = await piles(flow)
        leased = await store.lease_callbacks(flow.pool, 100, 3, 60, {third: 0, first: 4})
        assert Counter(endpoint_id for _, endpoint_id in leased) == {first: 4, second: 3}


async def test_leasing_goes_round_all_endpoints_from_the_one_where_it_was_cut_off(database: Database) -> None:
    async with open_flow(database) as flow:
        first, second, third = await piles(flow)
        for limit, after, expected in [
            (5, first, {second: 3, third: 2}),
            (5, second, {third: 2, first: 3}),
            (5, third, {first: 1, second: 1}),
        ]:
            leased = await store.lease_callbacks(flow.pool, limit, 3, 60, after=after)
            assert Counter(endpoint_id for _, endpoint_id in leased) == expected
        assert await store.lease_callbacks(flow.pool, 5, 3, 60, after=second) == []
