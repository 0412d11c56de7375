"""How fast a carrier is given work after it throttled."""

import pytest

from worker.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    now = [1_000.0]
    monkeypatch.setattr("worker.pace.time.monotonic", lambda: now[0])
    return now


def test_one_throttle_at_the_beginning_of_a_second_halves_what_went_in_the_one_before(clock):
    pace = Pace("fast", 0)
    for _ in range(30):  # 1,000 a second
        pace.spend(100)
        clock[0] += 0.1
    pace.slow_down(0.01)
    clock[0] += 0.02
    assert pace.per_second == 500.0


def test_what_was_fast_long_ago_says_nothing_of_now(clock):
    pace = Pace("idle", 0)
    pace.spend(1_000)
    clock[0] += 60.0
    pace.spend(4)
    pace.slow_down(0.01)
    assert pace.per_second == 2.0
