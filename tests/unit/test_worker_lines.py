"""Who waits for a slow carrier, for how long, and when what was put off comes back."""

import pytest

from worker.lines import LONG_MAX, LONG_SECONDS, PUT_OFF_MAX_SECONDS, SHORT_SECONDS, Line, Wait


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    now = [1_000.0]
    monkeypatch.setattr("worker.lines.time.monotonic", lambda: now[0])
    return now


def test_work_comes_back_when_a_slow_carrier_gets_to_it(clock):
    line = Line()
    assert line.put_off_seconds([1] * 4, per_second=2.0) == [1.5, 2.0, 2.5, 3.0]
    clock[0] += 1.0
    assert line.put_off_seconds([1], per_second=2.0) == [2.5], "it stands behind the others"


def test_what_comes_back_again_and_again_stays_away_longer_each_time_and_never_longer_than_five_minutes(
    clock,
):
    for number, most in [(1, 8), (2, 16), (5, 128), (7, 300), (10_000, 300)]:
        line = Line()
        line.put_off_seconds([number] * 1_000, per_second=1.0)  # an hour of work stands before
        seconds = line.put_off_seconds([number] * 100, per_second=1.0)
        assert most / 2 <= min(seconds) < max(seconds) <= most <= PUT_OFF_MAX_SECONDS, "and it is spread"


def test_a_few_wait_long_and_nobody_waits_behind_them(clock):
    line = Line()
    waits = [Wait(line) for _ in range(LONG_MAX + 1)]
    assert [wait.seconds(is_patient=False) for wait in waits] == [SHORT_SECONDS] * len(waits)
    clock[0] += SHORT_SECONDS
    assert [wait.seconds(is_patient=False) > 0 for wait in waits] == [True] * LONG_MAX + [False]
    assert waits[-1].is_over
    with Wait(line) as late:
        assert late.seconds(is_patient=False) == 0.0
    clock[0] += LONG_SECONDS
    for wait in waits[:LONG_MAX]:
        with wait:
            assert wait.seconds(is_patient=False) == 0.0
    assert Wait(line).seconds(is_patient=False) == SHORT_SECONDS, "their places are free again"


def test_who_is_patient_waits_as_long_as_it_takes(clock):
    wait = Wait(Line())
    clock[0] += 3_600.0
    assert wait.seconds(is_patient=True) > 0
    assert not wait.is_over
