"""What clients read back: messages, balance, statement, callbacks."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

from api.schemas import (
    PAGE_DEFAULT,
    Amount,
    ClientRef,
    Currency,
    Cursor,
    Delivery,
    Encoding,
    Instant,
    Lane,
    Limit,
    Money,
    RefShown,
    SenderShown,
    Status,
    Time,
    Timed,
    To,
)
from shared.domain.msisdn import E164_PATTERN

# In a query a raw plus is a space, and the text another number or none.
TO_FILTER = "must be in E.164 with its +, which is %2B in a URL"


class MessagePath(Struct, frozen=True, forbid_unknown_fields=True):
    """The id of a message."""

    id: UUID


class MessageQuery(Timed, frozen=True, forbid_unknown_fields=True):
    """Filters of a list of messages; all that are given must hold."""

    status: Status | None = None
    to: (
        Annotated[
            str,
            Meta(
                description="This destination, in E.164 with its +, which is %2B in a URL.",
                examples=["+4915112345678"],
                extra_json_schema={"pattern": E164_PATTERN},
            ),
        ]
        | None
    ) = None
    client_ref: ClientRef | None = None
    lane: Lane | None = None
    since: Annotated[Instant | None, Meta(description="Accepted at this time or later.")] = None
    until: Annotated[Instant | None, Meta(description="Accepted before this time.")] = None
    cursor: Annotated[Cursor | None, Meta(description="`next_cursor` of the page before: what is older.")] = (
        None
    )
    after: Annotated[
        Cursor | None,
        Meta(description="`after` of an earlier page: what came since, oldest first, up to 30 s before now."),
    ] = None
    limit: Limit = PAGE_DEFAULT


class Attempt(Struct, frozen=True):
    """One try to hand one part to a carrier."""

    attempt: int
    part: int
    carrier: str
    claimed_at: Time
    outcome: Annotated[str | None, Meta(description="null while the carrier has not answered.")]
    outcome_at: Time | None
    carrier_reference: str | None
    error: str | None
    receipt: str | None
    receipt_at: Time | None


class Event(Struct, frozen=True):
    """Something that happened to the message."""

    at: Time
    event: str
    attempt: int | None = None
    detail: str | None = None


class Hold(Struct, frozen=True):
    """The price, set aside: HELD, then CAPTURED or RELEASED, exactly once."""

    state: Literal["HELD", "CAPTURED", "RELEASED"]
    amount: Amount
    currency: Currency
    held_at: Time
    resolved_at: Time | None
    reason: str | None
    late_captured_at: Time | None


class MessageSummary(Struct, frozen=True):
    """A message in a list."""

    id: UUID
    status: Status
    to: To
    sender: SenderShown = field(name="from")
    lane: Lane
    encoding: Encoding
    segments: int
    price: Money
    client_ref: RefShown | None
    error: Annotated[str | None, Meta(description="Why it was not delivered.")]
    carrier: str | None
    created_at: Time
    send_at: Time | None
    valid_until: Time
    submitted_at: Time | None
    final_at: Time | None
    is_test: bool


class MessageDetail(MessageSummary, frozen=True, kw_only=True):
    """Everything about one message."""

    text: Annotated[str | None, Meta(description="null when its retention has ended, or its key is away.")]
    text_expired: Annotated[bool, Meta(description="true: the text is gone for good.")]
    region: str
    delivery: Delivery
    rate_version: int
    callback_url: str | None
    replay_of: UUID | None
    parts_delivered: int
    possible_duplicate: bool
    late_receipt: bool
    hold: Hold
    attempts: list[Attempt]
    events: list[Event]


class MessagePage(Struct, frozen=True):
    """One page of messages, newest first (with `after`: oldest first)."""

    messages: list[MessageSummary]
    next_cursor: Annotated[str | None, Meta(description="Pass as `cursor`; null at the end.")]
    after: Annotated[str | None, Meta(description="Pass as `after` later to get what came since.")]


class Cancelled(Struct, frozen=True):
    """The message will not be sent; its hold is released."""

    id: UUID
    status: Literal["CANCELLED"]


class Balance(Struct, frozen=True):
    """One snapshot of the account."""

    posted: Annotated[Amount, Meta(description="Top-ups less what was captured.")]
    held: Annotated[Amount, Meta(description="Set aside for messages on their way.")]
    available: Annotated[Amount, Meta(description="posted - held + credit_limit.")]
    credit_limit: Amount
    currency: Currency
    open_holds: int
    as_of: Time


class StatementQuery(Timed, frozen=True, forbid_unknown_fields=True):
    """Which part of the statement."""

    kind: Literal["top_up", "hold", "capture", "release", "adjustment", "late_capture"] | None = None
    since: Instant | None = None
    until: Instant | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


ENTRY_AMOUNT = (
    "`top_up`: added to posted; `adjustment`: added to posted, taken from it when below zero; `hold`: added "
    "to held; `release`: taken from held; `capture`: taken from both; `late_capture`: taken from posted."
)


class Entry(Struct, frozen=True):
    """A line of the journal: append-only, numbered without gaps for each account."""

    version: int
    at: Time
    kind: str
    amount: Annotated[Amount, Meta(description=ENTRY_AMOUNT)]
    message_id: UUID | None
    posted_after: Amount
    held_after: Amount
    reference: str | None
    reason: str | None


class Statement(Struct, frozen=True):
    """Entries of the account, newest first."""

    currency: Currency
    entries: list[Entry]
    next_cursor: str | None
