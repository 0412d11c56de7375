"""Where a client's callbacks go and what signs them: set by the API, read by dlr.

A client has one endpoint. Its secrets are sealed with ``callback_secret_aad``, so that a row copied to
another endpoint opens nothing; the newest signs for ever, older ones until they expire.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.domain.signatures import ACTIVE_SECRETS_MAX
from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note


class NoEndpoint(LookupError):  # noqa: N818 - named for what happened
    """The client has no callback endpoint."""


def callback_secret_aad(endpoint_id: int) -> bytes:
    """What the seal of an endpoint's secret is bound to."""
    return b"callback:%d" % endpoint_id


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What a client decides about its endpoint."""

    url: str
    events: Sequence[str]
    keep_answers: bool


@dataclass(frozen=True, slots=True)
class SecretListing:
    """A secret as it may be shown; ``expires_at`` None: it signs until the next rotation."""

    id: int
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint with its live secrets and its health."""

    id: int
    settings: EndpointSettings
    updated_at: datetime
    open_until: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    secrets: list[SecretListing]


GET = """
    select e.id, e.url, e.events, e.keep_answers, e.updated_at, h.open_until, h.failing_since, h.disabled_at,
           h.disabled_reason
    from tollwire.callback_endpoints e left join tollwire.callback_health h on h.endpoint_id = e.id
    where e.client_id = $1
"""
LIST_SECRETS = """
    select id, created_at, expires_at from tollwire.callback_secrets
    where endpoint_id = $1 and (expires_at is null or expires_at > clock_timestamp()) order by id desc
"""


async def get_endpoint(conn: Connection, client_id: int) -> Endpoint:
    """Return a client's endpoint.

    Raises:
        NoEndpoint: it has none.
    """
    row = await conn.fetchrow(GET, client_id)
    if row is None:
        raise NoEndpoint(client_id)
    secrets = [SecretListing(*secret) for secret in await conn.fetch(LIST_SECRETS, row["id"])]
    return Endpoint(
        id=row["id"],
        settings=EndpointSettings(row["url"], list(row["events"]), row["keep_answers"]),
        updated_at=row["updated_at"],
        open_until=row["open_until"],
        failing_since=row["failing_since"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        secrets=secrets,
    )


PUT = """
    insert into tollwire.callback_endpoints (client_id, url, events, keep_answers) values ($1, $2, $3, $4)
    on conflict (client_id) do update
        set url = $2, events = $3, keep_answers = $4, updated_at = clock_timestamp()
    returning id
"""
# A client that sets its endpoint says that it works now: what was switched off is on again.
HEAL = """
    insert into tollwire.callback_health (endpoint_id) values ($1)
    on conflict (endpoint_id) do update set open_until = null, failing_since = null, consecutive_failures = 0,
        disabled_at = null, disabled_reason = null
    where (callback_health.open_until, callback_health.failing_since, callback_health.consecutive_failures,
           callback_health.disabled_at, callback_health.disabled_reason)
        is distinct from (null::timestamptz, null::timestamptz, 0, null::timestamptz, null::text)
    returning true
"""
LOCK = "select id, url, events, keep_answers from tollwire.callback_endpoints where client_id = $1 for update"


async def put_endpoint(conn: Connection, client_id: int, settings: EndpointSettings, by: Actor) -> int:
    """Make or change a client's endpoint, switch it on, and return its id. Its secrets stay.

    An endpoint that is as it should be is left alone: no process reads its configuration again for it.
    """
    async with conn.transaction():
        row = await conn.fetchrow(LOCK, client_id)
        old = None if row is None else dict(row.items())
        after = {"url": settings.url, "events": list(settings.events), "keep_answers": settings.keep_answers}
        endpoint_id = None if old is None else int(old.pop("id"))
        is_changed = old != after
        if endpoint_id is None or is_changed:
            endpoint_id = int(await conn.fetchval(PUT, client_id, *after.values()))
        if await conn.fetchval(HEAL, endpoint_id) or is_changed:
            target = f"callback/{endpoint_id}"
            await note(conn, by, "callback.set", target, before=old, after=after, reason=None)
        return endpoint_id


EXPIRE_SECRETS = """
    update tollwire.callback_secrets
    set expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $2)) where endpoint_id = $1
"""
ADD_SECRET = "insert into tollwire.callback_secrets (endpoint_id, sealed) values ($1, $2)"  # noqa: S105 - SQL
DROP_SECRETS = """
    delete from tollwire.callback_secrets
    where endpoint_id = $1 and (expires_at <= clock_timestamp() or id not in (
        select id from tollwire.callback_secrets where endpoint_id = $1 order by id desc limit $2))
"""
LOCK_BY_ID = "select true from tollwire.callback_endpoints where id = $1 for update"


async def add_secret(
    conn: Connection, endpoint_id: int, sealed: bytes, grace_seconds: int, by: Actor
) -> None:
    """Give an endpoint a new secret; the old ones go on signing beside it for ``grace_seconds``.

    At most ``ACTIVE_SECRETS_MAX`` sign: a rotation in a hurry ends the oldest at once.
    """
    async with conn.transaction():
        await conn.fetchval(LOCK_BY_ID, endpoint_id)
        await conn.execute(EXPIRE_SECRETS, endpoint_id, grace_seconds)
        await conn.execute(ADD_SECRET, endpoint_id, sealed)
        await conn.execute(DROP_SECRETS, endpoint_id, ACTIVE_SECRETS_MAX)
        after = {"grace_seconds": grace_seconds}
        target = f"callback/{endpoint_id}"
        await note(conn, by, "callback.new_secret", target, before=None, after=after, reason=None)
