"""What a client is told when something behind the API fails: one table, used wherever an answer is made."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from api.problems import Refusal, invalid_field
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Busy, DeadlinePassed
from shared.runtime.postgres import Connection, Pool
from shared.runtime.server_calls import OutcomeUnknown, is_lost, is_retryable

# A database that fails over is back in seconds; a client that asks sooner only adds to the rush.
UNAVAILABLE_RETRY_SECONDS = 5


def refusal_for(error: Exception, *, may_be_done: bool) -> Refusal:
    """Return what the client is told about an error; what is no known trouble is an internal error.

    ``may_be_done``: a change was asked for and begun. A connection that broke then leaves open whether it was
    made, and "nothing was accepted" is said only when that is certain (RULES 4).
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OutcomeUnknown):
        return _lost(may_be_done=may_be_done and error.was_sent)
    if isinstance(error, DeadlinePassed):
        return _lost(may_be_done=may_be_done) if error.was_flushed else Refusal(ProblemCode.BUSY)
    if isinstance(error, Busy):
        return Refusal(ProblemCode.BUSY)
    if isinstance(error, asyncpg.DataError | asyncpg.CharacterNotInRepertoireError | UnicodeEncodeError):
        # What the shape of a request cannot say: PostgreSQL stores no U+0000, UTF-8 no unpaired surrogate.
        return invalid_field(
            "request", "must hold no U+0000, no unpaired surrogate and no number out of range"
        )
    if is_away(error) or is_retryable(error):  # a lock that did not come is no fault of ours or the client's
        return _lost(may_be_done=may_be_done)
    return Refusal(ProblemCode.INTERNAL_ERROR)


def is_away(error: Exception) -> bool:
    """True when the database was not reached, or went away before its answer came."""
    return isinstance(error, asyncpg.InterfaceError | OutcomeUnknown | TimeoutError) or is_lost(error)


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for a request's first change: that there is none means that nothing was done.

    Raises:
        OutcomeUnknown: no connection was had; what fails later is raised as it is.
    """
    try:
        connection = await pool.acquire()
    except Exception as error:
        if not is_away(error):
            raise
        raise OutcomeUnknown("connect", was_sent=False) from error
    try:
        yield connection
    finally:
        await pool.release(connection)


def _lost(*, may_be_done: bool) -> Refusal:
    code = ProblemCode.OUTCOME_UNKNOWN if may_be_done else ProblemCode.UNAVAILABLE
    return Refusal(code, retry_after_seconds=UNAVAILABLE_RETRY_SECONDS)
