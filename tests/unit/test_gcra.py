"""The limit's arithmetic, and the process's own bookkeeping of it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.gcra import MICROSECONDS, LocalLimiter, Quota, Taken, decide

QUOTAS = st.builds(Quota, st.integers(1, 1_000_000), st.integers(1, 1_000))
START = 1_800_000_000 * MICROSECONDS


@given(QUOTAS, st.lists(st.integers(0, 120 * MICROSECONDS), max_size=200))
def test_no_window_ever_takes_more_than_the_burst_and_what_flowed_in(quota, gaps):
    limiter, now, taken = LocalLimiter(), float(START), []
    for gap in gaps:
        now += gap
        if limiter.take("a", quota, now).is_allowed:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            flowed = (taken[last] - taken[first]) / quota.interval_us
            assert last - first + 1 <= quota.burst + flowed + 1e-3


@given(QUOTAS, st.integers(0, 50))
def test_a_refused_request_may_come_after_its_wait_and_not_before(quota, extra):
    limiter, now = LocalLimiter(), float(START)
    refused = limiter.take("a", quota, now)
    for _ in range(quota.burst - 1 + extra):
        refused = limiter.take("a", quota, now)
    if not refused.is_allowed:
        assert not limiter.peek("a", quota, now + refused.retry_us - 2).is_allowed
        assert limiter.take("a", quota, now + refused.retry_us + 1).is_allowed


@given(QUOTAS)
def test_what_is_left_counts_down_to_nothing(quota):
    limiter = LocalLimiter()
    left = [limiter.take("a", quota, float(START)).remaining for _ in range(quota.burst)]
    assert left == list(range(quota.burst - 1, -1, -1))


@given(QUOTAS)
def test_a_slot_that_comes_back_can_be_used(quota):
    limiter = LocalLimiter()
    for _ in range(quota.burst):
        limiter.take("a", quota, float(START))
    assert not limiter.peek("a", quota, float(START)).is_allowed
    limiter.give_back("a", quota)
    assert limiter.take("a", quota, float(START)).is_allowed


def test_subjects_do_not_share_and_the_longest_unused_is_forgotten():
    limiter, quota = LocalLimiter(subjects_max=2), Quota(60, 1)
    assert limiter.take("a", quota, float(START)).is_allowed
    assert limiter.take("b", quota, float(START)).is_allowed
    assert not limiter.take("a", quota, float(START)).is_allowed
    limiter.take("c", quota, float(START))
    assert len(limiter) == 2
    assert limiter.take("b", quota, float(START)).is_allowed


def test_a_refused_request_uses_nothing_up():
    refused, tat = decide(START + 10 * MICROSECONDS, START, MICROSECONDS, 10)
    assert not refused.is_allowed
    assert tat == START + 10 * MICROSECONDS


@given(QUOTAS, st.integers(0, 86_400 * MICROSECONDS), st.integers(1, 1_000))
def test_what_lies_beyond_a_whole_burst_is_as_its_end(quota, ahead_us, count):
    """A clock that went back, or a quota that was raised, keeps nobody out for longer than a used burst."""
    end = START + quota.burst * quota.interval_us
    found = decide(START + ahead_us, START, quota.interval_us, quota.burst, count)
    assert found == decide(min(START + ahead_us, end), START, quota.interval_us, quota.burst, count)
    assert found[1] <= end
    assert found[0].retry_us <= count * quota.interval_us


def test_a_raised_quota_is_in_force_though_a_burst_of_the_old_one_is_used_up():
    limiter, raised = LocalLimiter(), Quota(requests_per_minute=10_000, burst=1_000)
    assert limiter.take("a", Quota(requests_per_minute=60, burst=1_000), float(START), 1_000).is_allowed
    refused = limiter.take("a", raised, float(START))
    assert refused == Taken(False, 0, raised.burst * raised.interval_us, raised.interval_us)
    assert limiter.take("a", raised, START + raised.interval_us).is_allowed


def test_a_quota_says_how_long_its_burst_takes_to_come_back():
    assert Quota(requests_per_minute=10_000, burst=1_000).burst_window_seconds == 6
    assert Quota(requests_per_minute=60, burst=1).burst_window_seconds == 1
