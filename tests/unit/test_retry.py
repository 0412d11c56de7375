from statistics import median

import pytest

from api.schemas import VALID_FOR_MAX_SECONDS
from shared.domain.retry import (
    ATTEMPTS_MAX,
    BACKOFF_SECONDS_MAX,
    CALLBACK_ATTEMPTS_MAX,
    CALLBACK_RETRY_AFTER_SECONDS_MAX,
    CALLBACK_SCHEDULE_SECONDS,
    backoff_seconds,
    callback_delay_seconds,
    patience_seconds,
)
from worker.carriers.base import BUSY, Refused, Throttled
from worker.words import verdict

SMALLINT_MAX = 2**15 - 1
ALMOST_ONE = 1 - 2**-53


def test_the_backoff_doubles_from_a_second_to_a_quarter_of_an_hour():
    assert ATTEMPTS_MAX == 10
    assert [backoff_seconds(attempt, 0.0) for attempt in (1, 5, 10, 1_000)] == [1.0] * 4
    longest = [round(backoff_seconds(attempt, ALMOST_ONE)) for attempt in range(1, ATTEMPTS_MAX + 1)]
    assert longest == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900]


def test_the_backoff_of_any_attempt_has_its_ceiling():
    assert backoff_seconds(10**9, ALMOST_ONE) <= BACKOFF_SECONDS_MAX == 900


def test_a_callback_is_first_posted_at_once():
    assert callback_delay_seconds(0, ALMOST_ONE, None) == 0


def test_a_callback_is_tried_for_three_days_and_then_given_up():
    delays = [callback_delay_seconds(attempt, 0.0, None) for attempt in range(CALLBACK_ATTEMPTS_MAX)]
    assert delays == list(CALLBACK_SCHEDULE_SECONDS)
    assert sum(CALLBACK_SCHEDULE_SECONDS) >= 3 * 24 * 3_600
    assert callback_delay_seconds(CALLBACK_ATTEMPTS_MAX, 0.5, None) is None


def test_retry_after_lengthens_a_wait_and_never_shortens_it():
    assert callback_delay_seconds(1, 0.0, 120) == 120
    assert callback_delay_seconds(5, 0.0, 120) == 7_200
    assert callback_delay_seconds(1, 0.0, 0) == 5
    assert callback_delay_seconds(1, 0.0, -30) == 5
    assert callback_delay_seconds(1, 0.0, float("nan")) == 5


def test_retry_after_is_honoured_up_to_a_day():
    assert callback_delay_seconds(1, 0.0, 30 * 86_400) == CALLBACK_RETRY_AFTER_SECONDS_MAX == 86_400
    assert callback_delay_seconds(1, 0.0, float("inf")) == CALLBACK_RETRY_AFTER_SECONDS_MAX
    assert callback_delay_seconds(10, 0.5, 30 * 86_400) == 86_400 * 1.1


def test_retry_after_gives_no_further_attempts():
    assert callback_delay_seconds(CALLBACK_ATTEMPTS_MAX, 0.0, 60) is None


@pytest.mark.parametrize("jitter", [-0.1, 1.0, float("nan")])
def test_jitter_is_a_share_below_one(jitter):
    with pytest.raises(ValueError, match="jitter"):
        backoff_seconds(1, jitter)
    with pytest.raises(ValueError, match="jitter"):
        callback_delay_seconds(1, jitter, None)


def test_attempts_count_from_their_first():
    with pytest.raises(ValueError, match="from 1"):
        backoff_seconds(0, 0.0)
    with pytest.raises(ValueError, match="from 0"):
        callback_delay_seconds(-1, 0.0, None)


def test_a_carrier_that_is_away_is_asked_less_and_less_often():
    waits = [patience_seconds(claims, 5.0) for claims in range(1, 12)]
    assert waits == [5.0] * 5 + [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert patience_seconds(30_000, 300.0) == 300.0, "what the carrier asks for is never cut short"


def test_the_longest_life_of_a_message_fits_into_its_counters():
    """Of a carrier that wants us slower with every claim, and names as short a wait as it can."""
    seconds, claims = 0.0, 0
    while seconds < VALID_FOR_MAX_SECONDS:
        claims += 1
        seconds += verdict(Throttled(0.001), 1, claims, seconds)[-1]
    assert 2 * claims + 10 < SMALLINT_MAX, "a claim and its end raise the sequence by one each"


def test_what_found_no_connection_uses_up_no_try():
    """Nothing was written, however often: a slow carrier's messages wait, and are no dead letters."""
    for _ in range(200):
        word, error, detail, wait_seconds = verdict(
            Refused(BUSY, "none was free", permanent=False, is_ours=True), 9, 1, 30.0
        )
        assert (word, error, detail) == ("throttled", BUSY, "none was free")
        assert 1.0 <= wait_seconds < 2.0


def test_a_carriers_own_code_is_not_taken_for_ours():
    """It has answered, whatever it calls that: its refusals are tries, and end after ten."""
    for permanent, word in [(False, "refused_temp"), (True, "refused_perm")]:
        answered = verdict(Refused(BUSY, "a carrier's own word", permanent=permanent), 1, 1, 0.0)
        assert answered[:3] == (word, BUSY, "a carrier's own word")


def test_a_first_refusal_after_many_lost_answers_is_no_ninth_one():
    """A lost answer asked for every two seconds is a try each time; the refusal after them waited 512 s."""
    for _ in range(200):
        wait_seconds = verdict(Refused("try_again", "", permanent=False), 9, 9, 16.0)[-1]
        assert 1.0 <= wait_seconds <= 32.0
        assert 1.0 <= verdict(Refused("try_again", "", permanent=False), 9, 9, -3_600.0)[-1] <= 2.0


def test_refusals_alone_are_spread_as_the_backoff_has_it():
    """What a message waits before its last try, in the median: 518 s by the backoff alone, 473 s so."""
    drawn = []
    for _ in range(200):
        age_seconds = 0.0
        for tries in range(1, 10):
            age_seconds += verdict(Refused("no", "", permanent=False), tries, tries, age_seconds)[-1]
        drawn.append(age_seconds)
    assert median(drawn) > 400.0
