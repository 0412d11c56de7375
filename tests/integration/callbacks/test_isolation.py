"""One dead or slow endpoint never delays another: shown by what has ended and what has not, by no clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dlr.endpoints import Endpoints
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.turns import Limits
from shared.domain.callbacks import Outcome, Posted
from tests.support.endpoint_turns import MemoryBook, SetClock, delivery
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint, says

LAPTOP = CallbackSettings(callback_allow_private=True)
DEAD, HEALTHY = 1, 2

Tasks = list[asyncio.Task[Outcome | None]]


@dataclass
class Rig:
    """A healthy endpoint, one that answers only when it is released, and the way to both."""

    endpoints: Endpoints
    poster: CallbackPoster
    dead: Endpoint
    healthy: Endpoint
    arrived: asyncio.Event
    released: asyncio.Event
    clock: SetClock

    def to_dead(self, count: int, endpoint_id: int = DEAD) -> Tasks:
        return self._send(count, endpoint_id, self.dead.url())

    def to_healthy(self, count: int, endpoint_id: int = HEALTHY) -> Tasks:
        return self._send(count, endpoint_id, self.healthy.url())

    def _send(self, count: int, endpoint_id: int, url: str) -> Tasks:
        return [
            asyncio.create_task(self.endpoints.post(self.poster, delivery(endpoint_id, url, number)))
            for number in range(count)
        ]


@asynccontextmanager
async def rig(limits: Limits | None = None) -> AsyncIterator[Rig]:
    arrived, released, clock = asyncio.Event(), asyncio.Event(), SetClock()

    async def silence(_: Request, reply: Reply) -> None:
        arrived.set()
        await released.wait()
        await reply.send(answer(503))

    async with (
        endpoint(silence) as dead,
        endpoint(says(answer())) as healthy,
        CallbackPoster(LAPTOP) as poster,
        Endpoints(clock, MemoryBook(), limits) as endpoints,
    ):
        yield Rig(endpoints, poster, dead, healthy, arrived, released, clock)
        released.set()


def statuses(outcomes: list[Outcome | None]) -> set[int | None]:
    return {outcome.status if isinstance(outcome, Posted) else None for outcome in outcomes}


async def test_thousands_for_a_dead_endpoint_hold_nothing_up() -> None:
    async with rig() as it:
        dead = it.to_dead(5_000)
        healthy = await asyncio.gather(*it.to_healthy(400))
        sent_back = sum(task.done() for task in dead)
        under_way = len(it.dead.requests)

        assert statuses(healthy) == {200}
        assert len(it.healthy.requests) == 400
        assert under_way == 1, "an endpoint that has not answered yet has one callback under way"
        assert sent_back >= 5_000 - 1 - Limits().waiting_max, "more than may wait here stay in PostgreSQL"
        it.endpoints.stop()
    await asyncio.wait(dead)


async def test_no_more_is_fetched_for_an_endpoint_than_it_has_places_for() -> None:
    async with rig() as it:
        dead = [*it.to_dead(10), *it.to_dead(50, endpoint_id=3)]
        await asyncio.gather(*it.to_healthy(200))
        few = Limits().slow_waiting_max
        rooms = it.endpoints.rooms(few, {DEAD: 200, HEALTHY: 200})

        assert rooms == {DEAD: few - 9, 3: 0, HEALTHY: 200}, "one of the dead is under way, the others wait"
        it.endpoints.stop()
    await asyncio.wait(dead)


async def test_many_dead_endpoints_at_once_hold_nothing_up() -> None:
    limits = Limits(total_max=60, slow_total_max=20)
    async with rig(limits) as it:
        dead = [task for number in range(100, 150) for task in it.to_dead(20, endpoint_id=number)]
        healthy = await asyncio.gather(*it.to_healthy(200))

        assert statuses(healthy) == {200}
        assert len(it.dead.requests) == 50
        assert not any(task.done() for task in dead)
        it.endpoints.stop()
    await asyncio.wait(dead)


async def test_a_healthy_endpoint_opens_its_window_with_its_successes() -> None:
    arrived: list[int] = []
    most_at_once = 0

    async def script(_: Request, reply: Reply) -> None:
        nonlocal most_at_once
        arrived.append(1)
        most_at_once = max(most_at_once, len(arrived))
        for _turn in range(5):
            await asyncio.sleep(0)
        arrived.pop()
        await reply.send(answer())

    limits = Limits(window_max=8)
    async with (
        endpoint(script) as it,
        CallbackPoster(LAPTOP) as poster,
        Endpoints(SetClock(), MemoryBook(), limits) as endpoints,
    ):
        posts = [endpoints.post(poster, delivery(1, it.url(), number)) for number in range(300)]
        outcomes = await asyncio.gather(*posts)

    assert statuses(outcomes) == {200}
    assert 1 < most_at_once <= 8
    assert it.connections <= 8


async def test_where_places_are_short_endpoints_take_turns() -> None:
    order: list[str] = []

    async def script(request: Request, reply: Reply) -> None:
        order.append(request.line.split(" ")[1])
        await reply.send(answer())

    async with (
        endpoint(script) as it,
        CallbackPoster(LAPTOP) as poster,
        Endpoints(SetClock(), MemoryBook(), Limits(total_max=1)) as endpoints,
    ):
        large = [
            endpoints.post(poster, delivery(1, it.url(target="/large"), number)) for number in range(100)
        ]
        small = [endpoints.post(poster, delivery(2, it.url(target="/small"), number)) for number in range(5)]
        await asyncio.gather(*large, *small)

    assert order[:10].count("/small") == 5, (
        "the small one is served every other time, whatever waits before it"
    )


async def test_what_waited_until_its_lease_ends_is_not_begun() -> None:
    async with rig(Limits(window_max=1)) as it:
        under_way = it.to_dead(1)
        await it.arrived.wait()
        until = it.clock.monotonic() + 40
        late = [
            asyncio.create_task(
                it.endpoints.post(it.poster, delivery(DEAD, it.dead.url(), number), until=until)
            )
            for number in (1, 2)
        ]
        await asyncio.sleep(0)
        it.clock.seconds += 41
        it.released.set()
        outcomes = await asyncio.gather(*under_way, *late)

    assert [isinstance(outcome, Posted) for outcome in outcomes] == [True, False, False]
    assert len(it.dead.requests) == 1


async def test_at_the_stop_what_is_under_way_ends_and_what_waits_goes_back() -> None:
    async with rig() as it:
        dead = it.to_dead(50)
        await it.arrived.wait()
        it.endpoints.stop()
        late = await it.endpoints.post(it.poster, delivery(HEALTHY, it.healthy.url()))
    outcomes = await asyncio.gather(*dead)

    assert late is None
    assert [outcome for outcome in outcomes if outcome is not None] == [outcomes[0]]
