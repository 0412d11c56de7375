"""What clients send and get about their callbacks."""

from typing import Annotated, Literal, get_args
from uuid import UUID

from msgspec import Meta, Struct

from api.schemas import PAGE_DEFAULT, CallbackUrl, Cursor, Instant, Limit, Time, Timed

# One request names as many as one page of the log shows.
REPLAY_IDS_MAX = 1_000
# The old secret goes on signing for this long at most (Standard Webhooks: a period of rotation).
ROTATION_GRACE_MAX_SECONDS = 604_800
ROTATION_GRACE_DEFAULT_SECONDS = 86_400

# Each is sent. Endpoints that were set before may have "message.queued" too, which never was: it is not
# shown, so that who reads an endpoint can write it back.
EventType = Literal[
    "message.sent", "message.delivered", "message.undelivered", "message.expired",
    "message.failed", "message.cancelled", "message.late_receipt",
]  # fmt: skip
EVENT_TYPES: frozenset[str] = frozenset(get_args(EventType))


class CallbackSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where and what to report."""

    url: CallbackUrl
    events: (
        Annotated[
            list[EventType], Meta(min_length=1, max_length=16, description="Left out: every final state.")
        ]
        | None
    ) = None
    keep_answers: Annotated[
        bool, Meta(description="Keep the first 1 KB of your endpoint's answers in the attempt log.")
    ] = False


class CallbackSecret(Struct, frozen=True):
    """A signing secret as it can be shown later: never the secret itself."""

    id: int
    created_at: Time
    expires_at: Time | None


class CallbackEndpoint(Struct, frozen=True):
    """The client's endpoint and how it is doing."""

    url: str
    events: list[str]
    keep_answers: bool
    secrets: list[CallbackSecret]
    secret: Annotated[str | None, Meta(description="whsec_…, shown once: when it was made.")]
    open_until: Annotated[Time | None, Meta(description="The breaker waits until then.")]
    failing_since: Annotated[
        Time | None,
        Meta(description="The first of the failures in a row; null until the breaker has opened for them."),
    ]
    disabled_at: Time | None
    disabled_reason: str | None
    updated_at: Time


class RotateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old secret goes on signing beside the new one."""

    grace_seconds: Annotated[int, Meta(ge=0, le=ROTATION_GRACE_MAX_SECONDS)] = ROTATION_GRACE_DEFAULT_SECONDS


class RotatedSecret(Struct, frozen=True):
    """The new secret, shown this once."""

    secret: str
    old_secrets_until: Time


class TestRequested(Struct, frozen=True):
    """The test event is on its way."""

    id: UUID
    webhook_id: Annotated[str, Meta(description="The header webhook-id that the endpoint sees.")]


class CallbackLogQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which callbacks."""

    message_id: UUID | None = None
    outcome: Literal["waiting", "delivered", "gave_up", "superseded", "discarded"] | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class Try(Struct, frozen=True):
    """One attempt that failed, or whose answer was kept."""

    attempt: int
    at: Time
    status: Annotated[int | None, Meta(description="The endpoint's HTTP status.")]
    error: str | None
    duration_ms: int | None
    address: Annotated[str | None, Meta(description="The address that was connected to.")]
    answer: Annotated[str | None, Meta(description="The first 1 KB of the answer, if it is kept.")]


class LoggedCallback(Struct, frozen=True):
    """A callback and what came of it."""

    id: UUID
    webhook_id: str
    message_id: Annotated[UUID | None, Meta(description="null for a test.")]
    event: str
    sequence: int
    created_at: Time
    attempts: int
    outcome: Literal["waiting", "delivered", "gave_up", "superseded", "discarded"]
    due_at: Annotated[Time | None, Meta(description="When it is tried next.")]
    done_at: Time | None
    status: int | None
    duration_ms: int | None
    tries: Annotated[list[Try], Meta(description="Those that failed or whose answer was kept, the last 20.")]


class CallbackLog(Struct, frozen=True):
    """One page of callbacks, newest first."""

    callbacks: list[LoggedCallback]
    next_cursor: str | None


class CallbackReplay(Timed, frozen=True, forbid_unknown_fields=True):
    """Either `ids` of callbacks, or `since`: all from then on that never arrived."""

    ids: Annotated[list[UUID], Meta(min_length=1, max_length=REPLAY_IDS_MAX)] | None = None
    since: Instant | None = None
    cursor: (
        Annotated[Cursor, Meta(description="`next_cursor` of the answer before, beside the same `since`.")]
        | None
    ) = None


class Replayed(Struct, frozen=True):
    """How many callbacks are on their way again."""

    replayed: int
    complete: Annotated[bool, Meta(description="false: there are more, ask again with `next_cursor`.")]
    next_cursor: str | None
