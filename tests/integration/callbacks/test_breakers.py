"""When an endpoint fails, how it is left alone, and what other processes hear of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from dlr.breaker import FAILURES_TO_OPEN, OPEN_SECONDS_MAX, OPEN_SECONDS_MIN
from dlr.endpoints import DISABLE_AFTER, Endpoints
from dlr.health import Failing
from dlr.poster import CallbackPoster, CallbackSettings
from shared.domain.callbacks import Outcome, Posted
from shared.domain.retry import CALLBACK_SCHEDULE_SECONDS
from tests.support.endpoint_turns import MemoryBook, SetClock, delivery
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint

LAPTOP = CallbackSettings(callback_allow_private=True)
ENDPOINT = 7


@dataclass
class Rig:
    """An endpoint that answers what a test sets, a clock, and the book that others read."""

    endpoints: Endpoints
    poster: CallbackPoster
    server: Endpoint
    clock: SetClock = field(default_factory=SetClock)
    book: MemoryBook = field(default_factory=MemoryBook)
    answer: bytes = answer(500)

    async def post(self) -> Outcome | None:
        return await self.endpoints.post(self.poster, delivery(ENDPOINT, self.server.url()))

    async def fail(self, times: int = FAILURES_TO_OPEN) -> None:
        for _ in range(times):
            assert isinstance(await self.post(), Posted)


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    made: list[Rig] = []

    async def script(_: Request, reply: Reply) -> None:
        await reply.send(made[0].answer)

    clock, book = SetClock(), MemoryBook()
    async with (
        endpoint(script) as server,
        CallbackPoster(LAPTOP) as poster,
        Endpoints(clock, book, jitter=lambda: 0.0) as endpoints,
    ):
        made.append(Rig(endpoints, poster, server, clock, book))
        yield made[0]


async def test_after_failures_in_a_row_nothing_is_sent_and_one_row_says_so() -> None:
    async with rig() as it:
        await it.fail()

        assert [await it.post() for _ in range(10)] == [None] * 10
        assert len(it.server.requests) == FAILURES_TO_OPEN
        [note] = it.book.notes
        assert (note.endpoint_id, note.consecutive_failures) == (ENDPOINT, FAILURES_TO_OPEN)
        assert note.open_until == it.clock.now() + timedelta(seconds=OPEN_SECONDS_MIN)
        assert note.disabled_reason is None


async def test_what_waits_goes_back_when_the_breaker_opens() -> None:
    async with rig() as it:
        outcomes = await asyncio.gather(*[it.post() for _ in range(100)])

        assert len(it.server.requests) == FAILURES_TO_OPEN
        assert sum(outcome is None for outcome in outcomes) == 100 - FAILURES_TO_OPEN


async def test_one_probe_decides_and_those_behind_it_wait_for_its_word() -> None:
    async with rig() as it:
        await it.fail()
        it.clock.seconds += OPEN_SECONDS_MIN
        outcomes = await asyncio.gather(*[it.post() for _ in range(20)])

        assert len(it.server.requests) == FAILURES_TO_OPEN + 1, "the probe failed, so no second went out"
        assert sum(outcome is None for outcome in outcomes) == 19
        assert it.book.notes[-1].open_until == it.clock.now() + timedelta(seconds=2 * OPEN_SECONDS_MIN)

        it.clock.seconds += 2 * OPEN_SECONDS_MIN
        it.answer = answer(200)
        outcomes = await asyncio.gather(*[it.post() for _ in range(20)])

        assert all(isinstance(outcome, Posted) for outcome in outcomes), "the probe succeeded: all went out"
        note = it.book.notes[-1]
        assert (note.consecutive_failures, note.failing_since, note.open_until) == (0, None, None)


async def test_what_postgresql_holds_back_takes_no_room_from_what_goes_elsewhere() -> None:
    """That nothing is leased for its own URL: test_own_callback_urls."""
    async with rig() as it:
        await it.fail(FAILURES_TO_OPEN - 1)
        assert it.endpoints.rooms(100, {}) == {ENDPOINT: 21}
        await it.fail(1)
        assert it.book.notes
        assert it.endpoints.rooms(100, {ENDPOINT: 200}) == {ENDPOINT: 200}


async def test_a_healthy_endpoint_writes_no_rows() -> None:
    async with rig() as it:
        it.answer = answer(200)
        await it.fail(20)
        it.answer = answer(500)
        await it.fail(FAILURES_TO_OPEN - 1)
        it.answer = answer(200)
        await it.fail(1)

        assert it.book.notes == []


async def test_retry_after_is_a_wish_for_the_whole_endpoint() -> None:
    async with rig() as it:
        it.answer = answer(429, b"", "Retry-After: 60")
        await it.post()

        assert await it.post() is None
        it.clock.seconds += 59
        assert await it.post() is None
        it.clock.seconds += 1
        it.answer = answer(200)
        assert isinstance(await it.post(), Posted)


async def test_a_wish_for_a_month_is_cut() -> None:
    async with rig() as it:
        it.answer = answer(503, b"", "Retry-After: 2592000")
        await it.post()

        assert it.book.notes[-1].open_until == it.clock.now() + timedelta(seconds=OPEN_SECONDS_MAX)


async def test_410_lets_nothing_through_until_the_client_has_set_it_right() -> None:
    async with rig() as it:
        it.answer = answer(410)
        posts = [asyncio.create_task(it.post()) for _ in range(10)]
        outcomes = await asyncio.gather(*posts)
        it.endpoints.disable(ENDPOINT, "the endpoint answered 410 Gone", it.server.url())
        it.clock.seconds += OPEN_SECONDS_MAX

        assert len(it.server.requests) == 1
        assert sum(outcome is None for outcome in outcomes) == 9
        assert await it.post() is None
        assert it.book.notes[-1].disabled_reason == "the endpoint answered 410 Gone"

        await it.endpoints.follow()  # no row says any more that it is switched off
        it.answer = answer(200)
        assert isinstance(await it.post(), Posted)


async def test_five_days_without_a_success_switch_it_off() -> None:
    async with rig() as it:
        await it.fail()
        first = it.book.notes[-1]
        while it.book.notes[-1].disabled_reason is None and len(it.book.notes) < 10_000:
            it.clock.seconds += OPEN_SECONDS_MAX
            await it.post()

        last = it.book.notes[-1]
        assert last.disabled_reason == "no callback was taken for five days"
        assert first.failing_since is not None
        assert it.clock.now() - first.failing_since > DISABLE_AFTER
        assert await it.post() is None


async def test_a_failure_of_last_week_counts_no_more() -> None:
    """What came after it went to other processes, and was taken."""
    async with rig() as it:
        await it.fail(1)
        it.clock.seconds += 6 * 86_400
        await it.fail(FAILURES_TO_OPEN - 1)

        assert it.book.notes == []
        assert isinstance(await it.post(), Posted), "its breaker was closed"
        [note] = it.book.notes
        assert (note.consecutive_failures, note.disabled_reason) == (FAILURES_TO_OPEN, None)
        assert note.failing_since == it.clock.now()


@pytest.mark.parametrize("is_same_process", [False, True])
async def test_a_stop_of_a_week_is_no_time_in_which_it_took_nothing(is_same_process: bool) -> None:
    """Whether the processes were off or the machine was asleep; and what was noted lately counts on."""
    async with rig() as it:
        if is_same_process:
            await it.fail()
        it.book.failing = [failing(it, open_seconds=OPEN_SECONDS_MAX)]
        await it.endpoints.follow()
        it.clock.seconds += 7 * 86_400
        if not is_same_process:
            it.endpoints._lanes.clear()
        for _ in range(FAILURES_TO_OPEN):
            await it.endpoints.follow()
            assert isinstance(await it.post(), Posted)

        note = it.book.notes[-1]
        assert (note.consecutive_failures, note.disabled_reason) == (FAILURES_TO_OPEN, None)
        assert note.failing_since == it.clock.now()


async def test_tries_that_lie_a_day_apart_are_failures_in_a_row() -> None:
    async with rig() as it:
        for _ in range(FAILURES_TO_OPEN):
            await it.fail(1)
            it.clock.seconds += CALLBACK_SCHEDULE_SECONDS[-1]

        assert it.book.notes[-1].consecutive_failures == FAILURES_TO_OPEN


def failing(it: Rig, *, open_seconds: float | None = None, is_disabled: bool = False) -> Failing:
    until = None if open_seconds is None else it.clock.now() + timedelta(seconds=open_seconds)
    return Failing(ENDPOINT, 9, it.clock.now() - timedelta(hours=1), until, is_disabled)


async def test_another_processes_open_breaker_is_kept_here_too() -> None:
    async with rig() as it:
        it.book.failing = [failing(it, open_seconds=30)]
        await it.endpoints.follow()

        assert await it.post() is None
        it.clock.seconds += 30
        it.answer = answer(200)
        assert isinstance(await it.post(), Posted)
        assert it.book.notes[-1].consecutive_failures == 0, (
            "a success clears a row that another process wrote"
        )


async def test_a_row_that_is_gone_closes_the_breaker() -> None:
    async with rig() as it:
        await it.fail()
        await it.endpoints.follow()

        assert isinstance(await it.post(), Posted)


async def test_our_newer_word_stands_against_an_older_row() -> None:
    async with rig() as it:
        await it.fail()
        it.book.known_better = frozenset({ENDPOINT})
        await it.endpoints.follow()

        assert await it.post() is None


async def test_an_endpoint_that_was_switched_off_elsewhere_is_off_here() -> None:
    async with rig() as it:
        it.book.failing = [failing(it, is_disabled=True)]
        await it.endpoints.follow()

        assert await it.post() is None
        assert it.server.requests == []


async def test_a_cancelled_probe_leaves_the_next_one_its_place() -> None:
    async with rig() as it:
        await it.fail()
        it.clock.seconds += OPEN_SECONDS_MIN
        probe = asyncio.create_task(it.post())
        await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        it.answer = answer(200)

        assert isinstance(await it.post(), Posted)
