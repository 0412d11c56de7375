from hypothesis import given
from hypothesis import strategies as st

from shared.domain.retry import (
    CALLBACK_ATTEMPTS_MAX,
    CALLBACK_JITTER_SHARE,
    CALLBACK_RETRY_AFTER_SECONDS_MAX,
    CALLBACK_SCHEDULE_SECONDS,
    backoff_seconds,
    callback_delay_seconds,
)

jitters = st.floats(0, 1, exclude_max=True)
callback_attempts = st.integers(0, CALLBACK_ATTEMPTS_MAX - 1)
retry_afters = st.none() | st.floats(allow_nan=True)


@given(st.integers(1, 10_000), jitters)
def test_a_backoff_is_a_second_to_its_ceiling(attempt, jitter):
    assert 1 <= backoff_seconds(attempt, jitter) <= min(900, 2**attempt)


@given(st.integers(1, 20), jitters, jitters)
def test_a_backoff_grows_with_its_jitter_and_its_attempt(attempt, one, other):
    small, large = sorted((one, other))
    assert backoff_seconds(attempt, small) <= backoff_seconds(attempt, large)
    assert backoff_seconds(attempt, small) <= backoff_seconds(attempt + 1, small)


@given(callback_attempts, jitters, retry_afters)
def test_a_callback_waits_its_step_at_least_and_a_day_and_its_jitter_at_most(attempt, jitter, retry_after):
    delay = callback_delay_seconds(attempt, jitter, retry_after)
    assert delay is not None
    assert CALLBACK_SCHEDULE_SECONDS[attempt] <= delay
    assert delay <= CALLBACK_RETRY_AFTER_SECONDS_MAX * (1 + CALLBACK_JITTER_SHARE)


@given(callback_attempts, jitters, st.floats(0, CALLBACK_RETRY_AFTER_SECONDS_MAX))
def test_a_wish_up_to_a_day_is_never_undercut(attempt, jitter, retry_after):
    delay = callback_delay_seconds(attempt, jitter, retry_after)
    assert delay is not None
    assert delay >= retry_after
