"""When work asks again for a carrier that is away: hours, by a clock that is moved."""

import heapq

import pytest

from worker.lines import AWAY_MAX_SECONDS, AWAY_PER_SECOND, AWAY_SECONDS, BACK_SECONDS, FIRST_SECONDS, Line

DAY_SECONDS = 86_400.0
PATIENCE_MAX_SECONDS = 60.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    now = [1_000.0]
    monkeypatch.setattr("worker.lines.time.monotonic", lambda: now[0])
    return now


def fill(line: Line, asking: int) -> float:
    """So many have asked before, and wait; in how many seconds the last of them asks."""
    return line.away_seconds([(2, DAY_SECONDS)] * asking)[-1]


def outage(
    line: Line, clock: list[float], per_second: int, valid_seconds: float, seconds: int
) -> list[tuple[float, float]]:
    """Let messages come in while the carrier is away, each hundredth valid for a day.

    Returns what waits at the end: when it asks, and until when it is valid.
    """
    ends_at = clock[0] + seconds
    came = [
        (clock[0] + place / per_second, place, DAY_SECONDS if place % 100 == 0 else valid_seconds)
        for place in range(per_second * seconds)
    ]
    due = [(at, place, at + valid, 1) for at, place, valid in came]
    while due[0][0] < ends_at:
        at, place, valid_until, number = heapq.heappop(due)
        clock[0] = max(at, clock[0])
        left = valid_until - clock[0]
        if left > 0:
            (again,) = line.away_seconds([(number, left)])
            at = clock[0] + min(again, max(left / 4, AWAY_SECONDS))
            heapq.heappush(due, (min(at, valid_until), place, valid_until, number + 1))
    clock[0] = ends_at
    return [(at, valid_until) for at, _, valid_until, _ in due if valid_until > ends_at]


def test_what_is_valid_for_a_short_time_does_not_keep_places_that_it_does_not_ask_at(clock):
    """One in a hundred, valid for a day, was due half an hour after the carrier was back, behind nobody."""
    waiting = outage(Line(FIRST_SECONDS), clock, 50, 600.0, 1_500)
    last_seconds = max(at for at, _ in waiting) - clock[0]
    assert last_seconds <= max(PATIENCE_MAX_SECONDS, 1.5 * len(waiting) / AWAY_PER_SECOND)


def test_what_has_asked_before_asks_behind_all_who_wait(clock):
    line = Line(FIRST_SECONDS)
    assert fill(line, 60_000) == pytest.approx(60_000 / AWAY_PER_SECOND)
    assert line.away_seconds([(2, DAY_SECONDS)])[0] > 60_000 / AWAY_PER_SECOND
    assert fill(line, 1_800_000) == AWAY_MAX_SECONDS


def test_what_asks_for_the_first_time_stands_behind_nobody(clock):
    line = Line(FIRST_SECONDS)
    fill(line, 1_000_000)
    assert max(line.away_seconds([(1, DAY_SECONDS)] * 1_000)) <= AWAY_SECONDS
    assert fill(line, 1) == pytest.approx(1_000_001 / AWAY_PER_SECOND), "nor does it take a place"


def test_when_the_carrier_was_back_the_line_begins_anew(clock):
    """Ten minutes after an hour's outage a trip of five seconds made messages wait for 50 minutes."""
    line = Line(FIRST_SECONDS)
    fill(line, 1_000_000)
    clock[0] += BACK_SECONDS / 2
    assert fill(line, 1) > 1_000, "a moment without an asking is not the end of the outage"
    clock[0] += 1.1 * BACK_SECONDS
    assert fill(line, 1) <= AWAY_SECONDS
