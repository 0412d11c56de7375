"""Operators: API keys. A key's text is shown once; only its hash is stored (RULES 31)."""

import secrets

import asyncpg
import msgspec

from api.admin_clients import no_client
from api.admin_schemas import (
    ClientPath,
    KeyPage,
    KeyPath,
    KeyShown,
    LimitQuery,
    NewKeyRequest,
    NewKeyShown,
)
from api.callback import actor_of
from api.faults import connected
from api.problems import Refusal, invalid_field
from api.resources import Resources
from api.routing import Call
from api.schemas import optional_time_text, time_text
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from shared.domain.problems import ProblemCode
from shared.storage import api_keys
from shared.storage.api_keys import KeyListing, NewKey, NoSuchKey
from shared.storage.clients import NoSuchClient


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
    new = NewKey(body.client, body.name, list(body.scopes), body.allowed_ips, body.expires_at)
    try:
        async with connected(resources.pool) as connection:
            made = await api_keys.create_key(connection, key, new, actor_of(call), body.reason)
    except NoSuchClient:
        raise no_client() from None
    except asyncpg.InvalidTextRepresentationError:
        raise invalid_field("allowed_ips", "must be addresses or networks, as in 198.51.100.0/24") from None
    return NewKeyShown(**msgspec.structs.asdict(_shown(made)), key=format_api_key(key))


def _refuse_mixed(body: NewKeyRequest) -> None:
    """Who administers belongs to no client and to no simulator."""
    if body.client is None and "admin" not in body.scopes:
        raise invalid_field("client", "is required for a key without the scope admin")
    if body.client is not None and "admin" in body.scopes:
        raise invalid_field("scopes", "must not hold admin for a client's key; leave client out instead")
    if body.client is None and body.test:
        raise invalid_field("test", "must be false for an operator's key: what it changes is live")


async def list_keys(resources: Resources, _call: Call, *, path: ClientPath, query: LimitQuery) -> KeyPage:
    """List a client's keys.

    Live ones first, then newest first.
    """
    try:
        async with resources.pool.acquire() as connection:
            found = await api_keys.list_keys(connection, path.name, limit=query.limit)
    except NoSuchClient:
        raise no_client() from None
    return KeyPage([_shown(one) for one in found])


async def revoke_key(resources: Resources, call: Call, *, path: KeyPath) -> KeyShown:
    """Revoke a key.

    Within a second no process takes it any more. A revoked key may be revoked again.
    """
    try:
        async with connected(resources.pool) as connection:
            return _shown(await api_keys.revoke_key(connection, path.key_id, actor_of(call)))
    except NoSuchKey:
        raise Refusal(ProblemCode.NOT_FOUND, what="key") from None


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
