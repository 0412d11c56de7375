"""What is noted of a callback: of a try, and of what ends it or puts it off without one."""

from typing import Final

from dlr.store import CallbackRecord, CallbackWork
from shared.domain.callbacks import Outcome, Posted

ANSWER_KEPT_BYTES: Final = 1024
# What the column of tries holds; a callback that is replayed again and again is counted no further.
ATTEMPTS_MAX: Final = 32_767
# An endpoint without a usable secret is looked at again when its operator has mended it.
NO_SECRET_SECONDS: Final = 300.0
# What met a URL that its endpoint has left goes to the new one.
MOVED_SECONDS: Final = 1.0
# What found no connection or look-up free here comes again, and that was no try of it.
NO_CONNECTION_SECONDS: Final = 5.0


def next_attempt(work: CallbackWork) -> int:
    """The number of the try that is made now, from 1."""
    return min(work.attempts + 1, ATTEMPTS_MAX)


def tried(
    work: CallbackWork, outcome: Outcome, ending: str | None, retry_seconds: float, *, keeps_answer: bool
) -> CallbackRecord:
    """A post and what came of it; ``ending`` None: it comes again in ``retry_seconds``."""
    status, head, error = None, None, None
    if isinstance(outcome, Posted):
        status = outcome.status
        head = outcome.answer_head[:ANSWER_KEPT_BYTES] if keeps_answer else None
        error = None if ending == "delivered" else f"HTTP {outcome.status}"
    else:
        error = f"{outcome.reason.value}: {outcome.detail}"
    return CallbackRecord(
        work.callback_id,
        next_attempt(work),
        ending,
        status,
        error,
        outcome.duration_ms,
        outcome.resolved_ip,
        head,
        retry_seconds,
    )


def moved(work: CallbackWork, outcome: Outcome) -> CallbackRecord:
    """A failed try at a URL that the endpoint has left: it comes again, to the new one."""
    return tried(work, outcome, None, MOVED_SECONDS, keeps_answer=False)


def ended(work: CallbackWork, outcome: str) -> CallbackRecord:
    """It is not told any more, and that was no try."""
    return CallbackRecord(work.callback_id, work.attempts, outcome, None, None, None, None, None, 0.0)


def barred(work: CallbackWork, host: str) -> CallbackRecord:
    """It names a host that was taken off its client's list."""
    error = f"host_not_allowed: {host} is not registered any more"
    return CallbackRecord(work.callback_id, next_attempt(work), "gave_up", None, error, None, None, None, 0.0)


def without_secret(work: CallbackWork) -> CallbackRecord:
    """Nothing signs it: a failed try, and it comes again."""
    return _again(work, next_attempt(work), "no_secret", NO_SECRET_SECONDS)


def without_connection(work: CallbackWork) -> CallbackRecord:
    """There was no connection or look-up for it: it comes again soon."""
    return _again(work, work.attempts, None, NO_CONNECTION_SECONDS)


def sent_back(work: CallbackWork, seconds: float) -> CallbackRecord:
    """It found no turn: it comes again when there may be one."""
    return _again(work, work.attempts, None, seconds)


def left(work: CallbackWork) -> CallbackRecord:
    """Its endpoint left the URL while it waited for a turn: it comes again soon, to the new one."""
    return _again(work, work.attempts, None, MOVED_SECONDS)


def _again(work: CallbackWork, attempt_no: int, error: str | None, seconds: float) -> CallbackRecord:
    return CallbackRecord(work.callback_id, attempt_no, None, None, error, None, None, None, seconds)
