"""The SQL of API keys: loading live ones with their clients, noting when they were used."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from asyncpg import Record

from api.callers import Client, KeyRecord
from shared.runtime.gcra import Quota
from shared.runtime.postgres import Pool

# A cold start asks for thousands of keys; a slow answer is better an error than a pile of waiters.
LOAD_TIMEOUT_SECONDS: Final = 5.0

LOAD_KEYS = """
    select k.key_id, k.secret_hash, k.is_test, k.scopes, k.allowed_ips, k.expires_at,
           c.id as client_id, c.name, a.currency, c.suspended, c.requests_per_minute, c.requests_burst,
           c.charge::text as charge, c.default_sender, c.allowed_senders, c.allowed_countries,
           c.allowed_callback_hosts, c.messages_per_second, c.text_retention_days, e.url as callback_url,
           u.seal
    from tollwire.api_keys k
    left join tollwire.clients c on c.id = k.client_id
    left join ledger.accounts a on a.id = c.id
    left join tollwire.callback_endpoints e on e.client_id = c.id
    left join tollwire.api_key_uses u on u.key_id = k.key_id
    where k.key_id = any($1::text[]) and k.revoked_at is null
"""


async def load_keys(pool: Pool, key_ids: Sequence[str]) -> Mapping[str, KeyRecord]:
    """Load the keys among these ids that are not revoked, by id."""
    rows = await pool.fetch(LOAD_KEYS, list(key_ids), timeout=LOAD_TIMEOUT_SECONDS)
    return {row["key_id"]: _key(row) for row in rows}


LOAD_CLIENT = """
    select c.id as client_id, c.name, a.currency, c.suspended, c.requests_per_minute, c.requests_burst,
           c.charge::text as charge, c.default_sender, c.allowed_senders, c.allowed_countries,
           c.allowed_callback_hosts, c.messages_per_second, c.text_retention_days, e.url as callback_url
    from tollwire.clients c
    join ledger.accounts a on a.id = c.id
    left join tollwire.callback_endpoints e on e.client_id = c.id
    where c.id = $1
"""


async def load_client(pool: Pool, client_id: int) -> Client:
    """Load a client that an operator acts for.

    Raises:
        LookupError: there is none of this id.
    """
    row = await pool.fetchrow(LOAD_CLIENT, client_id, timeout=LOAD_TIMEOUT_SECONDS)
    if row is None:
        raise LookupError(client_id)
    return _client(row)


class Versions(NamedTuple):
    """The versions of the configuration and of the clients' endpoints, and when they were read, by the
    database's clock.
    """

    config: int
    callbacks: int
    read_at: datetime


READ_VERSIONS = "select version, callbacks, clock_timestamp() from tollwire.config_version"


CLIENTS_WITH_NEW_ENDPOINTS = """
    select client_id from tollwire.callback_endpoints
    where updated_at > $1::timestamptz - make_interval(secs => $2)
"""
# A change has its time before it commits, and no transaction of the API lasts longer (RULES A6: 5 s).
COMMIT_SECONDS_MAX: Final = 10


async def clients_with_new_endpoints(pool: Pool, since: datetime) -> frozenset[int]:
    """Return at least the clients whose endpoint was changed by what committed since."""
    rows = await pool.fetch(
        CLIENTS_WITH_NEW_ENDPOINTS, since, COMMIT_SECONDS_MAX, timeout=LOAD_TIMEOUT_SECONDS
    )
    return frozenset(client_id for (client_id,) in rows)


NOTE_USES = """
    insert into tollwire.api_key_uses (key_id, last_used_at, seal)
    select key_id, $2::timestamptz, seal from unnest($1::text[], $3::bytea[]) u (key_id, seal) order by key_id
    on conflict (key_id) do update
        set last_used_at = greatest(api_key_uses.last_used_at, excluded.last_used_at),
            seal = coalesce(excluded.seal, api_key_uses.seal)
"""


async def note_uses(pool: Pool, uses: Sequence[tuple[str, bytes | None]], used_at: datetime) -> None:
    """Write that keys were used, with new seals; an older time never replaces a newer one."""
    key_ids, seals = [key_id for key_id, _ in uses], [seal for _, seal in uses]
    await pool.execute(NOTE_USES, key_ids, used_at, seals, timeout=LOAD_TIMEOUT_SECONDS)


def _key(row: Record) -> KeyRecord:
    return KeyRecord(
        key_id=row["key_id"],
        secret_hash=row["secret_hash"],
        is_test=row["is_test"],
        scopes=frozenset(row["scopes"]),
        allowed_networks=tuple(row["allowed_ips"] or ()),
        expires_at_seconds=None if row["expires_at"] is None else row["expires_at"].timestamp(),
        client=None if row["client_id"] is None else _client(row),
        seal=row["seal"],
    )


def _client(row: Record) -> Client:
    return Client(
        id=row["client_id"],
        name=row["name"],
        currency=row["currency"],
        is_suspended=row["suspended"],
        quota=Quota(row["requests_per_minute"], row["requests_burst"]),
        charge=row["charge"],
        default_sender=row["default_sender"],
        allowed_senders=_set(row["allowed_senders"]),
        allowed_countries=_set(row["allowed_countries"]),
        allowed_callback_hosts=_hosts(row),
        messages_per_second=row["messages_per_second"],
        text_retention_days=row["text_retention_days"],
        has_endpoint=row["callback_url"] is not None,
    )


def _hosts(row: Record) -> frozenset[str]:
    """The hosts that an operator registered, and that of the endpoint that the client set (RULES 36)."""
    own = urlsplit(row["callback_url"]).hostname if row["callback_url"] else None
    return frozenset((*row["allowed_callback_hosts"], *([own] if own else [])))


def _set(values: Sequence[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
