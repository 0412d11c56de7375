"""What one answer says of the endpoint that gave it. Pure."""

from datetime import datetime
from http import HTTPStatus

from dlr.breaker import OPEN_SECONDS_MIN
from shared.domain.callbacks import Outcome, Posted, retry_after_seconds


def wanted_seconds(outcome: Outcome, now: datetime) -> float | None:
    """How long the endpoint asks to be left alone; 410 means for good, and the caller will say so."""
    if not isinstance(outcome, Posted):
        return None
    if outcome.status == HTTPStatus.GONE:
        return OPEN_SECONDS_MIN
    if outcome.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return retry_after_seconds(outcome.retry_after, now)
    return None


def is_gone_there(host: str, outcome: Outcome) -> bool:
    """True for a 410 at a message's own URL: its host lives, and answers for others of its URLs."""
    return bool(host) and isinstance(outcome, Posted) and outcome.status == HTTPStatus.GONE
