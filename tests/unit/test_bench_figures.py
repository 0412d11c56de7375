"""The arithmetic of the bench: a wrong percentile would make every other figure a story."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import percentile, ratio, spread_of
from bench.load import Outcome
from bench.recordings import Counts, Record, read_counts, read_records
from bench.report import Goal, Report


def record(from_us: int, to_us: int, code: int = 202) -> Record:
    return Record(b"\0" * 16, from_us, to_us, code, 0)


def test_a_percentile_is_the_value_of_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 1001)]
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 0.999, 1)] == [1, 500, 990, 999, 1000]


def test_one_value_is_every_percentile() -> None:
    assert [percentile([7.0], share) for share in (0, 0.5, 1)] == [7, 7, 7]


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_so_many_values_do_not_exceed_a_percentile(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_no_values_have_no_percentile_and_no_spread() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no rounds"):
        spread_of([])


def test_a_spread_is_the_median_and_the_ends() -> None:
    found = spread_of([9.0, 1.0, 5.0])
    assert (found.median, found.low, found.high, found.rounds) == (5, 1, 9, 3)
    assert found.width == pytest.approx(1.6)


def test_a_ratio_is_taken_round_by_round() -> None:
    """Both are slow in a slow round, so that their ratio holds still."""
    assert ratio([50.0, 100.0, 10.0], [100.0, 200.0, 20.0]).width == 0


def test_a_ratio_of_unequal_rounds_is_that_of_the_medians() -> None:
    assert ratio([10.0, 30.0, 20.0], [40.0]).median == 0.5


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        ratio([1.0], [0.0])


def test_a_rate_counts_what_was_accepted_from_the_first_request_to_the_last_answer() -> None:
    outcome = Outcome([record(0, 500_000), record(100, 1_000_000, 503), record(200, 2_000_000)])
    assert outcome.rate == 1
    assert outcome.codes == {202: 2, 503: 1}


def test_what_came_in_the_first_seconds_can_be_left_out() -> None:
    outcome = Outcome([record(1_000_000, 1_500_000), record(3_000_000, 3_000_100)])
    assert outcome.after(1).latency_ms(1) == pytest.approx(0.1)


def test_records_and_counts_are_read_as_the_tools_write_them(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(struct.pack("=16sQQII", b"m" * 16, 1, 2, 202, 3) * 2)
    assert read_records(file) == [Record(b"m" * 16, 1, 2, 202, 3)] * 2
    counts = tmp_path / "out.counts"
    assert read_counts(counts) == Counts(0, 0, 0, 0, 0, 0, 0)
    counts.write_bytes(struct.pack("=8Q", *range(1, 9)))
    assert read_counts(counts) == Counts(1, 2, 3, 4, 5, 6, 7)


def test_a_goal_is_reached_met_or_missed() -> None:
    assert [Goal(4_000, 8_000).verdict(value) for value in (9_000, 4_000, 3_999)] == [
        "reached",
        "met",
        "missed",
    ]
    at_most = Goal(20, 8, at_most=True)
    assert [at_most.verdict(value) for value in (8, 20, 21)] == ["reached", "met", "missed"]


def test_a_figure_is_judged_by_itself_or_by_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    goals = (Goal(0.5, 0.85, of_ratio=True), Goal(4_000, 8_000))
    figure = Report().add("end to end", "msg/s", [4_500.0], against=("prototype", [5_000.0]), goals=goals)
    assert [verdict.rpartition(": ")[2] for verdict in figure.verdicts] == ["reached", "met"]
    assert "0.90 x prototype (5,000)" in capsys.readouterr().out
