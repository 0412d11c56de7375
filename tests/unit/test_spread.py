"""Large books are proved a little at a time."""

import pytest

from ledger.spread import ROUND_MAX_SECONDS, STEP_MAX_SECONDS, TIMES_MAX, Spread


def after_a_round_of(worked_seconds: float) -> Spread:
    spread = Spread()
    spread.step(worked_seconds)
    spread.end()
    return spread


def test_the_first_round_is_not_held_up() -> None:
    assert Spread().step(1.0) == 0


def test_a_step_is_a_hundredth_of_the_time_until_the_next() -> None:
    assert after_a_round_of(10.0).step(0.25) == 0.25 * TIMES_MAX


@pytest.mark.parametrize("worked_seconds", [20.0, 60.0, 300.0, 1_000.0])
def test_a_round_of_large_books_takes_no_longer_for_it(worked_seconds: float) -> None:
    spread = after_a_round_of(worked_seconds)
    step_seconds = worked_seconds / 10
    assert sum(spread.step(step_seconds) for _ in range(10)) == pytest.approx(ROUND_MAX_SECONDS)


def test_what_counts_is_the_last_round() -> None:
    spread = after_a_round_of(600.0)
    spread.step(1.0)
    spread.end()
    assert spread.step(1.0) == TIMES_MAX


def test_a_round_without_work_holds_nothing_up() -> None:
    assert after_a_round_of(0.0).step(1.0) == 0


def test_a_slow_step_does_not_stop_the_round() -> None:
    assert after_a_round_of(10.0).step(60.0) == STEP_MAX_SECONDS


def test_books_that_have_grown_are_gone_through_faster_before_the_round_ends() -> None:
    spread = after_a_round_of(1.0)
    rests = [spread.step(1.0) for _ in range(360)]
    assert rests[0] == TIMES_MAX
    assert rests[-1] == ROUND_MAX_SECONDS / 360
    assert sum(rests) < 4 * ROUND_MAX_SECONDS
