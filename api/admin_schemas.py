"""What operators send and get about clients and their keys."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from api.patterns import text_of
from api.read_schemas import Balance
from api.schemas import (
    PAGE_DEFAULT,
    SENDER_CHARACTERS_MAX,
    Currency,
    Cursor,
    Instant,
    Limit,
    Time,
    Timed,
)

# Above every contract that was ever signed; a larger number is a typing error.
REQUESTS_PER_MINUTE_MAX = 10_000_000
REQUESTS_BURST_MAX = 1_000_000
MESSAGES_PER_SECOND_MAX = 1_000_000
# RULES 29.
TEXT_RETENTION_MAX_DAYS = 30
SENDERS_MAX = 1_000
COUNTRIES_MAX = 300
CALLBACK_HOSTS_MAX = 100
NETWORKS_MAX = 100
REASON_CHARACTERS_MAX = 500

Name = Annotated[
    str,
    text_of(
        "^[a-z0-9][a-z0-9_-]{0,62}$",
        "must be of lower-case letters, digits, - and _, at most 63, and begin with a letter or a digit",
        description="Lower case, digits, - and _.",
        examples=["acme"],
    ),
]
# PostgreSQL stores no U+0000.
STORABLE = r"^[^\x00]*$"
STORABLE_RIGHT = "must not hold NUL"
Reason = Annotated[
    str,
    text_of(
        STORABLE,
        STORABLE_RIGHT,
        max_length=REASON_CHARACTERS_MAX,
        description="Why; stands in the audit trail.",
    ),
]
Scope = Literal["messages:send", "messages:read", "balance:read", "callbacks:manage", "admin"]
Country = Annotated[str, text_of("^[A-Z]{2}$", "must be two capital letters, as in DE", examples=["DE"])]
Senders = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=SENDER_CHARACTERS_MAX)]],
    Meta(min_length=1, max_length=SENDERS_MAX),
]
DefaultSender = Annotated[str, Meta(min_length=1, max_length=SENDER_CHARACTERS_MAX)]
DEFAULT_SENDER = "Used when a message names none; one of allowed_senders, where there is such a list."
PerMinute = Annotated[int, Meta(ge=1, le=REQUESTS_PER_MINUTE_MAX)]
Burst = Annotated[int, Meta(ge=1, le=REQUESTS_BURST_MAX, description="Requests that may come at once.")]
PerSecond = Annotated[
    int, Meta(ge=0, le=MESSAGES_PER_SECOND_MAX, description="Pacing; 0: as fast as carriers take it.")
]
Retention = Annotated[
    int, Meta(ge=0, le=TEXT_RETENTION_MAX_DAYS, description="After the validity; 0: until the final state.")
]
Countries = Annotated[list[Country], Meta(max_length=COUNTRIES_MAX)]
Hosts = Annotated[
    list[
        Annotated[
            str, text_of("^[a-z0-9.:-]{1,253}$", "must be a host in lower case, as in hooks.example.com")
        ]
    ],
    Meta(max_length=CALLBACK_HOSTS_MAX, description="Hosts that a message's callback_url may name."),
]
Charge = Annotated[
    Literal["delivered", "submitted"],
    Meta(description="Captured by the receipt, or when the carrier accepts."),
]
ClientName = Annotated[
    Name | None, Meta(description="null: an operator's key, or the price list for everybody.")
]


class ClientPath(Struct, frozen=True):
    """The name of a client."""

    name: str


class KeyPath(Struct, frozen=True):
    """The id of a key."""

    key_id: str


class NewClient(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client and its empty account."""

    name: Name
    currency: Currency = "EUR"
    requests_per_minute: PerMinute = 10_000
    requests_burst: Burst = 1_000
    messages_per_second: PerSecond = 0
    charge: Charge = "delivered"
    partial_charge: Annotated[bool, Meta(description="Has no effect yet: false.")] = False
    waive_late_capture: bool = False
    allowed_senders: Annotated[Senders | None, Meta(description="null: any.")] = None
    default_sender: (
        Annotated[
            DefaultSender, Meta(description=f"{DEFAULT_SENDER} Left out: the first of those, else Tollwire.")
        ]
        | UnsetType
    ) = UNSET
    allowed_countries: Annotated[Countries | None, Meta(description="null: all with a rate.")] = None
    allowed_callback_hosts: Hosts = []
    text_retention_days: Retention = 7
    suspended: bool = False
    reason: Reason | None = None


class ClientChange(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change; what is left out stays."""

    suspended: (
        Annotated[bool, Meta(description="true stops its sending within a second, and ends what waits.")]
        | UnsetType
    ) = UNSET
    requests_per_minute: PerMinute | UnsetType = UNSET
    requests_burst: Burst | UnsetType = UNSET
    messages_per_second: PerSecond | UnsetType = UNSET
    charge: Charge | UnsetType = UNSET
    partial_charge: Annotated[bool, Meta(description="Has no effect yet: false.")] | UnsetType = UNSET
    waive_late_capture: bool | UnsetType = UNSET
    allowed_senders: Senders | UnsetType | None = UNSET
    default_sender: Annotated[DefaultSender, Meta(description=DEFAULT_SENDER)] | UnsetType = UNSET
    allowed_countries: Countries | UnsetType | None = UNSET
    allowed_callback_hosts: Hosts | UnsetType = UNSET
    text_retention_days: Retention | UnsetType = UNSET
    reason: Reason | None = None


class ClientBacklog(Struct, frozen=True, kw_only=True):
    """What of a client's waits, as far as it is among what all clients have waiting."""

    dispatchable: Annotated[
        int, Meta(description="Messages that may be sent now and are not with a carrier.")
    ]
    scheduled: Annotated[int, Meta(description="Messages that wait for their time, their pace or a retry.")]
    oldest_seconds: Annotated[float, Meta(description="How long the oldest dispatchable one has waited.")]
    callbacks: Annotated[int, Meta(description="Callbacks that are not done, retries included.")]
    oldest_callback_seconds: Annotated[float, Meta(description="How long the oldest that is due has waited.")]


class ClientShown(Struct, frozen=True, kw_only=True):
    """A client, its settings and its balance."""

    id: int
    name: str
    suspended: bool
    requests_per_minute: int
    requests_burst: int
    messages_per_second: int
    charge: Charge
    partial_charge: bool
    waive_late_capture: bool
    allowed_senders: list[str] | None
    default_sender: str
    allowed_countries: list[str] | None
    allowed_callback_hosts: list[str]
    text_retention_days: int
    created_at: Time
    balance: Balance
    backlog: Annotated[
        ClientBacklog | None, Meta(description="Only where one client is asked for, not in lists.")
    ] = None


class NameQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of clients, by name."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class ClientPage(Struct, frozen=True):
    """Clients by name."""

    clients: list[ClientShown]
    next_cursor: str | None


class NewKeyRequest(Timed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key may do."""

    client: ClientName = None
    name: Annotated[str, text_of(STORABLE, STORABLE_RIGHT, max_length=100, description="For people.")] = ""
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=5)]
    test: Annotated[
        bool,
        Meta(description="Messages never leave the simulator and cost nothing; it sees no live ones."),
    ] = False
    allowed_ips: (
        Annotated[
            list[Annotated[str, text_of(STORABLE, STORABLE_RIGHT)]],
            Meta(min_length=1, max_length=NETWORKS_MAX, description="Addresses or networks, in full."),
        ]
        | None
    ) = None
    expires_at: Instant | None = None
    reason: Reason | None = None


class KeyShown(Struct, frozen=True, kw_only=True):
    """A key, without its secret."""

    key_id: str
    client: str | None
    name: str
    is_test: bool
    scopes: list[str]
    allowed_ips: list[str] | None
    expires_at: Time | None
    revoked_at: Time | None
    created_at: Time
    last_used_at: Annotated[Time | None, Meta(description="Within a minute.")]


class NewKeyShown(KeyShown, frozen=True, kw_only=True):
    """A new key with its text."""

    key: Annotated[str, Meta(description="Shown this once.", examples=["tw_9hT3fKq2Lm8x_…"])]


class KeyPage(Struct, frozen=True):
    """A page of keys: live ones first, then newest first."""

    keys: list[KeyShown]
    next_cursor: str | None


class KeyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of keys."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class RevokeQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a key is revoked."""

    reason: Reason | None = None
