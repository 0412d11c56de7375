"""What follows from an endpoint's answer."""

from datetime import UTC, datetime

import pytest

from shared.domain.callbacks import (
    Decision,
    DisableEndpoint,
    Done,
    GiveUp,
    Posted,
    Rejected,
    RejectReason,
    RetryIn,
    decide,
    is_success,
    retry_after_seconds,
)
from shared.domain.retry import CALLBACK_ATTEMPTS_MAX, CALLBACK_SCHEDULE_SECONDS

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
JITTER = 0.0


def answered(status: int, retry_after: str | None = None) -> Posted:
    return Posted(status, 12, "198.51.100.7", b"", retry_after)


def after(outcome: Posted | Rejected, attempt_no: int = 1) -> Decision:
    return decide(outcome, attempt_no, JITTER, NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_any_2xx_is_done(status: int) -> None:
    assert after(answered(status)) == Done()


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 429, 500, 502, 503, 504, 599]
)
def test_everything_else_is_tried_again_and_a_redirect_is_no_success(status: int) -> None:
    assert not is_success(answered(status))
    assert after(answered(status)) == RetryIn(CALLBACK_SCHEDULE_SECONDS[1])


@pytest.mark.parametrize("reason", list(RejectReason))
def test_no_answer_is_tried_again_whatever_the_reason(reason: RejectReason) -> None:
    assert after(Rejected(reason, "", 15_000)) == RetryIn(CALLBACK_SCHEDULE_SECONDS[1])


def test_410_switches_the_endpoint_off_even_at_the_last_attempt() -> None:
    assert after(answered(410)) == DisableEndpoint()
    assert after(answered(410), CALLBACK_ATTEMPTS_MAX) == DisableEndpoint()


def test_the_schedule_is_walked_to_its_end_and_then_given_up() -> None:
    decisions = [after(answered(500), number) for number in range(1, CALLBACK_ATTEMPTS_MAX + 1)]

    assert decisions[:-1] == [RetryIn(seconds) for seconds in CALLBACK_SCHEDULE_SECONDS[1:]]
    assert decisions[-1] == GiveUp()
    assert sum(CALLBACK_SCHEDULE_SECONDS) > 3 * 86_400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("Sat, 21 Nov 2026 10:02:00 GMT", 120.0),
        ("Sat, 21 Nov 2026 10:02:00", 120.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("tomorrow", None),
        ("Sat, 41 Nov 2026 10:02:00 GMT", None),
        ("Sat, 21 Nov 99999 10:02:00 GMT", None),
        ("9" * 41, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@pytest.mark.parametrize("status", [302, 429, 503])
def test_an_endpoint_may_ask_for_a_longer_wait(status: int) -> None:
    assert after(answered(status, "600")) == RetryIn(600.0)


def test_an_endpoint_can_not_ask_for_a_shorter_wait_nor_for_a_month() -> None:
    assert after(answered(503, "0")) == RetryIn(CALLBACK_SCHEDULE_SECONDS[1])
    assert after(answered(503, "9999999999")) == RetryIn(86_400.0)


def test_retry_after_gives_no_further_attempts() -> None:
    assert after(answered(503, "60"), CALLBACK_ATTEMPTS_MAX) == GiveUp()
