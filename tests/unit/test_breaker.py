"""The breaker of one endpoint, by its times."""

import pytest

from dlr.breaker import FAILURES_TO_OPEN, JITTER_SHARE, OPEN_SECONDS_MAX, OPEN_SECONDS_MIN, Breaker


def fail(breaker: Breaker, now: float, *, was_probe: bool = False) -> float | None:
    return breaker.fail(now, 0.0, was_probe=was_probe)


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        fail(breaker, now)
    return breaker


def test_it_stays_closed_until_enough_failures_come_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(100):
        assert [fail(breaker, 0.0) for _ in range(FAILURES_TO_OPEN - 1)] == [None] * (FAILURES_TO_OPEN - 1)
        assert breaker.succeed() is False
        assert breaker.allows(0.0)


def test_it_opens_at_the_last_failure_of_the_row() -> None:
    breaker = Breaker()

    opened = [fail(breaker, 10.0) for _ in range(FAILURES_TO_OPEN)]

    assert opened == [*[None] * (FAILURES_TO_OPEN - 1), OPEN_SECONDS_MIN]
    assert breaker.is_open(10.0 + OPEN_SECONDS_MIN - 0.1)
    assert not breaker.is_open(10.0 + OPEN_SECONDS_MIN)


def test_half_open_it_lets_one_probe_through_and_no_second() -> None:
    breaker = tripped()

    assert not breaker.allows(OPEN_SECONDS_MIN - 0.1)
    assert breaker.allows(OPEN_SECONDS_MIN)
    assert breaker.begin() is True
    assert not breaker.allows(OPEN_SECONDS_MIN)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = tripped()
    breaker.begin()

    assert breaker.succeed() is True
    assert breaker == Breaker()
    assert breaker.begin() is False


def test_probes_that_fail_double_the_wait_up_to_its_most() -> None:
    breaker, now, waits = tripped(), 0.0, []
    for _ in range(40):
        now += OPEN_SECONDS_MAX
        breaker.begin()
        waits.append(fail(breaker, now, was_probe=True))

    assert waits[:4] == [10.0, 20.0, 40.0, 80.0]
    assert waits[-1] == OPEN_SECONDS_MAX


def test_a_probe_that_was_given_up_makes_room_for_another() -> None:
    breaker = tripped()
    breaker.begin()

    breaker.abandon()

    assert breaker.allows(OPEN_SECONDS_MIN)


def test_stragglers_prolong_nothing_and_take_no_probes_place() -> None:
    breaker = tripped()

    assert fail(breaker, 1.0) is None
    assert breaker.open_until == OPEN_SECONDS_MIN
    breaker.begin()
    assert fail(breaker, OPEN_SECONDS_MIN) is None
    assert breaker.is_probing


def test_a_straggler_that_succeeds_proves_life() -> None:
    breaker = tripped()
    breaker.begin()

    assert breaker.succeed() is True
    assert fail(breaker, OPEN_SECONDS_MIN, was_probe=True) is None, "one failure after a success is one"


@pytest.mark.parametrize(("asked", "granted"), [(30.0, 30.0), (86_400.0, OPEN_SECONDS_MAX)])
def test_an_endpoint_may_ask_to_be_left_alone(asked: float, granted: float) -> None:
    breaker = Breaker()

    assert breaker.open_for(0.0, asked) == granted
    assert breaker.is_open(granted - 0.1)


def test_jitter_keeps_breakers_from_probing_together() -> None:
    opened = [
        Breaker(failures=FAILURES_TO_OPEN).fail(0.0, jitter, was_probe=False) for jitter in (0.0, 0.5, 0.99)
    ]

    assert len(set(opened)) == 3
    assert all(seconds and seconds >= OPEN_SECONDS_MIN * (1 - JITTER_SHARE) for seconds in opened)
