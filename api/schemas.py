"""What clients send and get: the same types validate requests and make the OpenAPI document.

Requests refuse unknown fields. Amounts are decimal text, times are RFC 3339 in UTC with milliseconds.
What depends on more than the shape (a real number, an allowed sender) is decided behind these types.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from api.patterns import RIGHT, text_of
from api.problems import Problem

# As long as the client_ref of the large gateways, so that nobody has to shorten theirs.
CLIENT_REF_MAX = 100
# 15 digits with a plus; of a name's 11 characters ``shared.domain.senders`` knows.
SENDER_CHARACTERS_MAX = 16
# Below a minute a carrier's own queue can be longer; above three days no carrier keeps a message.
VALID_FOR_MIN_SECONDS = 60
VALID_FOR_MAX_SECONDS = 259_200
# RULES 22: a scheduled message keeps its hold, so the wait is bounded.
SEND_AT_MAX_DAYS = 30
# RULES 12: one answer an item, all in one group commit or two.
BATCH_MESSAGES_MAX = 1_000
# Longer addresses are not accepted by common servers.
URL_CHARACTERS_MAX = 2_048
# Every message of a flush has one time.
TIMES_CACHED = 256
# A page that a person or a program still handles; more is another page.
PAGE_MAX = 1_000
PAGE_DEFAULT = 50
CURSOR_CHARACTERS_MAX = 64

# What lies outside is a program's smallest or largest date, not a time that anybody means; PostgreSQL would
# store some of them as infinity, which no list can show.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
OUT_OF_TIME = "must be a time of the years 2000 to 2199"

AMOUNT_PATTERN = r"^-?[0-9]{1,13}\.[0-9]{4,6}$"
AMOUNT_RIGHT = "must be an amount with at least four decimals, as in 0.0750"
PREFIX_RIGHT = "must be at most 15 digits without the +, as in 49"
PRICE_RIGHT = "must be an amount like 0.10, with at most 12 digits, a point and at most six decimals"

Amount = Annotated[
    str,
    text_of(
        AMOUNT_PATTERN,
        AMOUNT_RIGHT,
        description="A decimal amount, at least four decimals.",
        examples=["0.0750"],
    ),
]
Price = Annotated[
    str,
    text_of(
        r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
        PRICE_RIGHT,
        description="A decimal amount with at most six decimals, in the account's currency.",
        examples=["0.10"],
    ),
]
Currency = Annotated[str, text_of("^[A-Z]{3}$", "must be three capital letters, as in EUR", examples=["EUR"])]
Time = Annotated[
    str, Meta(extra_json_schema={"format": "date-time", "examples": ["2026-11-21T10:00:00.123Z"]})
]
Lane = Annotated[Literal["express", "normal", "bulk"], Meta(examples=["normal"])]
Delivery = Literal["at_most_once", "at_least_once"]
Encoding = Literal["GSM7", "UCS2"]
Status = Annotated[
    Literal[
        "SCHEDULED", "QUEUED", "SENDING", "SENT", "FAILED_TEMP", "UNKNOWN",
        "DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED",
    ],
    Meta(examples=["QUEUED"]),
]  # fmt: skip
Instant = Annotated[datetime, Meta(tz=True)]
Cursor = Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX, description="As a page gave it.")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="How many at most.")]

To = Annotated[
    str,
    Meta(
        description="The destination in E.164, with the leading +.",
        examples=["+4915112345678"],
    ),
]
Text = Annotated[
    str,
    Meta(
        min_length=1,
        description="GSM 03.38 where it fits, else UCS-2. Long texts go in segments; nothing is cut off.",
        examples=["Your code is 123456"],
    ),
]
Sender = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=SENDER_CHARACTERS_MAX,
        description="The sender: at most 11 characters of the GSM 7-bit alphabet, or a number. "
        "Left out: the client's default one.",
        examples=["ACME"],
    ),
]
ClientRef = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=CLIENT_REF_MAX,
        description="Your own reference, given back.",
        examples=["order-1"],
    ),
]
ValidFor = Annotated[
    int,
    Meta(
        ge=VALID_FOR_MIN_SECONDS,
        le=VALID_FOR_MAX_SECONDS,
        description="How long it may be delivered, from acceptance or send_at; then it expires, uncharged.",
        examples=[600],
    ),
]
CallbackUrl = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=URL_CHARACTERS_MAX,
        pattern="^https?://",
        extra={RIGHT: "must begin with https:// or http://"},
        description="Where to report this message, on a registered host; left out: the client's endpoint.",
    ),
]


class Timed(Struct, frozen=True):
    """A body or a query with times: each lies in the years that OUT_OF_TIME names.

    Messages are no such struct: of a batch each is looked at alone, in ``api.orders``.
    """

    def __post_init__(self) -> None:
        """Refuse other times, in the words in which ``api.violations`` finds the field."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime) and is_strange(value):
                raise ValueError(f"{OUT_OF_TIME} - at `$.{name}`")


def is_strange(moment: datetime) -> bool:
    """Whether nobody means this time (EARLIEST, LATEST)."""
    return not EARLIEST <= moment < LATEST


SenderShown = Annotated[str, Meta(examples=["ACME"])]
RefShown = Annotated[str, Meta(examples=["order-1"])]


class MessageRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One message to send. Only `to` and `text` are required."""

    to: To
    text: Text
    sender: Sender | None = field(name="from", default=None)
    lane: Annotated[
        Lane | None, Meta(description="express for one-time passwords, bulk for campaigns; else normal.")
    ] = None
    client_ref: ClientRef | None = None
    send_at: Annotated[
        Instant | None,
        Meta(description="Not before this time, at most 30 days ahead; one that has passed: at once."),
    ] = None
    valid_for_seconds: ValidFor | None = None
    max_price: Annotated[
        Price | None, Meta(description="Refuse (402) when the whole message costs more.")
    ] = None
    callback_url: CallbackUrl | None = None
    delivery: Annotated[
        Delivery | None,
        Meta(description="When a carrier's answer is lost. Default: at_least_once for express only."),
    ] = None


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Either `messages`, each with its own fields, or `to` as a list and one `text` for all."""

    messages: Annotated[list[MessageRequest], Meta(min_length=1, max_length=BATCH_MESSAGES_MAX)] | None = None
    to: Annotated[list[To], Meta(min_length=1, max_length=BATCH_MESSAGES_MAX)] | None = None
    text: Text | None = None
    sender: Sender | None = field(name="from", default=None)
    lane: Lane | None = None
    client_ref: ClientRef | None = None
    send_at: Instant | None = None
    valid_for_seconds: ValidFor | None = None
    max_price: Annotated[Price | None, Meta(description="For each message.")] = None
    callback_url: CallbackUrl | None = None
    delivery: Delivery | None = None


class Money(Struct, frozen=True):
    """An amount in its currency."""

    amount: Amount
    currency: Currency


class Available(Struct, frozen=True):
    """What was left to spend right after this message's hold."""

    available: Annotated[Amount, Meta(examples=["99.9250"])]
    currency: Currency


class MessageAccepted(Struct, frozen=True):
    """The message is stored durably and its price is held."""

    id: UUID
    status: Status
    to: To
    sender: SenderShown = field(name="from")
    lane: Lane
    encoding: Encoding
    segments: int
    price: Money
    balance: Available
    client_ref: RefShown | None
    created_at: Time


class BatchResult(Struct, frozen=True, omit_defaults=True):
    """The answer to one item: `message` and its `id` when accepted, else the `problem`."""

    index: Annotated[int, Meta(ge=0, description="The item's place in the request.")]
    id: UUID | UnsetType = UNSET
    message: MessageAccepted | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET
    replayed: (
        Annotated[bool, Meta(description="Accepted by an earlier request with this key.")] | UnsetType
    ) = UNSET


class BatchAnswer(Struct, frozen=True):
    """An answer for each item, in the order of the request. Items stand alone: some may be rejected."""

    accepted: int
    rejected: int
    results: list[BatchResult]


class Preview(Struct, frozen=True):
    """What the message would be: the same functions and prices as when it is sent."""

    to: To
    region: Annotated[str | None, Meta(description="ISO 3166-1 region of the number.")]
    sender: SenderShown = field(name="from")
    encoding: Encoding
    segments: int
    parts: Annotated[list[str], Meta(description="The text of each segment; joined they are the text.")]
    price: Money
    rate_version: int


@lru_cache(maxsize=TIMES_CACHED)
def time_text(moment: datetime) -> str:
    """A time as the API shows it: UTC, milliseconds, ``Z``."""
    if moment.tzinfo is None:
        # PostgreSQL's infinity, which asyncpg reads as the calendar's first or last moment.
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_time_text(moment: datetime | None) -> str | None:
    """``time_text``, or None for what has not happened."""
    return None if moment is None else time_text(moment)
