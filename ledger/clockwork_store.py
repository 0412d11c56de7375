"""The clockwork's SQL: what is due, and the functions that do it (ledger/functions/clockwork_v1.sql)."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, NamedTuple, cast
from uuid import UUID

from shared.events.bundles import Lane
from shared.runtime.clock import READ_TIME
from shared.runtime.postgres import Pool, call

CALL_DEADLINE_SECONDS: Final = 20.0
FIRST_ID: Final = UUID(int=0)


class Moved(NamedTuple):
    """A message that the clockwork moved, and where to."""

    message_id: UUID
    state: str


class Suspension(NamedTuple):
    """A client whose sending is stopped, and which change of the client it was that is in force."""

    client_id: int
    name: str
    change: str


class Dispatch(NamedTuple):
    """A leased outbox row to publish."""

    message_id: UUID
    dispatch_no: int
    lane: Lane
    carrier_id: int


LOOK_DUE = "select o_message, o_work from tollwire.look_due_v1($1)"


async def look_due(pool: Pool, limit: int) -> dict[str, list[UUID]]:
    """Return the ids of due outbox rows by the work they need."""
    due: dict[str, list[UUID]] = {}
    for message_id, work in await call(pool, LOOK_DUE, limit, deadline_seconds=CALL_DEADLINE_SECONDS):
        due.setdefault(work, []).append(message_id)
    return due


TIDY = "select tollwire.tidy_outbox_v1($1, $2)"


async def tidy_outbox(pool: Pool, wait: Sequence[UUID], forget: Sequence[UUID]) -> None:
    """Put off rows that wait, remove rows that nobody needs."""
    await call(pool, TIDY, list(wait), list(forget), deadline_seconds=CALL_DEADLINE_SECONDS)


PUT_OFF = "select tollwire.put_off_v1($1)"


async def put_off(pool: Pool, message_ids: Sequence[UUID]) -> None:
    """Look again later, and later each time, at due rows that no call can work on."""
    await call(pool, PUT_OFF, list(message_ids), deadline_seconds=CALL_DEADLINE_SECONDS)


START_SCHEDULED = "select o_message, o_state::text from tollwire.start_scheduled_v1($1)"


async def start_scheduled(pool: Pool, message_ids: Sequence[UUID]) -> list[Moved]:
    """Queue scheduled messages whose time has come, in their clients' pace."""
    return await _moved(pool, START_SCHEDULED, message_ids)


EXPIRE_DUE = "select o_message, o_state::text from tollwire.expire_due_v1($1)"


async def expire_due(pool: Pool, message_ids: Sequence[UUID]) -> list[Moved]:
    """End what waited too long, with release."""
    return await _moved(pool, EXPIRE_DUE, message_ids)


# Each change of a row gives it another xmin: so who was let go on and stopped again between two looks is
# noticed. Any other change of who is stopped costs a walk that ends nothing.
SUSPENSIONS = "select id, name, xmin::text from tollwire.clients where suspended"
WAITING_AFTER = """
    select message_id from tollwire.outbox where message_id > $1 order by message_id limit $2
"""
# With the bounds only the days are read that the messages are of.
MESSAGES_OF = """
    select id, client_id from tollwire.messages
    where id = any ($1::uuid[]) and id between $2 and $3 and client_id = any ($4::bigint[])
"""


async def suspensions(pool: Pool) -> list[Suspension]:
    """Return whose sending is stopped."""
    rows = await call(pool, SUSPENSIONS, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [Suspension(*row) for row in rows]


async def waiting_after(pool: Pool, after: UUID, limit: int) -> list[UUID]:
    """Return what the outbox has behind a message, in id order."""
    rows = await call(pool, WAITING_AFTER, after, limit, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [row[0] for row in rows]


async def messages_of(pool: Pool, message_ids: Sequence[UUID], clients: Sequence[int]) -> dict[UUID, int]:
    """Return which of the messages, given in id order and not none, are of these clients, and of which."""
    ids = list(message_ids)
    rows = await call(
        pool, MESSAGES_OF, ids, ids[0], ids[-1], list(clients), deadline_seconds=CALL_DEADLINE_SECONDS
    )
    return {row[0]: row[1] for row in rows}


RECOVER_CLAIMS = "select o_message, o_state::text from tollwire.recover_claims_v1($1, $2)"


async def recover_claims(pool: Pool, message_ids: Sequence[UUID], tries_max: int) -> list[Moved]:
    """Take over claims whose worker is gone."""
    return await _moved(pool, RECOVER_CLAIMS, message_ids, tries_max)


EXPIRE_HOLDS = "select o_message, o_state::text from ledger.expire_holds_v1($1)"


async def expire_holds(pool: Pool, message_ids: Sequence[UUID]) -> list[Moved]:
    """End the holds of messages whose receipt never came; watch those that are not due yet."""
    return await _moved(pool, EXPIRE_HOLDS, message_ids)


async def _moved(pool: Pool, sql: str, message_ids: Sequence[UUID], *more: object) -> list[Moved]:
    rows = await call(pool, sql, list(message_ids), *more, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [Moved(*row) for row in rows]


async def read_time(pool: Pool) -> datetime:
    """Return the database's time."""
    [(now,)] = await call(pool, READ_TIME, deadline_seconds=CALL_DEADLINE_SECONDS)
    return cast("datetime", now)


DISPATCH_DUE = "select * from tollwire.dispatch_due_v1($1, $2, $3)"


async def dispatch_due(
    pool: Pool, message_ids: Sequence[UUID], oldest: Sequence[datetime | None], incarnation: int
) -> list[Dispatch]:
    """Lease what has to be published again or at last."""
    rows = await call(
        pool,
        DISPATCH_DUE,
        list(message_ids),
        list(oldest),
        incarnation,
        deadline_seconds=CALL_DEADLINE_SECONDS,
    )
    return [Dispatch(*row) for row in rows]


# So far ahead leases are due, the first ones and the longest (end_lost_leases_v1.sql).
FIRST_LEASE_SECONDS: Final = 60
LONGEST_LEASE_SECONDS: Final = 3600
HAS_LEASES = """
    select due_at from tollwire.outbox
    where due_at > clock_timestamp() and due_at <= clock_timestamp() + make_interval(secs => $1)
    order by due_at limit 1
"""


async def has_leases(pool: Pool, *, are_long: bool) -> bool:
    """Whether any row of the outbox may be leased to be published, for the first time or ``are_long`` too."""
    seconds = LONGEST_LEASE_SECONDS if are_long else FIRST_LEASE_SECONDS
    return bool(await call(pool, HAS_LEASES, seconds, deadline_seconds=CALL_DEADLINE_SECONDS))


END_LOST_LEASES = "select ended, reached from tollwire.end_lost_leases_v1($1, $2, $3, $4)"


async def end_lost_leases(
    pool: Pool,
    oldest: Sequence[datetime | None],
    incarnation: int,
    before: datetime | None,
    limit: int,
) -> tuple[int, datetime | None]:
    """Make due what is leased and cannot be in the stream any more, among so many rows that are due next.

    Those that are due before a moment, or, with None, those whose lease is in its last minute. Return how
    many, and before which moment the next call goes on, or None when all were looked at.
    """
    [(ended, reached)] = await call(
        pool,
        END_LOST_LEASES,
        list(oldest),
        incarnation,
        before,
        limit,
        deadline_seconds=CALL_DEADLINE_SECONDS,
    )
    return ended, reached


RETURN_LEASES = "select tollwire.return_leases_v1($1, $2)"


async def return_leases(pool: Pool, dispatches: Sequence[Dispatch]) -> None:
    """Give back what could not be published."""
    ids, numbers = [d.message_id for d in dispatches], [d.dispatch_no for d in dispatches]
    await call(pool, RETURN_LEASES, ids, numbers, deadline_seconds=CALL_DEADLINE_SECONDS)


WALK_HOLDS = """
    select o_message, o_held from ledger.walk_holds_v1(
        case when $1 <= tollwire.uuid7_floor_v1(clock_timestamp()) then $1 else $3 end,
        tollwire.uuid7_floor_v1(clock_timestamp() - interval '1 second'
            * (select greatest(coalesce(min(no_receipt_seconds), 259200), 600) from tollwire.carriers)), $2)
"""


async def walk_holds(pool: Pool, after: UUID, limit: int) -> tuple[UUID, int, list[UUID]]:
    """Walk locks from an id on, as far as a receipt's wait can have ended.

    Never closer than 10 minutes to now: an id is older than the commit that stores it. From the first lock on
    where the walk came to an id of a time that is still to come: the clock was ahead, and what was accepted
    since it was set right has ids below.

    Returns:
        The last id seen (``after`` when there was none), how many were seen, and those still HELD.
    """
    rows = await call(pool, WALK_HOLDS, after, limit, FIRST_ID, deadline_seconds=CALL_DEADLINE_SECONDS)
    return rows[-1][0] if rows else after, len(rows), [row[0] for row in rows if row[1]]


WATCHED_HOLDS = """
    with clock as materialized (select clock_timestamp() as now)
    (select message_id from tollwire.hold_watch where due_at <= (select now from clock)
     order by due_at limit $1)
    union
    select w.message_id from tollwire.carriers k
    cross join lateral (
        select h.message_id from tollwire.hold_watch h
        where h.carrier_id = k.id
            and h.submitted_at <= (select now from clock) - k.no_receipt_seconds * interval '1 second'
        order by h.submitted_at limit $1) w
    limit $1
"""


async def watched_holds(pool: Pool, limit: int) -> list[UUID]:
    """Return the watched holds that are due, also those whose carrier's wait was made shorter meanwhile."""
    rows = await call(pool, WATCHED_HOLDS, limit, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [row[0] for row in rows]


WATCH_LATER = "select tollwire.watch_later_v1($1)"


async def watch_later(pool: Pool, message_ids: Sequence[UUID]) -> None:
    """Look again in an hour at holds that no call can end."""
    await call(pool, WATCH_LATER, list(message_ids), deadline_seconds=CALL_DEADLINE_SECONDS)


MAKE_PARTITIONS = "select tollwire.make_partitions_v1($1, $2)"


async def make_partitions(pool: Pool, first: date, last: date) -> int:
    """Make the partitions that are missing; return how many."""
    rows = await call(pool, MAKE_PARTITIONS, first, last, deadline_seconds=CALL_DEADLINE_SECONDS)
    return int(rows[0][0])


READ_WATERMARK = "select position from tollwire.watermarks where name = $1"
WRITE_WATERMARK = "select tollwire.set_watermark_v1($1, $2)"


async def read_watermark(pool: Pool, name: str) -> str | None:
    """Return where a walk stands."""
    rows = await call(pool, READ_WATERMARK, name, deadline_seconds=CALL_DEADLINE_SECONDS)
    return str(rows[0][0]) if rows else None


async def write_watermark(pool: Pool, name: str, position: str) -> None:
    """Remember where a walk stands."""
    await call(pool, WRITE_WATERMARK, name, position, deadline_seconds=CALL_DEADLINE_SECONDS)
