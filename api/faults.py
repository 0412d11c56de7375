"""What a client is told when something behind the API fails: one table, used wherever an answer is made."""

import asyncpg

from api.problems import Refusal, invalid_field
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Busy, DeadlinePassed
from shared.runtime.server_calls import OutcomeUnknown, is_lost

# A database that fails over is back in seconds; a client that asks sooner only adds to the rush.
UNAVAILABLE_RETRY_SECONDS = 5


def refusal_for(error: Exception) -> Refusal:
    """Return what the client is told about an error; what is no known trouble is an internal error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OutcomeUnknown):
        return Refusal(ProblemCode.OUTCOME_UNKNOWN) if error.was_sent else _unavailable()
    if isinstance(error, DeadlinePassed):
        return Refusal(ProblemCode.OUTCOME_UNKNOWN if error.was_flushed else ProblemCode.BUSY)
    if isinstance(error, Busy):
        return Refusal(ProblemCode.BUSY)
    if isinstance(error, asyncpg.DataError | asyncpg.CharacterNotInRepertoireError | UnicodeEncodeError):
        # What the shape of a request cannot say: PostgreSQL stores no U+0000, UTF-8 no unpaired surrogate.
        return invalid_field(
            "request", "must hold no U+0000, no unpaired surrogate and no number out of range"
        )
    if isinstance(error, asyncpg.InterfaceError | TimeoutError) or is_lost(error):
        return _unavailable()
    return Refusal(ProblemCode.INTERNAL_ERROR)


def _unavailable() -> Refusal:
    return Refusal(ProblemCode.UNAVAILABLE, retry_after_seconds=UNAVAILABLE_RETRY_SECONDS)
