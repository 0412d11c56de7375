"""The worker's SQL: claims and records, one function call a flush (RULES 1, 15)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.runtime.postgres import Pool, call

CALL_DEADLINE_SECONDS: Final = 15.0
# An outcome in hand is worth a failover's wait: it is idempotent, and taken however late.
RECORD_DEADLINE_SECONDS: Final = 120.0
# A lost claim is asked for in single tries, of the role's statement_timeout each.
ASK_SECONDS: Final = 5.0


class Claim(NamedTuple):
    """A won claim, or why not (``refusal``); as functions/claim_batch_v1.sql returns it."""

    refusal: str | None
    attempt_no: int
    client_id: int
    msisdn: str
    region: str
    sender: str
    text_sealed: bytes
    encoding: str
    segments: int
    lane: str
    valid_seconds: float
    tries: int
    delivery: str
    is_test: bool
    due_since: datetime
    price_micros: int
    currency: str
    parts: list[int] | None

    @property
    def claims_without_try(self) -> int:
        """The message's claims that used up no try, with this one as if it were one: 1 or more, as a rule.

        Less by one for each attempt that was given up, which is a try, and whose answer came late and was
        another one: it may be 0 or below.
        """
        return self.attempt_no - self.tries


# What is answered where no call can claim a message: its row is for an operator to mend.
UNCLAIMABLE: Final = Claim._make(["unclaimable", *[None] * (len(Claim._fields) - 1)])

CLAIM = "select * from tollwire.claim_batch_v1($1, $2, $3, $4, $5)"


async def claim_batch(
    pool: Pool, work: Sequence[tuple[str, int]], carrier_id: int, deadline_seconds: int, claim_id: UUID
) -> list[Claim]:
    """Claim (message id, dispatch number) pairs for a carrier; an answer for each position.

    Raises:
        OutcomeUnknown: no answer while there was time left to submit.
    """
    # The same call with the same claim id, as long as there is time left to submit (RULES 4, 16).
    return await _claim(pool, work, carrier_id, deadline_seconds, claim_id, deadline_seconds / 2)


async def claim_again(
    pool: Pool, work: Sequence[tuple[str, int]], carrier_id: int, deadline_seconds: int, claim_id: UUID
) -> list[Claim]:
    """Make a call of ``claim_batch`` again that was not answered. It is too late to submit what it wins.

    Raises:
        OutcomeUnknown: no answer for ``ASK_SECONDS``.
    """
    return await _claim(pool, work, carrier_id, deadline_seconds, claim_id, ASK_SECONDS)


async def _claim(
    pool: Pool,
    work: Sequence[tuple[str, int]],
    carrier_id: int,
    deadline_seconds: int,
    claim_id: UUID,
    patience_seconds: float,
) -> list[Claim]:
    columns = [list(column) for column in zip(*work, strict=True)]
    args = (*columns, carrier_id, deadline_seconds, claim_id)
    return list(map(Claim._make, await call(pool, CLAIM, *args, deadline_seconds=patience_seconds)))


class Claimed(NamedTuple):
    """A won claim and the message it is for."""

    message_id: UUID
    claim: Claim


class Outcome(NamedTuple):
    """What became of one part of one attempt; the fields stand in the order of the function's arrays."""

    message_id: UUID
    attempt_no: int
    part_no: int
    outcome: str
    reference: str | None
    error: str | None
    detail: str | None
    retry_seconds: float
    next_carrier_id: int | None


class Recorded(NamedTuple):
    """Whether the state moved, where it is now, and the receipts that waited for this reference."""

    moved: bool
    state: str | None
    receipt_ids: list[UUID] | None
    client_id: int | None


# What is answered where no call can record an outcome: its claim ends at its deadline.
UNRECORDABLE: Final = Recorded(moved=False, state=None, receipt_ids=None, client_id=None)

RECORD = "select * from tollwire.record_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"


async def record_batch(
    pool: Pool,
    outcomes: Sequence[Outcome],
    carrier_id: int,
    *,
    may_ask_again: bool,
    tries_max: int,
    receipt_wait_seconds: int,
) -> list[Recorded]:
    """Record outcomes of one carrier's attempts; an answer for each position."""
    columns = [list(column) for column in zip(*outcomes, strict=True)]
    rows = await call(
        pool,
        RECORD,
        *columns,
        carrier_id,
        may_ask_again,
        tries_max,
        receipt_wait_seconds,
        deadline_seconds=RECORD_DEADLINE_SECONDS,
    )
    return list(map(Recorded._make, rows))


class Whom(NamedTuple):
    """Whom a message is for; an empty number where there is no such message any more."""

    msisdn: str
    is_test: bool
    is_bound: bool
    """The carrier that it is dispatched to may have it, and is the only one that may be asked again."""
    left_seconds: float
    """For how long it is valid yet; below 0 when its validity is over."""


READ_NUMBERS = """
select o_msisdn, o_is_test, o_is_bound, o_left_seconds from tollwire.read_numbers_v1($1, $2, $3)
"""


async def read_numbers(
    pool: Pool, work: Sequence[tuple[str, int]], carrier_id: int, *, may_ask_again: bool
) -> list[Whom]:
    """Return whom a carrier's (message id, dispatch number) pairs are for; an answer for each position."""
    args = ([id_ for id_, _ in work], carrier_id, may_ask_again)
    rows = await call(pool, READ_NUMBERS, *args, deadline_seconds=CALL_DEADLINE_SECONDS)
    return list(map(Whom._make, rows))


PUT_OFF = "select tollwire.put_off_work_v1($1, $2, $3)"


async def put_off_work(pool: Pool, work: Sequence[tuple[str, int]], seconds: Sequence[float]) -> int:
    """Make (message id, dispatch number) pairs that nobody has claimed due in so many seconds; how many."""
    messages, dispatches = (list(column) for column in zip(*work, strict=True))
    rows = await call(
        pool, PUT_OFF, messages, dispatches, list(seconds), deadline_seconds=CALL_DEADLINE_SECONDS
    )
    return int(rows[0][0])
