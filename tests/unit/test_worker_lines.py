"""Who waits for a slow carrier, and when what was put off comes back."""

from itertools import repeat

import pytest

from worker.lines import (
    BUNDLES_MAX,
    EARLY_FACTOR,
    FIRST_EXPRESS_SECONDS,
    FIRST_SECONDS,
    HEARD_SECONDS,
    LINE_SECONDS,
    OTHERS_SECONDS,
    PUT_OFF_MAX_SECONDS,
    SHORT_SECONDS,
    Line,
    Lines,
    Wait,
)

ONE = "0" * 32


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    now = [1_000.0]
    monkeypatch.setattr("worker.lines.time.monotonic", lambda: now[0])
    return now


def work(number: int) -> list[tuple[str, int]]:
    return list(repeat((ONE, 1), number))


def put_off(
    line: Line, numbers: list[int], per_second: float, rest: float = 0.0, *, is_steady: bool = False
) -> list[float]:
    with line.wait([], 1) as nothing:
        return line.put_off_seconds(nothing, numbers, per_second, rest, is_steady=is_steady)[0]


def test_work_comes_back_a_little_before_a_slow_carrier_gets_to_it(clock):
    line = Line(FIRST_SECONDS)
    assert put_off(line, [1] * 10, 2.0)[-2:] == [4.5 * EARLY_FACTOR, 5.0 * EARLY_FACTOR]
    clock[0] += 1.0
    assert put_off(line, [1], 2.0) == [4.5 * EARLY_FACTOR], "it stands behind the others"
    line = Line(FIRST_SECONDS)
    with line.wait(work(10), 1) as first, line.wait(work(99), 1):
        first.advance(4)
        seconds, _ = line.put_off_seconds(first, [1], 2.0, 0.0, is_steady=True)
        assert seconds == [3.5 * EARLY_FACTOR], "and behind what stays before it"


def test_nobody_stands_behind_what_did_not_have_to_be_put_off(clock):
    line = Line(FIRST_SECONDS)
    with line.wait([], 1) as nothing:
        put_off(line, [1] * 10, 2.0)
        _, counted = line.put_off_seconds(nothing, [1] * 40, 2.0, 0.0, is_steady=False)
        assert counted == 40.0
        line.forget(counted)
        assert put_off(line, [1], 2.0) == [5.5 * EARLY_FACTOR]
        _, counted = line.put_off_seconds(nothing, [1] * 100, 2.0, 0.0, is_steady=False)
        assert counted == 2.0 * FIRST_SECONDS * 2 - 11, "no more than is remembered"


def test_what_is_put_off_stands_behind_no_more_than_may_stay(clock):
    line = Line(FIRST_SECONDS)
    with line.wait(work(10_000), 100), line.wait(work(1), 1) as last:
        (seconds,), _ = line.put_off_seconds(last, [1], 2.0, 0.0, is_steady=True)
    assert seconds == (LINE_SECONDS + 0.5) * EARLY_FACTOR


def test_a_carrier_that_is_quicker_than_before_gets_to_all_sooner(clock):
    line = Line(FIRST_SECONDS)
    put_off(line, [1] * 1_000, 1.0, is_steady=True)
    assert put_off(line, [1], 100.0, is_steady=True)[0] <= 10.01 * EARLY_FACTOR


def test_nothing_comes_back_while_a_carrier_rests(clock):
    """Twenty messages and a minute's rest were put off six hundred times."""
    line = Line(FIRST_SECONDS)
    for number in range(1, 10):
        assert min(put_off(line, [number] * 20, 100.0, 60.0)) > 60.0
        clock[0] += 60.0


@pytest.mark.parametrize("first_seconds", [FIRST_SECONDS, FIRST_EXPRESS_SECONDS])
def test_nothing_stays_away_for_much_longer_than_it_has_waited_already(clock, first_seconds):
    for number in (1, 2, 5, 7, 10_000):
        most = min(first_seconds * 2 ** min(number, 7), PUT_OFF_MAX_SECONDS)
        line = Line(first_seconds)
        put_off(line, [number] * 10_000, 1.0)  # hours of work stand before
        seconds = put_off(line, [number] * 100, 1.0)
        assert most / 2 <= min(seconds) < max(seconds) <= most, "and it is spread"


def test_where_the_carrier_is_as_ever_each_comes_back_in_its_time(clock):
    line = Line(FIRST_SECONDS)
    assert put_off(line, [1] * 1_000, 1.0, is_steady=True)[-1] == 1_000.0 * EARLY_FACTOR
    assert max(put_off(line, [1] * 10_000, 1.0, is_steady=True)) <= PUT_OFF_MAX_SECONDS


def test_what_comes_back_for_nothing_stays_away_longer_each_time(clock):
    for number, least in [(1, 1.0), (2, 2.0), (3, 4.0), (10_000, 4.0)]:
        assert least <= put_off(Line(FIRST_SECONDS), [number], 1_000.0)[0] <= 8.0


def test_who_is_soon_served_stays_and_the_end_of_a_long_line_leaves(clock):
    line = Line(FIRST_SECONDS)
    with line.wait(work(40), 1) as first, line.wait(work(300), 3) as second, line.wait(work(9), 1) as last:
        assert [line.surplus(wait, 10.0, 0.0) for wait in (first, second, last)] == [0, 0, 0]
        assert [line.surplus(wait, 2.0, 0.0) for wait in (first, second, last)] == [0, 280, 9]
        assert [line.surplus(wait, 2.0, 45.0) for wait in (first, second, last)] == [40, 300, 9]
        assert len(second.cut(280)) == 280
        assert line.surplus(second, 2.0, 0.0) == 0
        assert line.surplus(second, 1.0 + 1e-9, 0.0) == 0, "it is not cut again for a little less"
        assert line.surplus(last, 60.0 / LINE_SECONDS, 0.0) == 9


def test_what_was_cut_or_has_places_waits_no_more(clock):
    numbered = [(ONE, number) for number in range(10)]
    with Line(FIRST_SECONDS).wait(numbered, 1) as wait:
        wait.advance(3)
        assert wait.cut(2) == numbered[8:]
        assert wait.left == 5
        assert wait.first(2) == numbered[3:5]
        assert wait.first(100) == numbered[3:8]


def test_what_is_wanted_first_comes_before_all_that_waits():
    numbered = [(ONE, number) for number in range(5)]
    wait = Wait(numbered, 1)
    wait.advance(1)
    wait.cut(1)
    wait.bring_forward(lambda one: one[1] in (0, 3, 4))
    assert sorted(wait.first(5)) == numbered[1:4]
    assert wait.first(1) == numbered[3:4]
    wait.bring_forward(lambda one: one[1] == 4)
    assert wait.first(1) == numbered[3:4], "what was cut is not there"
    assert numbered == [(ONE, number) for number in range(5)]


def test_too_many_bundles_are_too_much_however_little_is_in_them(clock):
    line = Line(FIRST_SECONDS)
    with line.wait(work(BUNDLES_MAX), BUNDLES_MAX) as first, line.wait(work(1), 1) as last:
        assert (line.is_crowded(first), line.is_crowded(last)) == (False, True)
        first.advance(BUNDLES_MAX)
        assert not line.is_crowded(last), "what has its places waits no more"


def test_a_line_is_judged_when_somebody_has_stood_in_it_for_a_while(clock):
    line = Line(FIRST_SECONDS)
    with line.wait(work(1), 1):
        assert line.is_young()
        clock[0] += SHORT_SECONDS
        with line.wait(work(1), 1):
            assert not line.is_young()
    assert line.is_young()


def test_a_lane_is_one_carriers_own_until_anothers_work_comes_by(clock):
    lines = Lines()
    for lane, carrier_id in [("normal", 1), ("express", 2)]:
        with lines.at(lane, carrier_id).wait(work(1), 1):
            pass
    assert lines.is_alone("normal", 1)
    with lines.at("normal", 2).wait(work(1), 1):
        pass
    assert not lines.is_alone("normal", 1)
    clock[0] += OTHERS_SECONDS + 1.0
    assert lines.is_alone("normal", 1)


def test_what_was_heard_counts_until_the_longest_backlog_before_it_is_put_off(clock):
    lines = Lines()
    lines.note("normal", 2)
    assert lines.is_alone("normal", 2)
    clock[0] += OTHERS_SECONDS + 1.0
    with lines.at("normal", 2).wait(work(1), 1):
        clock[0] += HEARD_SECONDS - OTHERS_SECONDS - 2.0
    assert not lines.is_alone("normal", 1), "more of it may be on the way"
    clock[0] += 2.0
    assert lines.is_alone("normal", 1)


def test_a_lane_is_quick_again_when_nobody_has_waited_in_it_for_a_minute(clock):
    lines = Lines()
    with lines.at("normal", 1).wait(work(1), 1):
        assert lines.is_quick("normal")
        clock[0] += SHORT_SECONDS
        assert not lines.is_quick("normal")
        assert lines.is_quick("bulk")
    with lines.at("normal", 1).wait(work(1), 1):
        clock[0] += OTHERS_SECONDS / 2
    clock[0] += OTHERS_SECONDS - 1.0
    assert not lines.is_quick("normal"), "who comes in while the next wait is young is heard"
    clock[0] += 1.0
    assert lines.is_quick("normal")


def test_an_express_lane_is_no_carriers_own_before_it_was_watched_for_a_minute(clock):
    lines = Lines()
    with lines.at("express", 1).wait(work(1), 1):
        assert not lines.is_alone("express", 1)
        clock[0] += OTHERS_SECONDS
        assert lines.is_alone("express", 1)
