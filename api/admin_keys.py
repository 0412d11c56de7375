"""Operators: API keys. A key's text is shown once; only its hash is stored (RULES 31)."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from api.admin_clients import no_client
from api.admin_schemas import (
    ClientPath,
    KeyPage,
    KeyPath,
    KeyQuery,
    KeyShown,
    NewKeyRequest,
    NewKeyShown,
    RevokeQuery,
)
from api.callback import actor_of
from api.cursors import cursor_after, read_place
from api.faults import connected
from api.problems import FieldError, Refusal, invalid, invalid_field
from api.resources import Resources
from api.routing import Call
from api.schemas import optional_time_text, time_text
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from shared.domain.problems import ProblemCode
from shared.runtime.addresses import network_as_read
from shared.storage import api_keys
from shared.storage.api_keys import FIRST_PLACE, KeyListing, KeyPlace, NewKey, NoSuchKey
from shared.storage.clients import NoSuchClient

# Revoked or not, the microsecond in which it was made, its id.
PLACE: Final = re.compile(r"([01])\.([0-9]{1,16})\.([0-9A-Za-z]{12})")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
NETWORK_RULE: Final = (
    "must be an address or a network in full, without a zone and with host bits of 0, "
    "as in 198.51.100.7 or 198.51.100.0/24"
)


async def create_key(resources: Resources, call: Call, *, body: NewKeyRequest) -> NewKeyShown:
    """Make an API key.

    A client's key never has the scope `admin`; an operator's key, of no client, has it and is no test key.
    Its text is shown this once. Two live keys of a client make a rotation without a gap: make the new
    one, use it, revoke the old one. After `outcome_unknown` make another, and revoke what the list then shows
    that nobody has seen.
    """
    _refuse_mixed(body)
    if body.expires_at is not None and body.expires_at.timestamp() * 1000 <= resources.clock.now_ms():
        raise invalid_field("expires_at", "must lie ahead: the key would never work")
    key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=body.test)
    new = NewKey(body.client, body.name, list(body.scopes), _networks(body), body.expires_at)
    try:
        async with connected(resources.pool) as connection:
            made = await api_keys.create_key(connection, key, new, actor_of(call), body.reason)
    except NoSuchClient:
        raise no_client(body.client) from None
    except asyncpg.InvalidTextRepresentationError:
        raise invalid_field("allowed_ips", NETWORK_RULE) from None
    return NewKeyShown(**msgspec.structs.asdict(_shown(made)), key=format_api_key(key))


def _networks(body: NewKeyRequest) -> list[str] | None:
    """Read them here: PostgreSQL completes a shortened address to a far larger network, and drops a zone."""
    networks, wrong = [], []
    for place, text in enumerate(body.allowed_ips or ()):
        try:
            networks.append(network_as_read(text))
        except ValueError:
            wrong.append(FieldError(f"allowed_ips[{place}]", NETWORK_RULE))
    if wrong:
        raise invalid(wrong)
    return None if body.allowed_ips is None else networks


def _refuse_mixed(body: NewKeyRequest) -> None:
    """Who administers belongs to no client and to no simulator."""
    if body.client is None and "admin" not in body.scopes:
        raise invalid_field("client", "is required for a key without the scope admin")
    if body.client is not None and "admin" in body.scopes:
        raise invalid_field("scopes", "must not hold admin for a client's key; leave client out instead")
    if body.client is None and body.test:
        raise invalid_field("test", "must be false for an operator's key: what it changes is live")


async def list_keys(resources: Resources, _call: Call, *, path: ClientPath, query: KeyQuery) -> KeyPage:
    """List a client's keys.

    Live ones first, then newest first.
    """
    return await _page(resources, path.name, query)


async def list_operator_keys(resources: Resources, _call: Call, *, query: KeyQuery) -> KeyPage:
    """List operators' keys.

    Those of no client, with the scope `admin`: who can administer, and when each was used last. Live ones
    first, then newest first.
    """
    return await _page(resources, None, query)


async def _page(resources: Resources, client: str | None, query: KeyQuery) -> KeyPage:
    after = FIRST_PLACE if query.cursor is None else _place(query.cursor)
    try:
        async with resources.pool.acquire() as connection:
            found = await api_keys.list_keys(connection, client, after=after, limit=query.limit)
    except NoSuchClient:
        raise no_client(client) from None
    is_full = len(found) == query.limit
    return KeyPage([_shown(one) for one in found], _cursor(found[-1]) if is_full else None)


def _cursor(last: KeyListing) -> str:
    made = (last.created_at - EPOCH) // MICROSECOND
    return cursor_after(int(last.revoked_at is not None), made, last.key_id)


def _place(cursor: str) -> KeyPlace:
    is_revoked, made, key_id = read_place(cursor, PLACE)
    return KeyPlace(is_revoked == "1", EPOCH + int(made) * MICROSECOND, key_id)


async def revoke_key(resources: Resources, call: Call, *, path: KeyPath, query: RevokeQuery) -> KeyShown:
    """Revoke a key.

    Within a second no process takes it any more. A revoked key may be revoked again, and keeps the first
    reason.
    """
    try:
        async with connected(resources.pool) as connection:
            return _shown(await api_keys.revoke_key(connection, path.key_id, actor_of(call), query.reason))
    except NoSuchKey:
        raise Refusal(ProblemCode.NOT_FOUND, what=f"key {path.key_id}") from None


def _shown(key: KeyListing) -> KeyShown:
    return KeyShown(
        key_id=key.key_id,
        client=key.client,
        name=key.name,
        is_test=key.is_test,
        scopes=key.scopes,
        allowed_ips=key.allowed_ips,
        expires_at=optional_time_text(key.expires_at),
        revoked_at=optional_time_text(key.revoked_at),
        created_at=time_text(key.created_at),
        last_used_at=optional_time_text(key.last_used_at),
    )
