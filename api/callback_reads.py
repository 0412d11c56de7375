"""The log of callbacks, and putting them back to work; every statement names the client."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from asyncpg import Record

from api.reads import snapshot
from shared.runtime.postgres import Connection, Pool

# A filtered page looks at so many callbacks at most; then it says where to go on.
SCAN_MAX: Final = 5_000
# Callbacks in one statement: well within the role's statement_timeout of 5 s.
REPLAY_MAX: Final = 5_000
# Looked at by one statement: most have arrived, and a page from a disk that was not read lately takes 0.1 ms.
REPLAY_SCAN_MAX: Final = 10_000
# Of one callback the log keeps and shows so many tries, the last ones: all 11 that there are, and some
# replays. record_callbacks_v1 has the same number.
TRIES_MAX: Final = 20
# And so many of all callbacks of a page, one for each of the longest page: with 1,024 bytes of answer and 200
# of an error each, and six bytes of JSON for what is written as \u0001, that is 7.5 MB at most.
PAGE_TRIES_MAX: Final = 1_000


class CallbackFilter(NamedTuple):
    """Which callbacks; None does not narrow. ``outcome`` may be ``waiting``.

    ``is_test_only``: of test messages, and test events.
    """

    before_id: UUID
    message_id: UUID | None
    outcome: str | None
    is_test_only: bool = False


LIST = """
    with scanned as materialized (
        select * from tollwire.callbacks where client_id = $1 and id < $2 order by id desc limit $3)
    select id, message_id, event_type, sequence, created_at, attempts, due_at, done_at, outcome, status,
           duration_ms
    from scanned
    where ($4::uuid is null or message_id = $4) and ($5::text is null or coalesce(outcome, 'waiting') = $5)
      and (not $6::boolean or message_id = id -- a test event is no message's
           or exists (select from tollwire.messages m where m.id = message_id and m.is_test))
    order by id desc limit $7
"""
LAST_SCANNED = """
    select id from tollwire.callbacks where client_id = $1 and id < $2 order by id desc offset $3 limit 1
"""
# The ids are bounded for the planner's sake: only their partitions are read.
LIST_TRIES = """
    select t.* from unnest($1::uuid[]) c(id)
    cross join lateral (
        select callback_id, attempt_no, at, status, error, duration_ms, address, answer_head
        from tollwire.callback_attempts
        where callback_id = c.id and callback_id between $2 and $3
        order by attempt_no desc limit $4) t
    order by t.callback_id desc, t.attempt_no limit $5
"""


class LoggedCallback(NamedTuple):
    """A callback and its last tries that failed or whose answer was kept, in their order."""

    callback: Record
    tries: list[Record]


async def list_callbacks(
    pool: Pool, client_id: int, narrow: CallbackFilter, limit: int
) -> tuple[list[LoggedCallback], UUID | None]:
    """Return a page of callbacks, newest first, and the id below which the next one goes on.

    It ends before the callback with which it would have more than ``PAGE_TRIES_MAX`` tries.
    """
    async with pool.acquire() as connection, snapshot(connection):
        rows = await connection.fetch(LIST, client_id, narrow.before_id, SCAN_MAX, *narrow[1:], limit)
        if len(rows) == limit:
            reached = rows[-1]["id"]
        else:
            reached = await connection.fetchval(LAST_SCANNED, client_id, narrow.before_id, SCAN_MAX - 1)
        ids = [row["id"] for row in rows]
        found = await _last_tries(connection, ids) if ids else []
    if len(found) > PAGE_TRIES_MAX:
        # Never the first: one has no more than TRIES_MAX.
        rows = rows[: ids.index(found[-1]["callback_id"])]
        reached = rows[-1]["id"]
    tries: dict[UUID, list[Record]] = {row["id"]: [] for row in rows}
    for one in found:
        if one["callback_id"] in tries:
            tries[one["callback_id"]].append(one)
    return [LoggedCallback(row, tries[row["id"]]) for row in rows], reached


async def _last_tries(connection: Connection, ids: list[UUID]) -> list[Record]:
    """The tries of callbacks, newest callbacks first; one more than a page has tells that it is too long."""
    return await connection.fetch(LIST_TRIES, ids, ids[-1], ids[0], TRIES_MAX, PAGE_TRIES_MAX + 1)


REPLAY = "select replayed, reached from tollwire.replay_callbacks_v1($1, $2, $3, $4, $5, $6)"


class ReplayWish(NamedTuple):
    """Which callbacks to send again: those named, or all since a time, after an id, that never arrived."""

    ids: list[UUID] | None
    since: datetime | None
    after_id: UUID | None


async def replay_callbacks(conn: Connection, client_id: int, wish: ReplayWish) -> tuple[int, UUID | None]:
    """Send callbacks again; return how many, and the id after which to go on, or None at the end.

    At most ``REPLAY_MAX`` a call, and those since a time among the next ``REPLAY_SCAN_MAX``.
    """
    [row] = await conn.fetch(REPLAY, client_id, *wish, REPLAY_SCAN_MAX, REPLAY_MAX)
    return row["replayed"], row["reached"]


TEST = "select tollwire.test_callback_v1($1)"


async def ask_for_test(conn: Connection, client_id: int) -> UUID | None:
    """Ask for a test event; return its callback's id, or None without an endpoint."""
    found: UUID | None = await conn.fetchval(TEST, client_id)
    return found
