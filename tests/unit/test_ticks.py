"""Waits that end at the same moments."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime import ticks
from shared.runtime.ticks import TICK_MS, until_tick

SECONDS = TICK_MS / 1_000


@given(st.floats(min_value=SECONDS, max_value=600))
def test_a_wait_is_never_longer_than_asked_and_shorter_by_a_tick_at_most(seconds: float) -> None:
    waited = until_tick(seconds)
    assert seconds / 2 - 0.001 <= waited <= seconds
    assert waited >= seconds - SECONDS - 0.001


@pytest.mark.parametrize("phase_ms", [0, 1, TICK_MS // 2, TICK_MS - 1])
@pytest.mark.parametrize("seconds", [1.0, 1.3, 30.0])
def test_waits_that_begin_at_different_moments_end_in_the_same_one(
    monkeypatch: pytest.MonkeyPatch, phase_ms: int, seconds: float
) -> None:
    monkeypatch.setattr(ticks, "_PHASE_MS", phase_ms)
    ends = set()
    for now_ms in range(100_000, 100_000 + TICK_MS):
        monkeypatch.setattr(time, "monotonic", lambda now_ms=now_ms: (now_ms + 0.4) / 1_000)
        ends.add(now_ms + round(until_tick(seconds) * 1_000))
    assert {end % TICK_MS for end in ends} == {phase_ms}
    assert max(ends) - min(ends) <= TICK_MS


@pytest.mark.parametrize(("work_ms", "waited"), [(0, 0.5), (3, 0.497), (250, 0.25), (251, 0.5), (499, 0.5)])
def test_what_works_long_rests_as_long_as_was_asked(
    monkeypatch: pytest.MonkeyPatch, work_ms: int, waited: float
) -> None:
    monkeypatch.setattr(ticks, "_PHASE_MS", 0)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0 + (work_ms + 0.4) / 1_000)
    assert until_tick(0.5) == waited


def test_a_short_wait_stays_as_it_is() -> None:
    for seconds in (0.0, 0.02, SECONDS - 0.001):
        assert until_tick(seconds) == seconds
