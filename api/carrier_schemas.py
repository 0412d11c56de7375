"""What operators send and get about carriers and routes."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from api.admin_schemas import Name, Reason
from api.patterns import text_of
from api.schemas import PAGE_DEFAULT, PREFIX_RIGHT, Cursor, Limit

RATE_PER_SECOND_MAX = 1_000_000
WINDOW_MAX = 100_000
SUBMIT_DEADLINE_MIN_SECONDS, SUBMIT_DEADLINE_MAX_SECONDS = 4, 600
RECEIPT_WAIT_MAX_SECONDS = 604_800
# A receipt finds its message within 7 days: a hold that is longer open could only end without it.
NO_RECEIPT_MAX_SECONDS = 604_800
# A token or an HMAC key; longer ones are certificates, which belong into files.
SECRET_CHARACTERS_MAX = 4_096
VERSION_CHARACTERS_MAX = 64
PRIORITY_MAX = 100


class CarrierPath(Struct, frozen=True):
    """The name of a carrier."""

    name: Name


class CarrierRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a carrier is; the whole of it, but for its secret, which stays when it is left out."""

    kind: Annotated[Literal["http"], Meta(description="How it is spoken to.")] = "http"
    settings: Annotated[
        dict[str, Any],
        Meta(
            description="As docs/simulator.md tells for the kind. Shown as they are: "
            "a password goes into `secret`, and `$secret` stands for it here."
        ),
    ]
    enabled: bool = True
    is_simulator: Annotated[bool, Meta(description="Takes what test keys send.")] = False
    idempotent_submit: Annotated[
        bool, Meta(description="It recognises our id: a lost answer is asked again.")
    ] = False
    can_query: Annotated[bool, Meta(description="Has no effect yet: false.")] = False
    splits_parts: Annotated[bool, Meta(description="Has no effect yet: false.")] = False
    rate_per_second: Annotated[int, Meta(ge=0, le=RATE_PER_SECOND_MAX, description="0: no limit.")] = 0
    window_max: Annotated[int, Meta(ge=1, le=WINDOW_MAX, description="Submits in flight.")] = 1_000
    submit_deadline_seconds: Annotated[
        int, Meta(ge=SUBMIT_DEADLINE_MIN_SECONDS, le=SUBMIT_DEADLINE_MAX_SECONDS)
    ] = 60
    no_receipt_policy: Annotated[
        Literal["release", "capture"],
        Meta(description="What becomes of the hold when no receipt ever comes."),
    ] = "release"
    receipt_wait_seconds: Annotated[int, Meta(ge=1, le=RECEIPT_WAIT_MAX_SECONDS)] = 3_600
    no_receipt_seconds: Annotated[int, Meta(ge=1, le=NO_RECEIPT_MAX_SECONDS)] = 259_200
    secret: Annotated[str, Meta(min_length=1, max_length=SECRET_CHARACTERS_MAX)] | None = None
    version: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=VERSION_CHARACTERS_MAX,
                description="As it was shown: a carrier that was changed since is left as it is.",
            ),
        ]
        | None
    ) = None
    reason: Reason | None = None


class CarrierShown(Struct, frozen=True, kw_only=True):
    """A carrier, without its secret."""

    id: int
    name: str
    kind: str
    settings: dict[str, Any]
    enabled: bool
    is_simulator: bool
    idempotent_submit: bool
    can_query: bool
    splits_parts: bool
    rate_per_second: int
    window_max: int
    submit_deadline_seconds: int
    no_receipt_policy: str
    receipt_wait_seconds: int
    no_receipt_seconds: int
    has_secret: bool
    version: Annotated[
        str,
        Meta(
            description="Of what the carrier is; another one after a new secret, too, "
            "or when the keyring was rotated and the secret sealed anew."
        ),
    ]


class CarrierList(Struct, frozen=True):
    """All carriers by name."""

    carriers: list[CarrierShown]


class RouteRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which carrier takes the numbers that begin with a prefix; `carrier` null removes the route."""

    prefix: Annotated[
        str, text_of("^[0-9]{0,15}$", PREFIX_RIGHT, description="Empty: all numbers.", examples=["49"])
    ]
    priority: Annotated[int, Meta(ge=1, le=PRIORITY_MAX, description="1 is tried first.")] = 1
    carrier: Name | None
    reason: Reason | None = None


class RouteShown(Struct, frozen=True):
    """A route."""

    prefix: str
    priority: int
    carrier: str


class RouteQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of routes."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class RouteList(Struct, frozen=True):
    """A page of routes, by prefix and priority."""

    routes: list[RouteShown]
    next_cursor: str | None


class RouteChanged(Struct, frozen=True):
    """The route as it is now; null after it was removed."""

    route: RouteShown | None
    removed: Annotated[bool, Meta(description="There was one, and it is gone.")]
