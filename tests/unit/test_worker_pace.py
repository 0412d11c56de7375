"""How fast a carrier is given work after it throttled."""

import pytest
from prometheus_client import REGISTRY

from worker.pace import Pace
from worker.window import Window


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    now = [1_000.0]
    monkeypatch.setattr("worker.pace.time.monotonic", lambda: now[0])
    return now


def told(carrier: str) -> float | None:
    """The rate in force, as the metric has it."""
    return REGISTRY.get_sample_value("tollwire_carrier_rate_per_second", {"carrier": carrier})


def test_one_throttle_at_the_beginning_of_a_second_halves_what_went_in_the_one_before(clock):
    pace = Pace("fast", 0)
    for _ in range(30):  # 1,000 a second
        pace.spend(100)
        clock[0] += 0.1
    pace.slow_down(0.01)
    clock[0] += 0.02
    assert pace.per_second == 500.0


def test_the_rate_that_is_told_is_that_of_the_carrier_as_its_row_is_now(clock):
    before = Pace("changed", 0)
    before.spend(100)
    before.slow_down(1.0)
    assert told("changed") == 50.0
    Pace("changed", 0)
    assert told("changed") == 0.0
    clock[0] += 2.0
    before.slow_down(1.0)  # a late answer to what went before
    assert told("changed") == 0.0
    Pace("changed", 20)
    assert told("changed") == 20.0


def test_what_does_not_go_leaves_the_rest_of_its_own_turn_to_the_next(clock):
    pace = Pace("unsent", 100)
    ends_at = pace.spend(20)
    clock[0] += 0.05
    pace.give_back(10, ends_at)
    assert pace.ready_at == pytest.approx(1_000.1)
    pace.give_back(10, ends_at)  # it was given back
    assert pace.ready_at == pytest.approx(1_000.1)
    clock[0] += 0.1
    ends_at = pace.spend(20)
    clock[0] += 0.05
    pace.give_back(20, ends_at)
    assert pace.ready_at == clock[0]


def test_what_does_not_go_of_a_turn_that_is_over_makes_no_other_go_sooner(clock):
    pace = Pace("over", 100)
    ends_at = pace.spend(20)
    clock[0] += 0.25
    pace.spend(20)
    pace.give_back(20, ends_at)
    assert pace.ready_at == pytest.approx(clock[0] + 0.2)


def test_what_was_fast_long_ago_says_nothing_of_now(clock):
    pace = Pace("idle", 0)
    pace.spend(1_000)
    clock[0] += 60.0
    pace.spend(4)
    pace.slow_down(0.01)
    assert pace.per_second == 2.0


@pytest.mark.parametrize("wanted_per_second", [1, 100])
async def test_a_carrier_that_throttled_once_and_says_no_rate_is_given_work_for_hours(
    clock, wanted_per_second
):
    pace = Pace("steady", 0)
    window = Window(1_000, pace, ["normal"])
    pace.spend(wanted_per_second)
    pace.slow_down(1.0)
    for _ in range(10_000):
        clock[0] += 2.0
        window.give("normal", await window.take("normal", wanted_per_second))
    assert pace.per_second == wanted_per_second


def test_the_second_throttle_slows_as_the_first_did(clock):
    pace = Pace("again", 0)
    for later_seconds in (1.0, 300.0, 3_600.0):
        for _ in range(int(later_seconds)):
            pace.spend(100)
            clock[0] += 1.0
        pace.slow_down(1.0)
        assert 50.0 <= pace.per_second <= 100.0
        clock[0] += 1.0


def test_a_rate_that_was_halved_grows_with_what_is_wanted(clock):
    pace = Pace("quick", 0)
    pace.spend(1_000)
    pace.slow_down(1.0)
    clock[0] += 1.0
    went = 0
    for _ in range(600):
        clock[0] += 0.1
        if pace.ready_at <= clock[0]:
            turn = pace.turn_max or 1_000
            pace.spend(turn)
            went += turn
    assert pace.per_second > 4_000
    assert went > 60_000


def test_a_rate_of_the_row_comes_back_by_itself(clock):
    pace = Pace("stated", 100)
    pace.spend(100)
    pace.slow_down(1.0)
    assert pace.per_second == 50.0
    clock[0] += 60.0
    pace.spend(1)
    assert pace.per_second == 100.0
