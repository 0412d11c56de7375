"""What operators send and get about money: credit, rates, dead letters, the audit trail."""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from api.admin_schemas import ClientName, Name, Reason
from api.patterns import text_of
from api.schemas import PAGE_DEFAULT, PREFIX_RIGHT, PRICE_RIGHT, Amount, Currency, Cursor, Limit, Money, Time

# One request's rates; a whole price list takes a few requests.
RATES_MAX = 1_000

Reference = Annotated[
    str,
    text_of(
        "^[!-~]{1,255}$",
        "must be 1 to 255 letters, digits and signs of ASCII, without a space",
        description="Unique for the account: the same again is answered again.",
        examples=["invoice-17"],
    ),
]
SignedAmount = Annotated[
    str,
    text_of(
        r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$",
        "must be an amount like 100.00 or -5.00, with at most 12 digits, a point and at most six decimals",
        examples=["100.00"],
    ),
]
Prefix = Annotated[
    str,
    text_of(
        "^[1-9][0-9]{0,14}$",
        "must be 1 to 15 digits without the +, as in 49",
        description="How the numbers begin, without the +.",
        examples=["49"],
    ),
]


class CreditRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A top-up (> 0), an adjustment (either sign) or a new credit limit (>= 0), once for each reference.

    Neither the balance nor the limit may come to more than 1,000,000,000,000.
    """

    kind: Literal["top_up", "adjustment", "credit_limit"] = "top_up"
    amount: SignedAmount
    reference: Reference
    reason: Reason | None = None


class CreditPosted(Struct, frozen=True, kw_only=True):
    """The account right after the operation."""

    replayed: Annotated[bool, Meta(description="It was done before, under this reference.")]
    entry_version: Annotated[int | None, Meta(description="Its line of the journal; null for a limit.")]
    posted: Amount
    held: Amount
    available: Amount
    credit_limit: Amount
    currency: Currency
    at: Time


class RateLine(Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a segment to numbers that begin with the prefix; null ends the rate."""

    prefix: Prefix
    price: Annotated[str, text_of(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", PRICE_RIGHT)] | None


class RatesRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rates to put in force together; other prefixes stay."""

    client: ClientName = None
    currency: Currency
    rates: Annotated[list[RateLine], Meta(min_length=1, max_length=RATES_MAX)]
    reason: Reason | None = None


class RatesChanged(Struct, frozen=True):
    """How many rates are new or ended; those that were so already are not counted."""

    changed: int


class RateQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which rates."""

    client: Name | None = None
    prefix: Annotated[
        str, text_of("^[0-9]{0,15}$", PREFIX_RIGHT, description="Rates whose prefix begins so.")
    ] = ""
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class RateShown(Struct, frozen=True, kw_only=True):
    """A rate in force."""

    client: str | None
    prefix: str
    price: Amount
    currency: Currency
    since_version: int
    created_at: Time


class RatePage(Struct, frozen=True):
    """Rates by currency and prefix."""

    rates: list[RateShown]
    next_cursor: str | None


class DeadLetterQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters."""

    client: Name | None = None
    reason: Annotated[str, Meta(max_length=100)] | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class DeadLetterShown(Struct, frozen=True, kw_only=True):
    """A message that was given up."""

    message_id: UUID
    client: str
    reason: str
    attempts: int
    at: Time
    is_test: bool
    price: Money
    charged: Annotated[bool, Meta(description="Its price was charged all the same.")]
    delivered_late: Annotated[
        bool,
        Meta(description="It was delivered, or what it replays, or another replay: it is not replayed."),
    ]
    with_carrier: Annotated[
        bool,
        Meta(description="The carrier is known to have it, and not what became of it: it may yet arrive."),
    ]
    replays: Annotated[list[UUID], Meta(description="New messages that replayed it.")]


class DeadLetterPage(Struct, frozen=True):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterShown]
    next_cursor: str | None


class AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the trail."""

    target: Annotated[str, Meta(max_length=200, examples=["client/acme"])] | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class AuditLine(Struct, frozen=True, kw_only=True):
    """Who changed what."""

    id: int
    at: Time
    actor: str
    address: str | None
    action: str
    target: str
    before: Any
    after: Any
    reason: str | None


class AuditPage(Struct, frozen=True):
    """The audit trail, newest first."""

    lines: list[AuditLine]
    next_cursor: str | None
