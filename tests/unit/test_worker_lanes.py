"""What a lane does while one of its carriers has more than it takes: hours, in virtual time."""

import asyncio
import bisect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.lane_model import BUNDLE, ModelCarrier, ModelServers, VirtualLoop, open_lane
from worker.breaker import FAILURES_TO_OPEN
from worker.lines import AWAY_PER_SECOND, BUNDLES_MAX, LINE_SECONDS
from worker.pace import TURN_SECONDS

SOON_SECONDS = 2.0
# 14,000 messages in 1,400 bundles are put off in this time.
PASSED_SECONDS = 10.0
# 20,000 messages that cannot go any more are found to be that in this time, at 50 a second in turns of 12.
DEAD_SECONDS = 20.0

Scenario = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """Run a scenario on a loop that waits for nothing."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.clock_gettime", lambda _: now[0])
    monkeypatch.setattr("shared.runtime.ticks._PHASE_MS", 0)

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(3_600.0):
                await scenario()

        with asyncio.Runner(loop_factory=lambda: VirtualLoop(now)) as runner:
            runner.run(main())

    return run


def test_the_backlog_of_a_healthy_carrier_is_not_put_off(play):
    """RULES 19: of what waits a hundredth at most is published again; a password beside it goes at once."""

    async def scenario() -> None:
        servers = ModelServers()
        async with open_lane(servers, {1: ModelCarrier(32, 0.032), 2: ModelCarrier(32, 0.02)}):
            backlog = servers.accept(1, 8_000)
            others = []
            for _ in range(5):
                others += servers.accept(2, 1)
                await asyncio.sleep(1.0)
            await servers.until_sent(backlog + others)
        assert servers.put_offs == 0
        assert max(servers.sent_after[id_] for id_ in others) < SOON_SECONDS

    play(scenario)


@pytest.mark.parametrize("answer_seconds", [0.05, 0.5])
def test_a_carrier_of_single_messages_is_kept_busy_by_one_lane(play, answer_seconds):
    """A campaign goes by the carrier's connections, though our claims take their time too."""

    async def scenario() -> None:
        servers = ModelServers()
        servers.database_seconds = 0.03
        connections, rounds = 32, 100
        async with open_lane(servers, {1: ModelCarrier(connections, answer_seconds)}):
            began_at = asyncio.get_running_loop().time()
            await servers.until_sent(servers.accept(1, connections * rounds))
            gone_seconds = asyncio.get_running_loop().time() - began_at
        assert gone_seconds < 1.0 + 1.1 * rounds * answer_seconds

    play(scenario)


def test_a_backlog_that_is_more_than_may_wait_stays_in_the_stream_while_nobody_else_comes(play):
    async def scenario() -> None:
        servers = ModelServers()
        async with open_lane(servers, {1: ModelCarrier(100, 0.1), 2: ModelCarrier(1, 0.1)}):
            bundles = 5 * BUNDLES_MAX
            backlog = servers.accept(1, 8 * bundles, bundle=8)
            await asyncio.sleep(3.0)
            assert servers.pending > bundles / 5
            await servers.until_sent(backlog)
        assert servers.put_offs == 0

    play(scenario)


def test_a_message_that_comes_in_behind_another_carriers_backlog_is_not_held_up_by_it(play):
    async def scenario() -> None:
        servers = ModelServers()
        async with open_lane(servers, {1: ModelCarrier(12, 0.1), 2: ModelCarrier(32, 0.02)}):
            servers.accept(1, 20_000, bundle=10)
            await asyncio.sleep(LINE_SECONDS)
            assert servers.put_offs == 0
            (other,) = servers.accept(2, 1)
            await servers.until_sent([other])
        assert servers.sent_after[other] < PASSED_SECONDS

    play(scenario)


def test_many_workers_lines_for_one_carrier_hold_up_no_other(play):
    """What waits beside the lane counts as handed out: of all workers together it does not fill that."""

    async def scenario() -> None:
        servers = ModelServers()
        carriers = {1: ModelCarrier(32, 0.1), 2: ModelCarrier(32, 0.02)}
        async with open_lane(servers, carriers, workers=10, rate_per_second=12):
            await servers.until_sent(servers.accept(2, 1))
            servers.accept(1, 9_000, bundle=3)
            await asyncio.sleep(5.0)
            (other,) = servers.accept(2, 1)
            await servers.until_sent([other])
        assert servers.sent_after[other] < PASSED_SECONDS

    play(scenario)


@pytest.mark.parametrize(
    ("others", "within_seconds"),
    [(0, DEAD_SECONDS), (1, LINE_SECONDS + PASSED_SECONDS)],
    ids=["nothing is put off", "with another carrier"],
)
def test_what_is_not_won_does_not_use_up_a_carriers_rate(play, others, within_seconds):
    """Cancelled, ended or dispatched anew meanwhile: the carrier is free for who stands behind."""

    async def scenario() -> None:
        servers = ModelServers()
        carriers = {id_: ModelCarrier(32, 0.02) for id_ in range(1, 2 + others)}
        async with open_lane(servers, carriers, rate_per_second=50):
            for id_ in servers.accept(1, 20_000, bundle=20):
                servers.dispatches[id_] += 1
            (alive,) = servers.accept(1, 1)
            await servers.until_sent([alive])
        assert servers.sent_after[alive] < within_seconds

    play(scenario)


@pytest.mark.parametrize("claim_seconds", [0.01, 0.2, 1.0])
def test_a_carrier_has_no_more_than_its_rate_whatever_is_not_won(play, claim_seconds):
    """The dead ones in runs between the others, and claims that take longer than their turn."""
    rate, number = 50, 2_000

    async def scenario() -> None:
        servers = ModelServers()
        servers.database_seconds = claim_seconds
        carrier = ModelCarrier(100, 0.02)
        async with open_lane(servers, {1: carrier}, rate_per_second=rate):
            ids = servers.accept(1, number, bundle=20)
            alive = [id_ for n, id_ in enumerate(ids) if n % 500 > 350]
            for id_ in set(ids) - set(alive):
                servers.dispatches[id_] += 1
            await servers.until_sent(alive)
        begun = carrier.begun_at
        within = [bisect.bisect(begun, at + 1.0) - first for first, at in enumerate(begun)]
        assert max(within) <= rate * (1.0 + TURN_SECONDS)

    play(scenario)


# A small window goes in step: for a while all its places are with our claims, then all at the carrier, whose
# answer takes about as long. At an instant that looks like a slow database, or like a full carrier.
IN_STEP = [
    pytest.param(25, 0.1, 0.045, id="25 places, answer 100 ms, claim 45 ms"),
    pytest.param(20, 0.1, 0.035, id="20 places, answer 100 ms, claim 35 ms"),
    pytest.param(20, 0.1, 0.04, id="20 places, answer 100 ms, claim 40 ms"),
    pytest.param(32, 0.05, 0.03, id="32 places, answer 50 ms, claim 30 ms"),
    pytest.param(20, 0.05, 0.05, id="20 places, answer 50 ms, claim 50 ms"),
    pytest.param(100, 0.06, 0.04, id="100 places, answer 60 ms, claim 40 ms"),
]


@asynccontextmanager
async def lane_in_step(
    window: int, answer_seconds: float, claim_seconds: float
) -> AsyncIterator[ModelServers]:
    """Carrier 1 has this window, carrier 2 is quick."""
    servers = ModelServers()
    servers.database_seconds = claim_seconds
    carriers = {1: ModelCarrier(window, answer_seconds), 2: ModelCarrier(32, 0.02)}
    async with open_lane(servers, carriers, window_max=window):
        yield servers


@pytest.mark.parametrize(("window", "answer_seconds", "claim_seconds"), IN_STEP)
def test_a_lane_that_waits_is_listened_to_without_a_pause(play, window, answer_seconds, claim_seconds):
    async def scenario() -> None:
        async with lane_in_step(window, answer_seconds, claim_seconds) as servers:
            servers.accept(1, 8_000, bundle=4)
            await asyncio.sleep(5.0)
            while servers.pending:
                assert servers.is_listened_to
                await asyncio.sleep(0.5)

    play(scenario)


@pytest.mark.parametrize("came_after_seconds", [9.4, 13.6])
@pytest.mark.parametrize(("window", "answer_seconds", "claim_seconds"), IN_STEP)
def test_whenever_it_comes_in_a_message_is_not_held_up_by_a_backlog_that_goes_in_step(
    play, window, answer_seconds, claim_seconds, came_after_seconds
):
    async def scenario() -> None:
        async with lane_in_step(window, answer_seconds, claim_seconds) as servers:
            servers.accept(1, 20_000, bundle=4)
            await asyncio.sleep(came_after_seconds)
            (other,) = servers.accept(2, 1)
            await servers.until_sent([other])
        assert servers.sent_after[other] < PASSED_SECONDS

    play(scenario)


def test_a_lane_whose_carriers_keep_up_is_not_listened_to(play):
    async def scenario() -> None:
        servers = ModelServers()
        async with open_lane(servers, {1: ModelCarrier(32, 0.032), 2: ModelCarrier(32, 0.02)}):
            ids = []
            for _ in range(100):
                ids += servers.accept(1, 80, bundle=8) + servers.accept(2, 8, bundle=8)
                await asyncio.sleep(0.1)
            await servers.until_sent(ids)
        assert servers.heard == 0

    play(scenario)


@pytest.mark.parametrize("trouble", ["hangs", "rests", "takes little"])
def test_a_carrier_in_trouble_holds_up_nobody_and_its_work_comes_back_when_it_is_over(play, trouble):
    async def scenario() -> None:
        servers = ModelServers()
        ill = ModelCarrier(100, 5.0 if trouble == "takes little" else 0.05)
        async with open_lane(servers, {1: ill, 2: ModelCarrier(32, 0.02)}, window_max=200):
            now = asyncio.get_running_loop().time()
            ill.hangs_until = now + 30.0 if trouble == "hangs" else 0.0
            ill.rests_until = now + 30.0 if trouble == "rests" else 0.0
            for _ in range(30):
                servers.accept(1, 200)
                (other,) = servers.accept(2, 1)
                await asyncio.sleep(SOON_SECONDS / 2)
                assert other in servers.sent_after
            await asyncio.sleep(LINE_SECONDS)
            assert servers.put_offs > 0
            assert servers.put_offs <= 2 * 30 * 200
            assert ill.taken > 10 * BUNDLE

    play(scenario)


def test_while_the_database_is_slow_nothing_is_put_off(play):
    """It is not the carrier that they wait for, and a put-off is one more call."""

    async def scenario() -> None:
        servers = ModelServers()
        servers.database_seconds = 5.0
        async with open_lane(servers, {1: ModelCarrier(100, 0.05), 2: ModelCarrier(1, 0.1)}):
            backlog = servers.accept(1, 4_000)
            servers.accept(2, 1)
            await servers.until_sent(backlog)
        assert servers.put_offs == 0

    play(scenario)


def test_what_waits_for_a_carrier_that_is_away_asks_at_a_bounded_rate_and_comes_soon_when_it_is_back(play):
    """However much waits: the database has other things to do, and so have those behind it in the lane."""
    away_seconds, number = 120, 12_000

    async def scenario() -> None:
        servers = ModelServers()
        async with open_lane(servers, {1: ModelCarrier(100, 0.02), 2: ModelCarrier(32, 0.02)}) as desks:
            breaker = desks[1]._breaker
            breaker._failures, breaker._open_until = FAILURES_TO_OPEN, time.monotonic() + away_seconds
            waiting = servers.accept(1, number)
            others = []
            for _ in range(away_seconds):
                others += servers.accept(2, 1)
                await asyncio.sleep(1.0)
            asked = sum([servers.dispatches[id_] - 1 for id_ in waiting])
            assert asked <= 2 * number + AWAY_PER_SECOND * away_seconds
            assert max(servers.sent_after[id_] for id_ in others[:-2]) < SOON_SECONDS
            back_at = time.monotonic()
            await servers.until_sent(waiting)
            assert time.monotonic() - back_at < number / AWAY_PER_SECOND + 60.0

    play(scenario)
