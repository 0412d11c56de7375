"""From a carrier's HTTP answer to an outcome: pure, so that every row of the table is a test."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from uuid import UUID

from shared.domain.dotted_path import reader
from shared.domain.http_settings import HttpSettings, Verdict, status_range
from shared.domain.receipt_fields import error_code, plain_text
from worker.carriers.base import Outcome, Refused, Submitted, Throttled, Uncertain

# A carrier that wants us away for longer will tell us again.
RETRY_AFTER_MAX_SECONDS = 3_600.0
# Long enough for a sentence, short enough for a row of attempts.
DETAIL_MAX_CHARS = 200
# As many as there are, with and without a wait.
STATUSES_CACHED = 2_000

# The carrier said no to us rather than to this message (our account, our address, our settings): another
# try after an operator's correction, or another route, may well succeed. 307 and 308 ask to send the same
# elsewhere, so nothing was taken here.
_NOT_THE_MESSAGES_FAULT = frozenset(
    {307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 425, 426, 501, 503, 505, 511}
)
# It may have been taken before somebody gave up on it (408), or it is there already (409).
_MAY_HAVE_BEEN_TAKEN = frozenset({408, 409})
_TOO_MANY_REQUESTS = 429
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Unread:
    """A body that could not be read whole, or not as JSON; why."""

    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its status, its decoded body, and the wait it asks for."""

    status: int
    document: object | Unread
    retry_after_seconds: float | None


def default_verdict(status: int, *, asks_to_wait: bool) -> Verdict:
    """Return what a status means unless the settings say otherwise.

    2xx submitted. 429, and 503 with Retry-After: throttled. Other 4xx: permanent, but for those that speak of
    us and not of the message: temporary. 3xx, 5xx and whatever is unknown: uncertain, since a gateway in
    between says 500, 502 or 504 of messages that were taken. 503 and 501 say that nothing was.
    """
    if 200 <= status <= 299:
        return Verdict.SUBMITTED
    if status == _TOO_MANY_REQUESTS or (status == _UNAVAILABLE and asks_to_wait):
        return Verdict.THROTTLED
    if status in _NOT_THE_MESSAGES_FAULT:
        return Verdict.TEMPORARY
    if 400 <= status <= 499 and status not in _MAY_HAVE_BEEN_TAKEN:
        return Verdict.PERMANENT
    return Verdict.UNCERTAIN


def compile_judge(settings: HttpSettings) -> Callable[[Answer, UUID], Outcome]:
    """Return the function from an answer and our message id to the outcome, by these settings."""
    ranges = sorted(
        ((*status_range(written), verdict) for written, verdict in settings.statuses.items()),
        key=lambda entry: (entry[1] - entry[0], entry[0]),
    )

    read_code = _reader(settings.error_code)
    read_text = _reader(settings.error_text)
    submitted = _compile_submitted(settings)

    @lru_cache(maxsize=STATUSES_CACHED)
    def verdict_of_status(status: int, asks_to_wait: bool) -> Verdict:
        for first, last, verdict in ranges:
            if first <= status <= last:
                return verdict
        return default_verdict(status, asks_to_wait=asks_to_wait)

    def judge(answer: Answer, message_id: UUID) -> Outcome:
        code = error_code(read_code(answer.document))
        if code is not None and code in settings.error_codes:
            verdict = settings.error_codes[code]
        else:
            verdict = verdict_of_status(answer.status, answer.retry_after_seconds is not None)
        if verdict is Verdict.SUBMITTED:
            return submitted(answer, message_id)
        if verdict is Verdict.THROTTLED:
            return Throttled(answer.retry_after_seconds)
        detail = _sentence(answer.status, code, plain_text(read_text(answer.document)))
        if verdict is Verdict.UNCERTAIN:
            return Uncertain(detail)
        return Refused(code or f"http_{answer.status}", detail, permanent=verdict is Verdict.PERMANENT)

    return judge


def retry_after_seconds(written: object | None, now: datetime) -> float | None:
    """Return the wait of a Retry-After (RFC 9110, 10.2.3): seconds or a date; None when it is neither."""
    text = plain_text(written) if not isinstance(written, float) else str(written)
    if text is None:
        return None
    try:
        wait_seconds = float(text)
    except ValueError:
        wait_seconds = _seconds_until(text, now)
    return (
        min(max(wait_seconds, 0.0), RETRY_AFTER_MAX_SECONDS) if wait_seconds == wait_seconds else None
    )  # NaN


def _seconds_until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError, TypeError, IndexError):  # all that the parser makes of odd dates
        return float("nan")


def _compile_submitted(settings: HttpSettings) -> Callable[[Answer, UUID], Outcome]:
    """Return what becomes of an answer that says that the message was taken."""
    read_reference = _reader(settings.reference)
    must_be_read = settings.reference is not None or bool(settings.error_codes)

    def submitted(answer: Answer, message_id: UUID) -> Outcome:
        if must_be_read and isinstance(answer.document, Unread):
            return Uncertain(f"status {answer.status}, but {answer.document.why}")
        if settings.reference is None:
            return Submitted(str(message_id))
        reference = plain_text(read_reference(answer.document))
        if reference is None:
            return Uncertain(f"status {answer.status}, but no reference at {settings.reference!r}")
        return Submitted(reference)

    return submitted


def _reader(path: str | None) -> Callable[[object], object | None]:
    """Return what reads a path of a document; nothing lies in one that was not read, or at no path."""
    return reader(path) if path is not None else lambda _: None


def _sentence(status: int, code: str | None, text: str | None) -> str:
    parts = (f"status {status}", code and f"code {code}", text)
    return ", ".join(part for part in parts if part)[:DETAIL_MAX_CHARS]
