"""Carriers and routes as operators keep them: made or changed by name, each with its line in the trail."""

import dataclasses
import hashlib
from dataclasses import dataclass
from secrets import compare_digest
from typing import Any, Final, Literal

import asyncpg
import msgspec

from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note

# The route that every message may take for which no longer prefix has one.
DEFAULT_ROUTE_PREFIX: Final = ""
# Enough for a few changes to never have the same.
VERSION_DIGITS: Final = 16


class NoSuchCarrier(LookupError):  # noqa: N818 - named for what happened
    """There is no carrier with this name."""


class CarrierChanged(Exception):  # noqa: N818 - named for what happened
    """The carrier is not any more what whoever changes it has seen."""


def carrier_secret_aad(carrier_id: int) -> bytes:
    """What the seal of a carrier's secret is bound to, so that no other row can use it."""
    return b"carrier:%d" % carrier_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRow:
    """A carrier without its secret: the columns of tollwire.carriers, with their defaults."""

    name: str
    kind: str
    settings: dict[str, Any]
    enabled: bool = True
    is_simulator: bool = False
    idempotent_submit: bool = False
    can_query: bool = False
    splits_parts: bool = False
    rate_per_second: int = 0
    window_max: int = 1000
    submit_deadline_seconds: int = 60
    no_receipt_policy: Literal["release", "capture"] = "release"
    receipt_wait_seconds: int = 3600
    no_receipt_seconds: int = 259_200


@dataclass(frozen=True, slots=True)
class StoredCarrier:
    """A carrier's row as it is stored; ``secret_sealed`` opens with ``carrier_secret_aad(id)``."""

    id: int
    row: CarrierRow
    secret_sealed: bytes | None = dataclasses.field(repr=False)

    @property
    def version(self) -> str:
        """A word for what is stored: the same again, the same word.

        Of the secret it tells no more than that it was put again, or sealed anew: each seal has a nonce.
        """
        said = msgspec.json.encode(dataclasses.asdict(self.row), order="deterministic")
        return hashlib.sha256(said + (self.secret_sealed or b"")).hexdigest()[:VERSION_DIGITS]

    def opens_to(self, secret: str, keyring: Keyring) -> bool:
        """True when the secret that is stored opens, and to this one."""
        try:
            return self.secret_sealed is not None and compare_digest(
                keyring.unseal(self.secret_sealed, carrier_secret_aad(self.id)), secret.encode()
            )
        except SealBroken:
            return False


# By what the trail calls it: for a row that there is, and for one that is still to be made.
LOCK: Final = "select pg_advisory_xact_lock(hashtextextended($1, 0))"


async def lock_carrier(conn: Connection, name: str) -> None:
    """Let nobody else put this carrier until the transaction ends; to be called before what is read of it."""
    await conn.execute(LOCK, _carrier_target(name))


def _carrier_target(name: str) -> str:
    return f"carrier/{name}"


PUT = """
    insert into tollwire.carriers (name, kind, settings, enabled, is_simulator, idempotent_submit, can_query,
        splits_parts, rate_per_second, window_max, submit_deadline_seconds, no_receipt_policy,
        receipt_wait_seconds, no_receipt_seconds)
    values ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict (name) do update set kind = $2, settings = $3::text::jsonb, enabled = $4, is_simulator = $5,
        idempotent_submit = $6, can_query = $7, splits_parts = $8, rate_per_second = $9, window_max = $10,
        submit_deadline_seconds = $11, no_receipt_policy = $12, receipt_wait_seconds = $13,
        no_receipt_seconds = $14
"""


async def put_carrier(
    conn: Connection,
    row: CarrierRow,
    by: Actor,
    reason: str | None = None,
    *,
    seen: str | None = None,
    is_new_secret: bool = False,
) -> StoredCarrier:
    """Make the carrier of this name, or make it what ``row`` says; its secret stays.

    Args:
        conn: a connection.
        row: what the carrier is to be.
        by: who says so.
        reason: why; stands in the audit trail.
        seen: the ``version`` that the change is one of.
        is_new_secret: ``put_secret`` follows, and is a part of this change.

    Raises:
        CarrierChanged: it has another version by now, and is not what the change would make it either.
        asyncpg.CheckViolationError: a value is out of its range; nothing was changed.
    """
    async with conn.transaction():
        await lock_carrier(conn, row.name)
        old = await find_carrier(conn, row.name)
        is_same_row = old is not None and old.row == row
        is_as_seen = seen is None or (old is not None and old.version == seen)
        if not is_as_seen and (is_new_secret or not is_same_row):
            raise CarrierChanged(row.name)
        if old is not None and is_same_row:
            return old
        values = dataclasses.asdict(row) | {"settings": msgspec.json.encode(row.settings).decode()}
        await conn.execute(PUT, *values.values())
        before = None if old is None else dataclasses.asdict(old.row)
        action = "carrier.create" if old is None else "carrier.set"
        target = _carrier_target(row.name)
        await note(conn, by, action, target, before=before, after=dataclasses.asdict(row), reason=reason)
        return await stored_carrier(conn, row.name)


PUT_SECRET = "update tollwire.carriers set secret_sealed = $2 where id = $1"  # noqa: S105 - a statement


async def put_secret(
    conn: Connection, carrier: StoredCarrier, secret_sealed: bytes, by: Actor, reason: str | None = None
) -> None:
    """Give a carrier a new secret, sealed with ``carrier_secret_aad(carrier.id)``."""
    async with conn.transaction():
        await conn.execute(PUT_SECRET, carrier.id, secret_sealed)
        target = _carrier_target(carrier.row.name)
        await note(conn, by, "carrier.new_secret", target, before=None, after=None, reason=reason)


SELECT = """
    select id, name, kind, settings::text, enabled, is_simulator, idempotent_submit, can_query, splits_parts,
           rate_per_second, window_max, submit_deadline_seconds, no_receipt_policy, receipt_wait_seconds,
           no_receipt_seconds, secret_sealed
    from tollwire.carriers
"""
SELECT_ONE = SELECT + "where name = $1"


async def stored_carrier(conn: Connection, name: str) -> StoredCarrier:
    """Return one carrier.

    Raises:
        NoSuchCarrier: there is none with this name.
    """
    found = await find_carrier(conn, name)
    if found is None:
        raise NoSuchCarrier(name)
    return found


async def find_carrier(conn: Connection, name: str) -> StoredCarrier | None:
    """Return one carrier; None when there is none with this name."""
    row = await conn.fetchrow(SELECT_ONE, name)
    return None if row is None else _stored(row)


LIST = SELECT + "order by name"


async def list_carriers(conn: Connection) -> list[StoredCarrier]:
    """Return all carriers by name; there are dozens, not thousands."""
    return [_stored(row) for row in await conn.fetch(LIST)]


def _stored(row: asyncpg.Record) -> StoredCarrier:
    values = dict(row.items())
    carrier_id, sealed = values.pop("id"), values.pop("secret_sealed")
    values["settings"] = msgspec.json.decode(values["settings"])
    return StoredCarrier(carrier_id, CarrierRow(**values), sealed)


PUT_ROUTE = """
    insert into tollwire.routes (prefix, priority, carrier_id) values ($1, $2, $3)
    on conflict (prefix, priority) do update set carrier_id = $3
"""
FIND_ROUTE = """
    select c.name from tollwire.routes r join tollwire.carriers c on c.id = r.carrier_id
    where r.prefix = $1 and r.priority = $2
"""


async def put_route(
    conn: Connection, prefix: str, priority: int, carrier: str, by: Actor, reason: str | None = None
) -> None:
    """Send the numbers that begin with ``prefix`` (digits; "" is all) to a carrier, lowest priority first.

    Raises:
        NoSuchCarrier: there is none with this name.
    """
    target = _route_target(prefix, priority)
    async with conn.transaction():
        await conn.execute(LOCK, target)
        stored = await stored_carrier(conn, carrier)
        before = await conn.fetchval(FIND_ROUTE, prefix, priority)
        if before == carrier:
            return
        await conn.execute(PUT_ROUTE, prefix, priority, stored.id)
        await note(conn, by, "route.set", target, before=before, after=carrier, reason=reason)


def _route_target(prefix: str, priority: int) -> str:
    return f"route/{prefix or '*'}/{priority}"


REMOVE_ROUTE = "delete from tollwire.routes where prefix = $1 and priority = $2"


async def remove_route(
    conn: Connection, prefix: str, priority: int, by: Actor, reason: str | None = None
) -> bool:
    """Remove a route; False when there is none."""
    target = _route_target(prefix, priority)
    async with conn.transaction():
        await conn.execute(LOCK, target)
        before = await conn.fetchval(FIND_ROUTE, prefix, priority)
        if before is None:
            return False
        await conn.execute(REMOVE_ROUTE, prefix, priority)
        await note(conn, by, "route.remove", target, before=before, after=None, reason=reason)
        return True


@dataclass(frozen=True, slots=True)
class RouteListing:
    """Where the numbers that begin with ``prefix`` go."""

    prefix: str
    priority: int
    carrier: str


LIST_ROUTES = """
    select r.prefix, r.priority, c.name as carrier
    from tollwire.routes r join tollwire.carriers c on c.id = r.carrier_id
    where (r.prefix, r.priority) > ($1, $2)
    order by r.prefix, r.priority limit $3
"""


async def list_routes(
    conn: Connection, *, after: tuple[str, int] = ("", 0), limit: int
) -> list[RouteListing]:
    """Return a page of the routes by (prefix, priority), those after ``after``."""
    return [RouteListing(*row) for row in await conn.fetch(LIST_ROUTES, *after, limit)]
