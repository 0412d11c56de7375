"""Operators: what was given up, and who changed what."""

from typing import Final
from uuid import UUID

from asyncpg import Record

from api.cursors import LAST_ID, cursor_of, read_cursor
from api.ledger_schemas import (
    AuditLine,
    AuditPage,
    AuditQuery,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterShown,
)
from api.problems import invalid_field
from api.reads import snapshot
from api.resources import Resources
from api.routing import Call
from api.schemas import Money, time_text
from shared.domain.money import format_micros
from shared.runtime.postgres import Pool

# The audit trail's ids are bigints.
AUDIT_ID_DIGITS_MAX = 18
AUDIT_ID_MAX = 2**63 - 1

# A filtered page looks at so many dead letters at most; then it says where to go on.
SCAN_MAX: Final = 5_000

LIST_DEAD_LETTERS = """
    with scanned as materialized (
        select * from tollwire.dead_letters where message_id < $1 order by message_id desc limit $5
    ), page as materialized (
        select d.*, c.name as client from scanned d join tollwire.clients c on c.id = d.client_id
        where ($2::text is null or c.name = $2) and ($3::text is null or d.reason = $3)
        order by d.message_id desc limit $4)
    select p.message_id, p.client, p.reason, p.attempts, p.at, m.is_test, m.price_micros, m.currency,
           tollwire.delivered_late_v1(p.message_id) as delivered_late, l.charged,
           coalesce(a.with_carrier, false) as with_carrier,
           array(select r.message_id from tollwire.replays r
                 where r.replay_of = p.message_id order by r.number) as replays
    from page p
    -- Each is looked up in its own day; and a day's dead letters go before what they are shown with.
    cross join lateral (select b.is_test, b.price_micros, b.currency from tollwire.messages b
                        where b.id = p.message_id offset 0) m
    cross join lateral (select b.state = 'CAPTURED' or b.late_captured_at is not null as charged
                        from ledger.credit_locks b where b.message_id = p.message_id offset 0) l
    -- Each part was taken, and nobody has said that it will not arrive.
    cross join lateral (
        select bool_and(t.is_there) as with_carrier from (
            select bool_or(coalesce(
                       b.receipt = 'delivered' or b.outcome = 'submitted'
                       and (b.receipt is null or b.receipt in ('enroute', 'accepted')), false)) as is_there
            from tollwire.attempts b where b.message_id = p.message_id group by b.part_no) t) a
    order by p.message_id desc
"""
LAST_SCANNED = """
    select message_id from tollwire.dead_letters where message_id < $1
    order by message_id desc offset $2 limit 1
"""


async def read_dead_letters(
    pool: Pool, before_id: UUID, client: str | None, reason: str | None, limit: int
) -> tuple[list[Record], UUID | None]:
    """Return dead letters below an id, newest first, and the id below which the next page goes on."""
    async with pool.acquire() as connection, snapshot(connection):
        rows = await connection.fetch(LIST_DEAD_LETTERS, before_id, client, reason, limit, SCAN_MAX)
        if len(rows) == limit:
            return rows, rows[-1]["message_id"]
        return rows, await connection.fetchval(LAST_SCANNED, before_id, SCAN_MAX - 1)


async def list_dead_letters(resources: Resources, _call: Call, *, query: DeadLetterQuery) -> DeadLetterPage:
    """List dead letters.

    Messages that were given up, newest first, with the reason and their replays. What was `charged` all the
    same, or turned out delivered (`delivered_late`) or taken by a carrier (`with_carrier`), says so. A
    filtered page may be short, or empty, and still have a `next_cursor`.
    """
    before = LAST_ID if query.cursor is None else read_cursor(query.cursor, "cursor")
    rows, reached = await read_dead_letters(resources.pool, before, query.client, query.reason, query.limit)
    letters = [
        DeadLetterShown(
            message_id=row["message_id"],
            client=row["client"],
            reason=row["reason"],
            attempts=row["attempts"],
            at=time_text(row["at"]),
            is_test=row["is_test"],
            price=Money(format_micros(row["price_micros"]), row["currency"]),
            charged=row["charged"],
            delivered_late=row["delivered_late"],
            with_carrier=row["with_carrier"],
            replays=row["replays"],
        )
        for row in rows
    ]
    return DeadLetterPage(letters, None if reached is None else cursor_of(reached))


LIST_AUDIT = """
    select id, at, actor, host(address) as address, action, target, before, after, reason
    from tollwire.audit_trail where id < $1 and ($2::text is null or target = $2) order by id desc limit $3
"""


async def read_audit(pool: Pool, before_id: int, target: str | None, limit: int) -> list[Record]:
    """Return lines of the audit trail below an id, newest first."""
    return await pool.fetch(LIST_AUDIT, before_id, target, limit)


async def list_audit(resources: Resources, _call: Call, *, query: AuditQuery) -> AuditPage:
    """List the audit trail.

    Who changed what, from where and why, newest first.
    """
    before = AUDIT_ID_MAX if query.cursor is None else _read_cursor(query.cursor)
    rows = await read_audit(resources.pool, before, query.target, query.limit)
    lines = [AuditLine(**{**dict(row.items()), "at": time_text(row["at"])}) for row in rows]
    return AuditPage(lines, str(lines[-1].id) if len(lines) == query.limit else None)


def _read_cursor(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > AUDIT_ID_DIGITS_MAX:
        raise invalid_field("query.cursor", "must be a cursor that a page gave")
    return int(text)
