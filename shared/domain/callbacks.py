"""What came of one POST of a callback, and what to do next. Pure: outcomes in, a decision out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from shared.domain.retry import callback_delay_seconds

# An HTTP date has 29 characters; a number of seconds that is longer is not meant.
RETRY_AFTER_LENGTH_MAX = 40


class RejectReason(StrEnum):
    """Why no HTTP answer came. Stored in the attempt log, so a word keeps its meaning."""

    URL_REFUSED = "url_refused"
    ADDRESS_BLOCKED = "address_blocked"
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    CLOSED_EARLY = "closed_early"
    ANSWER_MALFORMED = "answer_malformed"
    ANSWER_TOO_LARGE = "answer_too_large"
    NO_CONNECTION_FREE = "no_connection_free"


@dataclass(frozen=True, slots=True)
class Posted:
    """The endpoint answered.

    ``answer_head`` is the start of the answer's body, at most 1 KB, for a client that has opted in to seeing
    it. ``retry_after`` is that header as it came.
    """

    status: int
    duration_ms: int
    resolved_ip: str
    answer_head: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """No HTTP answer came. ``detail`` may be shown to the client: it names no address inside our network."""

    reason: RejectReason
    detail: str
    duration_ms: int
    resolved_ip: str | None = None


Outcome = Posted | Rejected


@dataclass(frozen=True, slots=True)
class Done:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Send the same callback again, with the same id, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The schedule has ended. The callback is kept and can be replayed."""


@dataclass(frozen=True, slots=True)
class DisableEndpoint:
    """The endpoint said 410 Gone: switch it off, keep its callbacks for a replay."""


Decision = Done | RetryIn | GiveUp | DisableEndpoint


def is_success(outcome: Outcome) -> bool:
    """Return whether the endpoint took the callback: 2xx and nothing else. A redirect is a failure."""
    return isinstance(outcome, Posted) and 200 <= outcome.status <= 299


def decide(outcome: Outcome, attempt_no: int, jitter: float, now: datetime) -> Decision:
    """Return what follows from an outcome.

    ``attempt_no`` counts the POSTs made, this one included, from 1. ``jitter`` is in [0, 1).
    Source: Standard Webhooks 1.0.0, "Delivery success and failure".
    """
    if is_success(outcome):
        return Done()
    retry_after = None
    if isinstance(outcome, Posted):
        if outcome.status == HTTPStatus.GONE:
            return DisableEndpoint()
        retry_after = retry_after_seconds(outcome.retry_after, now)
    delay_seconds = callback_delay_seconds(attempt_no, jitter, retry_after)
    return GiveUp() if delay_seconds is None else RetryIn(delay_seconds)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, from now; None if there is none to understand.

    Both forms of RFC 9110: a number of seconds, or an HTTP date. One in the past asks for nothing: 0.
    """
    if header is None or len(header) > RETRY_AFTER_LENGTH_MAX:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        # A date without a zone ("-0000") comes back naive; HTTP dates are always in UTC.
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
