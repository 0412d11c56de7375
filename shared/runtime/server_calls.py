"""The call of a server function that knows its outcome (RULES 1 and 4)."""

import asyncio
import random
import re
import time
from functools import lru_cache
from typing import Any, Final, TypeAlias

import asyncpg

from shared.runtime import metrics

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

# One TCP and TLS handshake with a server that is alive takes well under a second.
CONNECT_SECONDS: Final = 5.0
# A little more than the roles' statement_timeout of 5 s, so that the server's own word comes first.
TRY_SECONDS: Final = 5.5
# A try that cannot end in time would only turn an outcome that is known into one that is not.
TRY_MIN_SECONDS: Final = 0.02
# How long a connection that was given up may take to come back to the pool before it is cut.
RELEASE_SECONDS: Final = 0.5
# Between two tries of a call: full jitter up to 20 ms, doubled to 500 ms; a new primary is found in time.
BACKOFF_FIRST_SECONDS: Final = 0.02
BACKOFF_MAX_SECONDS: Final = 0.5

_UNKNOWN_CLASSES: Final = ("08", "53", "57")
_ROLLBACK_CLASS: Final = "40"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_READ_ONLY: Final = "25006"
_DATA_CLASSES: Final = ("22", "23")
_CHECK_VIOLATION: Final = "23514"
# What our own functions say of a row that contradicts another; they have done nothing then.
_CONTRADICTION: Final = "XX001"

_releasing: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly


class OutcomeUnknown(Exception):  # noqa: N818 - named for what happened
    """PostgreSQL did not answer a call before its deadline.

    ``was_sent`` is False when no try ever reached a server: then nothing was done. Otherwise the call
    may have taken effect, or may still do so; only the same call with the same ids can tell.
    """

    nothing_done = "no connection"

    def __init__(self, function: str, *, was_sent: bool) -> None:
        super().__init__(f"{function}: " + ("the outcome is not known" if was_sent else self.nothing_done))
        self.was_sent = was_sent


class PartitionMissing(OutcomeUnknown):
    """The day's partitions were not made by the deadline: nobody's row is at fault, and it may come again."""

    nothing_done = "the day's partitions are not made"


def is_partition_missing(error: BaseException) -> bool:
    """True when there is no partition for a row's day. The server says 23514, as of a CHECK.

    Of a CHECK it would name the constraint, and of what a function raises itself not even the table.
    """
    named = getattr(error, "table_name", None), getattr(error, "constraint_name", None)
    return sqlstate_of(error) == _CHECK_VIOLATION and named[0] is not None and named[1] is None


def is_data_fault(error: BaseException) -> bool:
    """True when a value that was sent is at fault: SQLSTATE 22 and 23, but for a missing partition.

    A value that asyncpg itself cannot send is a ``DataError`` with SQLSTATE 22000, so it is one of them.
    """
    return sqlstate_of(error).startswith(_DATA_CLASSES) and not is_partition_missing(error)


def is_bisectable(error: BaseException) -> bool:
    """True when one row of the batch is at fault: a value of it, or a stored row that it leads to (XX001)."""
    return is_data_fault(error) or sqlstate_of(error) == _CONTRADICTION


def is_retryable(error: BaseException) -> bool:
    """True when the same call may simply be made again, since nothing was done.

    SQLSTATE 40 and 55P03, and a partition that is missing yet.
    """
    sqlstate = sqlstate_of(error)
    is_passing = sqlstate.startswith(_ROLLBACK_CLASS) or sqlstate == _LOCK_NOT_AVAILABLE
    return is_passing or is_partition_missing(error)


async def call(
    pool: Pool, function_sql: str, *args: object, deadline_seconds: float, is_repeatable: bool = True
) -> list[asyncpg.Record]:
    """Call a server function in autocommit and return its rows, whatever the connection does (RULES 4).

    After a lost connection, a timeout or SQLSTATE 08, 53, 57 the *same call with the same arguments* is
    made again until the deadline: the function is idempotent by its ids, so only its answer counts.
    After SQLSTATE 40 or 55P03, which say that nothing was done, too, and while the day's partitions are not
    made: the ledger process makes them. ``is_repeatable`` False: it is not made again once a try may have
    taken effect.

    Raises:
        OutcomeUnknown: no answer by the deadline, or to the only try; PartitionMissing: no partition by then.
        asyncpg.PostgresError: the server's refusal; nothing was done.
    """
    answer = await call_telling(
        pool, function_sql, *args, deadline_seconds=deadline_seconds, is_repeatable=is_repeatable
    )
    return answer[0]


async def call_telling(
    pool: Pool, function_sql: str, *args: object, deadline_seconds: float, is_repeatable: bool = True
) -> tuple[list[asyncpg.Record], bool]:
    """As ``call``; also whether an earlier try of it may have taken effect, whose answer was lost."""
    function = _function_name(function_sql)
    started_at = time.monotonic()
    attempts = _Attempts(pool, function_sql, args, started_at + deadline_seconds, is_repeatable=is_repeatable)
    try:
        return await attempts.until_answered(function), attempts.may_have_happened
    finally:
        metrics.CALL_SECONDS.labels(function).observe(time.monotonic() - started_at)


class _Attempts:
    """The tries of one call, and whether any of them may have taken effect."""

    def __init__(
        self,
        pool: Pool,
        function_sql: str,
        args: tuple[object, ...],
        deadline: float,
        *,
        is_repeatable: bool,
    ) -> None:
        self._pool = pool
        self._is_repeatable = is_repeatable
        self._function_sql = function_sql
        self._args = args
        self._deadline = deadline
        self._is_sent = False
        self.may_have_happened = False

    async def until_answered(self, function: str) -> list[asyncpg.Record]:
        backoff_seconds = BACKOFF_FIRST_SECONDS
        while True:
            try:
                return await self._once()
            except (asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched, OSError) as error:
                failure = error
            self._judge(failure, function)
            if self.may_have_happened and not self._is_repeatable:
                self._give_up(failure, function)
            if sqlstate_of(failure) == _READ_ONLY:
                # The primary became a standby under us: every connection to it has to go.
                await self._pool.expire_connections()
            pause_seconds = random.random() * backoff_seconds  # noqa: S311 - jitter, not a secret
            backoff_seconds = min(backoff_seconds * 2, BACKOFF_MAX_SECONDS)
            if self._seconds_left() <= pause_seconds + TRY_MIN_SECONDS:
                self._give_up(failure, function)
            await asyncio.sleep(pause_seconds)

    async def _once(self) -> list[asyncpg.Record]:
        self._is_sent = False
        left = max(self._seconds_left(), 0.001)
        asked_at = time.monotonic()
        connection = await self._pool.acquire(timeout=min(left, CONNECT_SECONDS))
        metrics.POOL_WAIT.observe(time.monotonic() - asked_at)
        left = self._seconds_left()
        if left <= 0.0:  # this process stood still: what is sent now might come too late
            _release_aside(self._pool, connection)
            raise TimeoutError("the deadline is over")
        try:
            self._is_sent = True
            rows = await connection.fetch(self._function_sql, *self._args, timeout=min(left, TRY_SECONDS))
        except BaseException as error:
            is_lost_before = _was_lost_before(connection, error)
            _release_aside(self._pool, connection)
            if is_lost_before:
                self._is_sent = False
                raise ConnectionResetError("the connection was closed") from error
            raise
        await self._pool.release(connection, timeout=RELEASE_SECONDS)
        return rows

    def _judge(self, error: Exception, function: str) -> None:
        """Note what the error leaves open; raise it when another try could not help."""
        sqlstate = sqlstate_of(error)
        if sqlstate.startswith(_ROLLBACK_CLASS):
            metrics.DEADLOCKS.labels(function).inc()
        elif is_lost(error):
            self.may_have_happened |= self._is_sent
        elif sqlstate != _READ_ONLY and not is_retryable(error):
            raise error
        metrics.CALL_REPEATS.labels(function, sqlstate or type(error).__name__).inc()

    def _give_up(self, error: Exception, function: str) -> None:
        if is_partition_missing(error):
            raise PartitionMissing(function, was_sent=self.may_have_happened) from error
        if self.may_have_happened or not is_retryable(error):
            raise OutcomeUnknown(function, was_sent=self.may_have_happened) from error
        raise error

    def _seconds_left(self) -> float:
        return self._deadline - time.monotonic()


def _was_lost_before(connection: Any, error: BaseException) -> bool:
    """True when the connection was gone already; one that is half gone is cut."""
    if isinstance(error, asyncpg.InternalClientError):
        # The server's farewell came while the connection idled, and its close has not come yet: asyncpg
        # waits for the end of that, and would do so for everybody who gets this connection next.
        connection.terminate()
        return True
    return isinstance(error, asyncpg.InterfaceError) and _is_closed(connection)


def _is_closed(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool has taken it back already


def _release_aside(pool: Pool, connection: Any) -> None:
    """Give a connection back without waiting: one that failed is in no hurry, its caller is."""
    task = asyncio.create_task(pool.release(connection, timeout=RELEASE_SECONDS))
    _releasing.add(task)
    task.add_done_callback(_releasing.discard)


def is_lost(error: BaseException) -> bool:
    """True when the error leaves open what the server did, or says that it is not there now."""
    if isinstance(error, OSError | asyncpg.TargetServerAttributeNotMatched):
        return True
    return sqlstate_of(error).startswith(_UNKNOWN_CLASSES)


def sqlstate_of(error: BaseException) -> str:
    """Return the server's code of the error, or nothing when it is not the server's."""
    return getattr(error, "sqlstate", None) or ""


def kind_of(error: BaseException) -> str:
    """Return the kind of an error for a log line; its text may quote what it was given."""
    return f"{type(error).__name__} {sqlstate_of(error)}"


@lru_cache(maxsize=256)
def _function_name(function_sql: str) -> str:
    """Find the called function's name for the metrics: ``select * from tollwire.accept_batch_v1(...)``.

    Its deadlocks are shown from then on, as none: a counter that begins at 1 has not risen, so nobody would
    be told of the first one.
    """
    match = re.search(r"\b(?:from|select)\s+([a-z_][\w.]*)\s*\(", function_sql, re.IGNORECASE)
    name = match.group(1) if match else "unnamed"
    metrics.DEADLOCKS.labels(name)
    return name
