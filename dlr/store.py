"""dlr's SQL: receipts in, settlements, callbacks; one function call a flush (RULES 1, 24, 36)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.runtime.postgres import Pool, call, call_telling

CALL_DEADLINE_SECONDS: Final = 15.0
# A settler that died is taken over after this; a settle takes milliseconds.
SETTLE_LEASE_SECONDS: Final = 30
# A receipt whose message is not known yet is kept so long (RULES 24: at least 72 h).
RECEIPT_KEEP_HOURS: Final = 96


class ReceivedReceipt(NamedTuple):
    """A receipt to keep; the fields stand in the order of the function's arrays."""

    receipt_id: UUID
    carrier_id: int
    reference: str
    state: str
    done_at: datetime | None
    msisdn: str | None
    error_code: str | None
    part_no: int | None
    echo_message_id: UUID | None
    echo_attempt_no: int | None


RECEIVE = "select tollwire.receive_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"


async def receive_batch(pool: Pool, receipts: Sequence[ReceivedReceipt]) -> None:
    """Make receipts durable; afterwards the carrier may hear "received"."""
    columns = [list(column) for column in zip(*receipts, strict=True)]
    await call(pool, RECEIVE, *columns, SETTLE_LEASE_SECONDS, deadline_seconds=CALL_DEADLINE_SECONDS)


class CallbackWork(NamedTuple):
    """A callback and everything its body tells, in the order in which the functions return it.

    ``skip`` says why it is not to be posted now: done, gone (its message is dropped), superseded, disabled,
    open or behind (an earlier event of the message is not told yet). ``is_own_url``: the message named the
    URL itself, and it is not the endpoint's. ``event_type`` is None where only the id is told: the rest is
    to load.
    """

    callback_id: UUID
    skip: str | None
    endpoint_id: int
    url: str | None
    is_own_url: bool | None
    event_type: str | None
    sequence: int
    attempts: int
    created_at: datetime
    message_id: UUID | None
    state: str | None
    msisdn: str | None
    sender: str | None
    client_ref: str | None
    segments: int | None
    price_micros: int | None
    currency: str | None
    is_charged: bool | None
    error_code: str | None
    message_attempts: int | None
    is_possible_duplicate: bool | None
    is_late_receipt: bool | None
    parts_delivered: int | None
    message_created_at: datetime | None
    final_at: datetime | None


class Settled(NamedTuple):
    """What a receipt did; ``outcome`` as in functions/settle_batch_v1.sql.

    ``told`` is the message that moved as its callback tells it; there may be no such callback. What moved to
    SENT is "noted", and has none here: its callback is for the sweep.
    """

    outcome: str
    client_id: int | None
    region: str | None
    lane: str | None
    carrier_id: int | None
    submitted_at: datetime | None
    told: CallbackWork

    @property
    def message_id(self) -> UUID | None:
        """The message that the receipt belongs to."""
        return self.told.message_id

    @property
    def state(self) -> str | None:
        """The state that it reached by this receipt: a final one, or SENT."""
        return self.told.state

    @property
    def callback_id(self) -> UUID | None:
        """The callback that was asked for, leased to the caller."""
        return self.told.callback_id


# Where the callback's columns begin in a row.
_TOLD_FROM: Final = len(Settled._fields) - 1

SETTLE = "select * from tollwire.settle_batch_v1($1, $2, $3)"


async def settle_batch(
    pool: Pool,
    receipt_ids: Sequence[UUID],
    callback_lease_seconds: int,
    doubtful: Collection[UUID] = frozenset(),
) -> list[Settled]:
    """Settle kept receipts; an answer for each position.

    ``doubtful``: those that a call of ours may have settled before, whose answer was lost.
    """
    rows, is_repeated = await call_telling(
        pool,
        SETTLE,
        list(receipt_ids),
        callback_lease_seconds,
        RECEIPT_KEEP_HOURS,
        deadline_seconds=CALL_DEADLINE_SECONDS,
    )
    settled = [_settled(row) for row in rows]
    if is_repeated or doubtful:
        return await _told_again(pool, receipt_ids, settled, receipt_ids if is_repeated else doubtful)
    return settled


TAKE = "select * from tollwire.take_receipts_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
# A carrier waits for this: what a locked account holds up is kept first and settled later.
TAKE_DEADLINE_SECONDS: Final = 3.0


async def take_receipts(
    pool: Pool, receipts: Sequence[ReceivedReceipt], callback_lease_seconds: int
) -> list[Settled]:
    """Make receipts durable and settle them, in one transaction; an answer for each position."""
    columns = [list(column) for column in zip(*receipts, strict=True)]
    rows, is_repeated = await call_telling(
        pool,
        TAKE,
        *columns,
        SETTLE_LEASE_SECONDS,
        callback_lease_seconds,
        RECEIPT_KEEP_HOURS,
        deadline_seconds=TAKE_DEADLINE_SECONDS,
    )
    settled = [_settled(row) for row in rows]
    if is_repeated:
        ids = [receipt.receipt_id for receipt in receipts]
        return await _told_again(pool, ids, settled, ids)
    return settled


TELL_AGAIN = "select * from tollwire.tell_again_v1($1)"


async def _told_again(
    pool: Pool, receipt_ids: Sequence[UUID], settled: list[Settled], doubtful: Collection[UUID]
) -> list[Settled]:
    """Put what an earlier call of ours did where this one could only say "done"."""
    asked = set(doubtful)
    lost = [
        id_ for id_, one in zip(receipt_ids, settled, strict=True) if one.outcome == "done" and id_ in asked
    ]
    if not lost:
        return settled
    rows = await call(pool, TELL_AGAIN, lost, deadline_seconds=CALL_DEADLINE_SECONDS)
    found = {row[0]: _settled(row[1:]) for row in rows}
    told = []
    for id_, one in zip(receipt_ids, settled, strict=True):
        # Once: the same receipt may stand in a flush twice.
        told.append(found.pop(id_, one) if one.outcome == "done" else one)
    return told


def _settled(row: Any) -> Settled:
    return Settled._make((*row[:_TOLD_FROM], CallbackWork._make(row[_TOLD_FROM:])))


LEASE_RECEIPTS = "select * from tollwire.lease_receipts_v1($1, $2)"


async def lease_receipts(pool: Pool, limit: int) -> list[UUID]:
    """Take over receipts that are due again."""
    rows = await call(
        pool, LEASE_RECEIPTS, limit, SETTLE_LEASE_SECONDS, deadline_seconds=CALL_DEADLINE_SECONDS
    )
    return [row[0] for row in rows]


LOAD_CALLBACKS = "select * from tollwire.load_callbacks_v1($1)"


async def load_callbacks(pool: Pool, callback_ids: Sequence[UUID]) -> list[CallbackWork]:
    """Load leased callbacks, in the order asked for."""
    rows = await call(pool, LOAD_CALLBACKS, list(callback_ids), deadline_seconds=CALL_DEADLINE_SECONDS)
    return [CallbackWork._make(row) for row in rows]


LEASE_CALLBACKS = "select * from tollwire.lease_callbacks_v1($1, $2, $3, $4, $5, $6)"


async def lease_callbacks(
    pool: Pool,
    limit: int,
    each: int,
    lease_seconds: int,
    rooms: Mapping[int, int] | None = None,
    after: int = 0,
) -> list[tuple[UUID, int]]:
    """Take over callbacks that are due, at most ``each`` of an endpoint, or what ``rooms`` says of it.

    ``after``: endpoints with higher ids come first, by their ids, then the others. Returns each callback's
    id and its endpoint's, in any order.
    """
    endpoints = sorted(rooms or {})
    rows = await call(
        pool,
        LEASE_CALLBACKS,
        limit,
        each,
        lease_seconds,
        endpoints,
        [(rooms or {})[endpoint_id] for endpoint_id in endpoints],
        after,
        deadline_seconds=CALL_DEADLINE_SECONDS,
    )
    return [(row[0], row[1]) for row in rows]


class CallbackRecord(NamedTuple):
    """What became of one try; ``outcome`` None is "again in retry_seconds"."""

    callback_id: UUID
    attempt_no: int
    outcome: str | None
    status: int | None
    error: str | None
    duration_ms: int | None
    address: str | None
    answer_head: bytes | None
    retry_seconds: float

    @property
    def is_put_off(self) -> bool:
        """True when this was no try, and ends nothing: the callback comes again (``dlr.put_offs``)."""
        return self.outcome is None and self.error is None


RECORD_CALLBACKS = "select tollwire.record_callbacks_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)"


async def record_callbacks(pool: Pool, records: Sequence[CallbackRecord]) -> None:
    """Note tries of callbacks, and what ended without one."""
    columns = [list(column) for column in zip(*records, strict=True)]
    await call(pool, RECORD_CALLBACKS, *columns, deadline_seconds=CALL_DEADLINE_SECONDS)


async def put_off_callbacks(pool: Pool, records: Sequence[CallbackRecord], deadline_seconds: float) -> None:
    """Give back callbacks that are leased to this process, ``is_put_off`` all of them.

    Once: where an answer is lost, a repetition would take away the lease that another may have got since.
    """
    columns = [list(column) for column in zip(*records, strict=True)]
    await call(pool, RECORD_CALLBACKS, *columns, deadline_seconds=deadline_seconds, is_repeatable=False)
