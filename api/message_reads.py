"""Reading and cancelling messages."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from asyncpg import Record

from api import reads
from api.cancel import Want
from api.cursors import FIRST_ID, LAST_ID, cursor_of, read_cursor
from api.problems import Refusal, invalid_field
from api.read_schemas import (
    TO_FILTER,
    Attempt,
    Cancelled,
    Event,
    Hold,
    MessageDetail,
    MessagePage,
    MessagePath,
    MessageQuery,
    MessageSummary,
)
from api.reader import Source
from api.resources import Resources
from api.routing import Call
from api.schemas import Money, optional_time_text, time_text
from shared.domain.ids import uuid7_from
from shared.domain.money import format_micros
from shared.domain.msisdn import is_e164
from shared.domain.problems import ProblemCode
from shared.runtime.keyring import SealBroken
from shared.runtime.postgres import Pool

# A message has its id before it waits for its flush, and is seen when that commits: no later than this after
# its id, by the limits of the accept and with clocks that differ; tests/unit/test_settled_ids.py adds them
SETTLED_SECONDS: Final = 30
# And an id may be ahead of the time that the database gives its message: after a failover by as much as the
# new primary's clock is behind, until the process measures it (`shared.runtime.clock.REFRESH_SECONDS`).
AHEAD_SECONDS: Final = 30

_log = structlog.get_logger(__name__)


async def get_message(resources: Resources, call: Call, *, path: MessagePath) -> MessageDetail:
    """Get a message.

    With its text while that is kept, its attempts, its events and its hold. `text` is null and `text_expired`
    false when the text is kept, and its key is not at hand. A test key finds test messages.
    """
    async with resources.places.reads.place(call.client.id):
        found = await reads.get_message(
            resources.pool, call.client.id, path.id, is_test_only=call.caller.is_test
        )
    if found is None:
        raise Refusal(ProblemCode.NOT_FOUND, what=f"message {path.id}")
    row = found.message
    return MessageDetail(
        **_summary(row),
        text=_text(resources, path.id, row["sealed"]),
        text_expired=row["sealed"] is None,
        region=row["region"],
        delivery=row["delivery"],
        rate_version=row["rate_version"],
        callback_url=row["callback_url"],
        replay_of=row["replay_of"],
        parts_delivered=row["parts_delivered"],
        possible_duplicate=row["possible_duplicate"],
        late_receipt=row["late_receipt"],
        hold=_hold(row),
        attempts=[_attempt(attempt) for attempt in found.attempts],
        events=sorted(_events(found), key=lambda event: event.at),
    )


def _text(resources: Resources, message_id: UUID, sealed: bytes | None) -> str | None:
    if sealed is None:
        return None
    try:
        return resources.keyring.unseal(sealed, message_id.bytes).decode()
    except SealBroken as error:
        _log.error("text cannot be opened", message_id=str(message_id), error=str(error))
        return None


async def list_messages(resources: Resources, call: Call, *, query: MessageQuery) -> MessagePage:
    """List messages.

    Newest first. `next_cursor` leads to older ones and stays right while new messages arrive. To follow
    what comes in, pass a page's `after`: it is answered oldest first and ends 30 seconds before now, so
    that nothing that commits late is ever skipped. A test key is shown test messages.
    """
    if query.after is not None and query.cursor is not None:
        raise invalid_field("query.after", "cannot stand beside cursor")
    if query.to is not None and not is_e164(query.to):
        raise invalid_field("query.to", TO_FILTER)

    async def page(source: Source) -> MessagePage:
        now = source.as_of or datetime.fromtimestamp(resources.clock.now_ms() / 1000, UTC)
        return await _page(source.pool, call, query, now)

    async with resources.places.reads.place(call.client.id):
        return await resources.reader.read(page)


async def _page(pool: Pool, call: Call, query: MessageQuery, now: datetime) -> MessagePage:
    """A page as of ``now``: by then all that came before the last few seconds is there."""
    newest_first = query.after is None
    narrow = _narrow(query, now - timedelta(seconds=SETTLED_SECONDS))
    narrow = narrow._replace(is_test_only=call.caller.is_test)
    rows, reached = await reads.list_messages(
        pool, call.client.id, narrow, query.limit, newest_first=newest_first
    )
    ids = [row["id"] for row in rows]
    return MessagePage(
        messages=[MessageSummary(**_summary(row)) for row in rows],
        next_cursor=cursor_of(reached) if newest_first and reached is not None else None,
        after=_after(query, ids, reached, now),
    )


async def cancel_message(resources: Resources, call: Call, *, path: MessagePath) -> Cancelled:
    """Cancel a message.

    Its hold is released. Works while it is SCHEDULED, QUEUED or FAILED_TEMP. A cancelled message may be
    cancelled again. A test key cancels test messages.
    """
    answer = await resources.cancels.one(Want(call.client.id, path.id, call.caller.is_test))
    if answer.outcome == "not_found":
        raise Refusal(ProblemCode.NOT_FOUND, what=f"message {path.id}")
    if answer.outcome in {"already_sending", "already_final"}:
        raise Refusal(ProblemCode(answer.outcome), status=answer.state)
    return Cancelled(id=path.id, status="CANCELLED")


def _narrow(query: MessageQuery, settled: datetime) -> reads.MessageFilter:
    from_id = _id_at(query.since, -SETTLED_SECONDS) if query.since else FIRST_ID
    before_id = _id_at(query.until, AHEAD_SECONDS) if query.until else LAST_ID
    if query.cursor is not None:
        before_id = min(before_id, read_cursor(query.cursor, "cursor"))
    if query.after is not None:
        from_id = max(from_id, UUID(int=read_cursor(query.after, "after").int + 1))
        before_id = min(before_id, _id_at(settled))
    return reads.MessageFilter(
        query.status, query.to, query.client_ref, query.lane, from_id, before_id, query.since, query.until
    )


def _after(query: MessageQuery, ids: list[UUID], reached: UUID | None, now: datetime) -> str | None:
    """Where following goes on: after the last one seen, and never past what may still commit."""
    if query.after is not None:
        return cursor_of(reached or ids[-1]) if reached or ids else query.after
    if query.cursor is not None:
        return None
    settled = _id_at(now - timedelta(seconds=SETTLED_SECONDS))
    return cursor_of(min(ids[0], settled) if ids else settled)


def _id_at(moment: datetime, later_seconds: int = 0) -> UUID:
    milliseconds = int((moment.timestamp() + later_seconds) * 1000)
    return uuid7_from(max(0, min(milliseconds, 2**48 - 1)), 0)


def _summary(row: Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "status": row["state"],
        "to": row["msisdn"],
        "sender": row["sender"],
        "lane": row["lane"],
        "encoding": row["encoding"],
        "segments": row["segments"],
        "price": Money(format_micros(row["price_micros"]), row["currency"]),
        "client_ref": row["client_ref"],
        "error": row["error_code"],
        "carrier": row["carrier"],
        "created_at": time_text(row["created_at"]),
        "send_at": optional_time_text(row["send_at"]),
        "valid_until": time_text(row["valid_until"]),
        "submitted_at": optional_time_text(row["submitted_at"]),
        "final_at": optional_time_text(row["final_at"]),
        "is_test": row["is_test"],
    }


def _hold(row: Record) -> Hold:
    return Hold(
        state=row["hold_state"],
        amount=format_micros(row["amount_micros"]),
        currency=row["currency"],
        held_at=time_text(row["held_at"]),
        resolved_at=optional_time_text(row["resolved_at"]),
        reason=row["reason"],
        late_captured_at=optional_time_text(row["late_captured_at"]),
    )


def _attempt(row: Record) -> Attempt:
    return Attempt(
        attempt=row["attempt_no"],
        part=row["part_no"],
        carrier=row["carrier"] or "",
        claimed_at=time_text(row["claimed_at"]),
        outcome=row["outcome"],
        outcome_at=optional_time_text(row["outcome_at"]),
        carrier_reference=row["reference"],
        error=row["error_code"],
        receipt=row["receipt"],
        receipt_at=optional_time_text(row["receipt_at"]),
    )


def _events(found: reads.Found) -> Iterator[Event]:
    """What happened, read from the rows that happened to be written for it; each has its own time."""
    row = found.message
    yield Event(time_text(row["created_at"]), "accepted")
    yield Event(time_text(row["held_at"]), "hold.held", detail=format_micros(row["amount_micros"]))
    for attempt in found.attempts:
        number, part = attempt["attempt_no"], f"part {attempt['part_no']}"
        yield Event(time_text(attempt["claimed_at"]), "sending", number, part)
        if attempt["outcome_at"] is not None:
            detail = attempt["error_code"] or attempt["reference"] or part
            yield Event(time_text(attempt["outcome_at"]), attempt["outcome"], number, detail)
        if attempt["receipt_at"] is not None:
            yield Event(time_text(attempt["receipt_at"]), f"receipt.{attempt['receipt']}", number, part)
    if row["final_at"] is not None:
        yield Event(time_text(row["final_at"]), row["state"].lower(), detail=row["error_code"])
    if row["resolved_at"] is not None:
        yield Event(time_text(row["resolved_at"]), f"hold.{row['hold_state'].lower()}", detail=row["reason"])
    if row["late_captured_at"] is not None:
        yield Event(time_text(row["late_captured_at"]), "hold.late_captured")
    for callback in found.callbacks:
        if callback["done_at"] is not None:
            status = "" if callback["status"] is None else f" {callback['status']}"
            detail = f"{callback['event_type']}{status}"
            yield Event(time_text(callback["done_at"]), f"callback.{callback['outcome']}", detail=detail)
