"""Waits that end at the same moments."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.ticks import TICK_MS, until_tick

SECONDS = TICK_MS / 1_000


@given(st.floats(min_value=SECONDS, max_value=600))
def test_a_wait_is_as_long_as_asked_but_for_half_a_tick(seconds: float) -> None:
    assert until_tick(seconds) == pytest.approx(seconds, abs=SECONDS / 2 + 0.001)


def test_waits_that_begin_at_different_moments_end_in_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = set()
    for now_ms in range(100_000, 100_000 + TICK_MS):
        monkeypatch.setattr(time, "monotonic_ns", lambda now_ms=now_ms: now_ms * 1_000_000 + 999_999)
        ends.add(now_ms + round(until_tick(1.0) * 1_000))
    assert len(ends) == 2
    assert max(ends) - min(ends) == TICK_MS


def test_a_short_wait_stays_as_it_is() -> None:
    for seconds in (0.0, 0.02, SECONDS - 0.001):
        assert until_tick(seconds) == seconds


def test_a_wait_never_ends_before_it_has_begun() -> None:
    for _ in range(1_000):
        assert until_tick(SECONDS) >= SECONDS / 2 - 0.001
