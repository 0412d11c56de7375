"""The client's callback endpoint: set, rotate, test, look, replay (DESIGN 6)."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from api import callback_reads
from api.admission import too_many
from api.callback_schemas import (
    EVENT_TYPES,
    CallbackEndpoint,
    CallbackLog,
    CallbackLogQuery,
    CallbackReplay,
    CallbackSecret,
    CallbackSettings,
    LoggedCallback,
    Replayed,
    RotatedSecret,
    RotateRequest,
    TestRequested,
    Try,
)
from api.cursors import LAST_ID, cursor_of, read_cursor
from api.faults import connected
from api.problems import Refusal, invalid_field
from api.reader import Source
from api.resources import Resources
from api.routing import Call, Reply
from api.schemas import optional_time_text, time_text
from shared.domain.callback_events import DEFAULT_EVENT_TYPES
from shared.domain.callback_urls import CallbackUrlError, parse_callback_url
from shared.domain.problems import ProblemCode
from shared.domain.signatures import new_secret
from shared.runtime.gcra import Quota
from shared.runtime.postgres import Connection
from shared.storage import callback_endpoints
from shared.storage.audit import Actor
from shared.storage.callback_endpoints import Endpoint, EndpointSettings, NoEndpoint

# A client sets its endpoint and rotates its secret so often: each change stands in the audit trail for ever,
# and the dlr processes load their endpoints anew. Twenty at once, then one in a quarter of an hour.
CHANGE_MINUTES: Final = 15
CHANGES_BURST: Final = 20
CHANGES_QUOTA: Final = Quota(requests_per_minute=1, burst=CHANGE_MINUTES * CHANGES_BURST)
# Between the standard's 24 and 64 bytes; as long as the hash that it keys.
SECRET_BYTES: Final = 32
# What a receiver sees as webhook-id is this and the callback's id in hex.
WEBHOOK_ID_PREFIX: Final = "msg_"


async def get_callback(resources: Resources, call: Call) -> CallbackEndpoint:
    """Get the endpoint.

    And how it is doing. Its secrets are never shown again.
    """
    async with resources.places.reads.place(call.client.id), connected(resources.pool) as connection:
        return _shown(await _endpoint(connection, call), secret=None)


async def put_callback(
    resources: Resources, call: Call, *, body: CallbackSettings
) -> Reply[CallbackEndpoint]:
    """Set the endpoint.

    The first time answers 201 with the signing `secret`, shown this once. An endpoint that was switched
    off after failures, or by its own 410, is switched on again. When that answer was lost, `secret` is null
    in the repeat's: rotate to be shown another. Setting it to what it is changes nothing; of changes and
    rotations there may be 20 at once and 96 a day, then 429.
    """
    try:
        parse_callback_url(body.url, resources.url_policy)
    except CallbackUrlError as error:
        raise invalid_field("url", str(error)) from None
    events = sorted(body.events or (event.value for event in DEFAULT_EVENT_TYPES))
    secret = None
    settings = EndpointSettings(body.url, events, body.keep_answers)
    async with _alone(resources, call) as connection:
        if not await _is_as(connection, call, settings):
            await _take_change(resources, call)
        async with connection.transaction():
            endpoint_id = await callback_endpoints.put_endpoint(
                connection, call.client.id, settings, actor_of(call)
            )
            endpoint = await callback_endpoints.get_endpoint(connection, call.client.id)
            if not endpoint.secrets:
                secret = await _add_secret(resources, connection, endpoint_id, 0, call)
                endpoint = await callback_endpoints.get_endpoint(connection, call.client.id)
    return Reply(_shown(endpoint, secret), status=201 if secret is not None else 200)


async def rotate_callback_secret(resources: Resources, call: Call, *, body: RotateRequest) -> RotatedSecret:
    """Rotate the signing secret.

    The new one is shown this once. Old secrets go on signing beside it for `grace_seconds` (a day by
    default): each callback then carries a signature by each of them. After `outcome_unknown` rotate again at
    once: there may be a secret that nobody has seen, and the repeat shows one that signs, too.
    """
    async with _alone(resources, call) as connection:
        await _take_change(resources, call)
        async with connection.transaction():
            endpoint = await _endpoint(connection, call)
            secret = await _add_secret(resources, connection, endpoint.id, body.grace_seconds, call)
    until = datetime.fromtimestamp(resources.clock.now_ms() / 1000, UTC) + timedelta(
        seconds=body.grace_seconds
    )
    return RotatedSecret(secret, time_text(until))


async def test_callback(resources: Resources, call: Call) -> TestRequested:
    """Send a test event.

    `callback.test` is signed and sent like any other; look at the attempts for what came of it.
    """
    async with _alone(resources, call) as connection:
        callback_id = await callback_reads.ask_for_test(connection, call.client.id)
    if callback_id is None:
        raise _no_endpoint()
    return TestRequested(callback_id, WEBHOOK_ID_PREFIX + callback_id.hex)


async def list_callback_attempts(resources: Resources, call: Call, *, query: CallbackLogQuery) -> CallbackLog:
    """List callbacks and attempts.

    Newest first, with the tries that failed. A page has 1,000 tries at most, and ends before the callback
    with more: it may be shorter than `limit`, and its `next_cursor` leads on. A test key is shown those of
    test messages.
    """
    before = LAST_ID if query.cursor is None else read_cursor(query.cursor, "cursor")
    narrow = callback_reads.CallbackFilter(
        before, query.message_id, query.outcome, is_test_only=call.caller.is_test
    )

    async def page(source: Source) -> tuple[list[callback_reads.LoggedCallback], UUID | None]:
        return await callback_reads.list_callbacks(source.pool, call.client.id, narrow, query.limit)

    async with resources.places.reads.place(call.client.id):
        rows, reached = await resources.reader.read(page)
    return CallbackLog(
        callbacks=[_logged(row) for row in rows],
        next_cursor=None if reached is None else cursor_of(reached),
    )


async def replay_callbacks(resources: Resources, call: Call, *, body: CallbackReplay) -> Replayed:
    """Replay callbacks.

    By their `ids`, or all `since` a time that never arrived. A callback keeps its `webhook-id`, so that a
    receiver knows what it has seen; the `message.sent` of a message whose end is told is passed over. When
    `complete` is false, ask again with `next_cursor` as `cursor` beside the same `since`: one request looks
    at some thousand callbacks.
    """
    if (body.ids is None) == (body.since is None):
        raise invalid_field("ids", "is required, or else since, and not both")
    if body.cursor is not None and body.since is None:
        raise invalid_field("cursor", "stands beside since")
    after_id = None if body.cursor is None else read_cursor(body.cursor, "cursor", place="")
    wish = callback_reads.ReplayWish(body.ids, body.since, after_id)
    async with _alone(resources, call) as connection:
        await _endpoint(connection, call)
        replayed, reached = await callback_reads.replay_callbacks(connection, call.client.id, wish)
    next_cursor = None if reached is None else cursor_of(reached)
    return Replayed(replayed, complete=reached is None, next_cursor=next_cursor)


def actor_of(call: Call) -> Actor:
    """Who makes a change, for the audit trail: the key and the address it was used from."""
    return Actor(f"key/{call.caller.key_id}", call.address)


@asynccontextmanager
async def _alone(resources: Resources, call: Call) -> AsyncIterator[Connection]:
    """A connection for what changes a client's callbacks: one such request of it has one at a time."""
    async with (
        resources.places.replays.place(call.client.id),
        resources.places.reads.place(call.client.id),
        connected(resources.pool) as connection,
    ):
        yield connection


async def _is_as(connection: Connection, call: Call, settings: EndpointSettings) -> bool:
    """Whether the endpoint is set so and in order, so that setting it changes nothing."""
    try:
        found = await callback_endpoints.get_endpoint(connection, call.client.id)
    except NoEndpoint:
        return False
    is_well = found.failing_since is None and found.disabled_at is None and found.open_until is None
    return found.settings == settings and is_well and bool(found.secrets)


async def _take_change(resources: Resources, call: Call) -> None:
    taken = await resources.limits.take_many(f"callback:{call.client.id}", CHANGES_QUOTA, CHANGE_MINUTES)
    if not taken.is_allowed:
        raise too_many(taken, "changes of the callback endpoint")


async def _add_secret(
    resources: Resources, connection: Connection, endpoint_id: int, grace_seconds: int, call: Call
) -> str:
    secret = new_secret(secrets.token_bytes(SECRET_BYTES))
    aad = callback_endpoints.callback_secret_aad(endpoint_id)
    sealed = resources.keyring.seal(secret.encode(), aad)
    await callback_endpoints.add_secret(connection, endpoint_id, sealed, grace_seconds, actor_of(call))
    return secret


async def _endpoint(connection: Connection, call: Call) -> Endpoint:
    try:
        return await callback_endpoints.get_endpoint(connection, call.client.id)
    except NoEndpoint:
        raise _no_endpoint() from None


def _shown(endpoint: Endpoint, secret: str | None) -> CallbackEndpoint:
    return CallbackEndpoint(
        url=endpoint.settings.url,
        events=[event for event in endpoint.settings.events if event in EVENT_TYPES],
        keep_answers=endpoint.settings.keep_answers,
        secrets=[
            CallbackSecret(one.id, time_text(one.created_at), optional_time_text(one.expires_at))
            for one in endpoint.secrets
        ],
        secret=secret,
        open_until=optional_time_text(endpoint.open_until),
        failing_since=optional_time_text(endpoint.failing_since),
        disabled_at=optional_time_text(endpoint.disabled_at),
        disabled_reason=endpoint.disabled_reason,
        updated_at=time_text(endpoint.updated_at),
    )


def _no_endpoint() -> Refusal:
    return Refusal(ProblemCode.NOT_FOUND, what="callback endpoint")


def _logged(logged: callback_reads.LoggedCallback) -> LoggedCallback:
    row = logged.callback
    own_id: UUID = row["id"]
    is_test = row["message_id"] == own_id
    return LoggedCallback(
        id=own_id,
        webhook_id=WEBHOOK_ID_PREFIX + own_id.hex,
        message_id=None if is_test else row["message_id"],
        event=row["event_type"],
        sequence=row["sequence"],
        created_at=time_text(row["created_at"]),
        attempts=row["attempts"],
        outcome=row["outcome"] or "waiting",
        due_at=time_text(row["due_at"]) if row["done_at"] is None else None,
        done_at=optional_time_text(row["done_at"]),
        status=row["status"],
        duration_ms=row["duration_ms"],
        tries=[
            Try(
                attempt=one["attempt_no"],
                at=time_text(one["at"]),
                status=one["status"],
                error=one["error"],
                duration_ms=one["duration_ms"],
                address=one["address"],
                answer=None if one["answer_head"] is None else one["answer_head"].decode("utf-8", "replace"),
            )
            for one in logged.tries
        ],
    )
