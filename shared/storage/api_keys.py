"""API keys: made, listed, revoked. The secret itself is stored nowhere, only its bcrypt hash (RULES 31)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import bcrypt

from shared.domain.api_keys import ApiKey
from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note
from shared.storage.clients import client_account

# RULES 31: a random secret of 256 bits needs no slow hash; cost 4 is bcrypt's least, 1 ms.
BCRYPT_COST: Final = 4


class NoSuchKey(LookupError):  # noqa: N818 - named for what happened
    """There is no key with this id."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a new key may do. ``client`` None makes an operator's key, which needs the scope ``admin``."""

    client: str | None
    name: str
    scopes: Sequence[str]
    allowed_ips: Sequence[str] | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyListing:
    """A key as it may be shown: never its secret, never its hash."""

    key_id: str
    client: str | None
    name: str
    is_test: bool
    scopes: list[str]
    allowed_ips: list[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None


INSERT = """
    insert into tollwire.api_keys
        (key_id, client_id, name, secret_hash, is_test, scopes, allowed_ips, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7::text[]::cidr[], $8)
"""


async def create_key(
    conn: Connection, key: ApiKey, new: NewKey, by: Actor, reason: str | None = None
) -> KeyListing:
    """Store a key that the caller has just drawn (shared.domain.api_keys.new_api_key) and shows once.

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
        asyncpg.UniqueViolationError: a key with this id is stored already.
        asyncpg.InvalidTextRepresentationError: an address is no network.
    """
    hashed = bcrypt.hashpw(key.secret.encode(), bcrypt.gensalt(BCRYPT_COST))
    async with conn.transaction():
        client_id = None if new.client is None else (await client_account(conn, new.client)).id
        await conn.execute(
            INSERT, key.key_id, client_id, new.name, hashed, key.is_test,
            list(new.scopes), None if new.allowed_ips is None else list(new.allowed_ips), new.expires_at,
        )  # fmt: skip
        made = await key_listing(conn, key.key_id)
        await note(conn, by, "key.create", f"key/{key.key_id}", before=None, after=made, reason=reason)
        return made


REVOKE = """
    update tollwire.api_keys set revoked_at = clock_timestamp()
    where key_id = $1 and revoked_at is null returning revoked_at
"""


async def revoke_key(conn: Connection, key_id: str, by: Actor, reason: str | None = None) -> KeyListing:
    """Revoke a key; within a second no process takes it (RULES 32). Again: as it was.

    Raises:
        NoSuchKey: there is none with this id.
    """
    async with conn.transaction():
        revoked_at = await conn.fetchval(REVOKE, key_id)
        now = await key_listing(conn, key_id)
        if revoked_at is not None:
            after = {"revoked_at": revoked_at}
            await note(
                conn,
                by,
                "key.revoke",
                f"key/{key_id}",
                before={"revoked_at": None},
                after=after,
                reason=reason,
            )
        return now


SELECT = """
    select k.key_id, c.name as client, k.name, k.is_test, k.scopes, k.allowed_ips::text[], k.expires_at,
           k.revoked_at, k.created_at, u.last_used_at
    from tollwire.api_keys k
    left join tollwire.clients c on c.id = k.client_id
    left join tollwire.api_key_uses u on u.key_id = k.key_id
"""
SELECT_ONE = SELECT + "where k.key_id = $1"


async def key_listing(conn: Connection, key_id: str) -> KeyListing:
    """Return one key.

    Raises:
        NoSuchKey: there is none with this id.
    """
    row = await conn.fetchrow(SELECT_ONE, key_id)
    if row is None:
        raise NoSuchKey(key_id)
    return _key_listing(row)


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key stands in the lists."""

    is_revoked: bool
    created_at: datetime
    key_id: str


FIRST_PLACE: Final = KeyPlace(is_revoked=False, created_at=datetime.max.replace(tzinfo=UTC), key_id="")
OF_ONE_AFTER = """
    where c.name is not distinct from $1
      and ((k.revoked_at is not null) > $2 or (k.revoked_at is not null) = $2
           and (k.created_at < $3 or k.created_at = $3 and k.key_id > $4))
    order by k.revoked_at is not null, k.created_at desc, k.key_id limit $5
"""
LIST = SELECT + OF_ONE_AFTER


async def list_keys(
    conn: Connection, client: str | None, *, after: KeyPlace = FIRST_PLACE, limit: int
) -> list[KeyListing]:
    """Return a client's keys, or with None operators', live ones first, then newest first.

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
    """
    if client is not None:
        await client_account(conn, client)
    rows = await conn.fetch(LIST, client, after.is_revoked, after.created_at, after.key_id, limit)
    return [_key_listing(row) for row in rows]


def _key_listing(row: asyncpg.Record) -> KeyListing:
    return KeyListing(**dict(row.items()))
