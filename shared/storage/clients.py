"""Clients and their accounts: made, changed and listed by operators and by `tollwire up`.

Every change writes its line of the audit trail in the same transaction. A change is in force in every
process within a second: the tables' triggers raise the configuration's version (RULES 32).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note

MICROSECONDS_PER_SECOND: Final = 1_000_000


class NoSuchClient(LookupError):  # noqa: N818 - named for what happened
    """There is no client with this name."""


class ClientNameTaken(Exception):  # noqa: N818 - named for what happened
    """There is a client with this name already."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What an operator decides about a client. The columns of tollwire.clients, with their defaults.

    ``messages_per_second`` 0 is "as fast as the carriers take it"; ``allowed_senders`` and
    ``allowed_countries`` None is "all that routes and rates allow".
    """

    suspended: bool = False
    requests_per_minute: int = 10_000
    requests_burst: int = 1_000
    messages_per_second: int = 0
    charge: Literal["delivered", "submitted"] = "delivered"
    partial_charge: bool = False
    waive_late_capture: bool = False
    allowed_senders: list[str] | None = None
    default_sender: str = "Tollwire"
    allowed_countries: list[str] | None = None
    allowed_callback_hosts: list[str] = dataclasses.field(default_factory=list)
    text_retention_days: int = 7


@dataclass(frozen=True, slots=True)
class ClientAccount:
    """A client with its settings and the balances of its account, in micros of ``currency``."""

    id: int
    name: str
    currency: str
    settings: ClientSettings
    created_at: datetime
    posted_micros: int
    held_micros: int
    credit_limit_micros: int
    overdrawn_micros: int
    open_holds: int

    @property
    def available_micros(self) -> int:
        """What can be spent; below zero only by what RULES 23 names."""
        return self.posted_micros - self.held_micros + self.credit_limit_micros


OPEN_ACCOUNT = "select ledger.open_account_v1($1, $2)"
INSERT = """
    insert into tollwire.clients (id, name, suspended, requests_per_minute, requests_burst,
        messages_per_second, charge, partial_charge, waive_late_capture, allowed_senders, default_sender,
        allowed_countries, allowed_callback_hosts, text_retention_days)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


async def create_client(
    conn: Connection, name: str, currency: str, settings: ClientSettings, by: Actor, reason: str | None = None
) -> ClientAccount:
    """Open an empty account in ``currency`` and the client that it belongs to.

    Raises:
        ClientNameTaken: the name is in use.
        asyncpg.CheckViolationError: a setting is out of its range; nothing was made.
    """
    async with conn.transaction():
        account_id = await conn.fetchval(OPEN_ACCOUNT, currency, _interval_us(settings))
        try:
            await conn.execute(INSERT, account_id, name, *_columns(settings))
        except asyncpg.UniqueViolationError:
            raise ClientNameTaken(name) from None
        await note(
            conn, by, "client.create", f"client/{name}",
            before=None, after={"currency": currency, **dataclasses.asdict(settings)}, reason=reason,
        )  # fmt: skip
        return await client_account(conn, name)


LOCK = "select true from tollwire.clients where name = $1 for update"


async def lock_client(conn: Connection, name: str) -> ClientAccount:
    """Return one client, whose settings nobody else changes until the transaction ends.

    Raises:
        NoSuchClient: there is none with this name.
    """
    await conn.fetchval(LOCK, name)
    return await client_account(conn, name)


UPDATE = """
    update tollwire.clients set suspended = $2, requests_per_minute = $3, requests_burst = $4,
        messages_per_second = $5, charge = $6, partial_charge = $7, waive_late_capture = $8,
        allowed_senders = $9, default_sender = $10, allowed_countries = $11, allowed_callback_hosts = $12,
        text_retention_days = $13
    where name = $1
"""
SET_PACING = "select ledger.set_pacing_v1($1, $2)"


async def set_client(
    conn: Connection, name: str, changes: Mapping[str, Any], by: Actor, reason: str | None = None
) -> ClientAccount:
    """Change the settings that ``changes`` names (fields of ClientSettings) and leave the others.

    Raises:
        NoSuchClient: there is none with this name.
        asyncpg.CheckViolationError: a setting is out of its range; nothing was changed.
    """
    async with conn.transaction():
        old = await lock_client(conn, name)
        new = dataclasses.replace(old.settings, **changes)
        changed = _difference(old.settings, new)
        if not changed:
            return old
        await conn.execute(UPDATE, name, *_columns(new))
        if new.messages_per_second != old.settings.messages_per_second:
            await conn.execute(SET_PACING, old.id, _interval_us(new))
        before = {field: getattr(old.settings, field) for field in changed}
        await note(conn, by, "client.set", f"client/{name}", before=before, after=changed, reason=reason)
        return dataclasses.replace(old, settings=new)


SELECT = """
    select c.id, c.name, a.currency, c.suspended, c.requests_per_minute, c.requests_burst,
           c.messages_per_second, c.charge::text, c.partial_charge, c.waive_late_capture, c.allowed_senders,
           c.default_sender, c.allowed_countries, c.allowed_callback_hosts, c.text_retention_days,
           c.created_at, a.posted_micros, a.held_micros, a.credit_limit_micros, a.overdrawn_micros,
           a.open_holds
    from tollwire.clients c join ledger.accounts a on a.id = c.id
"""
SELECT_ONE = SELECT + "where c.name = $1"


async def client_account(conn: Connection, name: str) -> ClientAccount:
    """Return one client.

    Raises:
        NoSuchClient: there is none with this name.
    """
    row = await conn.fetchrow(SELECT_ONE, name)
    if row is None:
        raise NoSuchClient(name)
    return _client_account(row)


LIST = SELECT + "where c.name > $1 order by c.name limit $2"


async def list_clients(conn: Connection, *, after_name: str = "", limit: int) -> list[ClientAccount]:
    """Return a page of clients by name, those after ``after_name``."""
    return [_client_account(row) for row in await conn.fetch(LIST, after_name, limit)]


def _client_account(row: asyncpg.Record) -> ClientAccount:
    fields = {field.name for field in dataclasses.fields(ClientSettings)}
    settings = {name: value for name, value in row.items() if name in fields}
    others = {name: value for name, value in row.items() if name not in fields}
    return ClientAccount(settings=ClientSettings(**settings), **others)


def _columns(settings: ClientSettings) -> tuple[object, ...]:
    return tuple(getattr(settings, field.name) for field in dataclasses.fields(settings))


def _difference(old: ClientSettings, new: ClientSettings) -> dict[str, object]:
    """The settings that are new, with their new values."""
    names = (field.name for field in dataclasses.fields(new))
    return {name: getattr(new, name) for name in names if getattr(new, name) != getattr(old, name)}


def _interval_us(settings: ClientSettings) -> int:
    """The gap between two dispatches in microseconds; 0 is no pacing."""
    rate = settings.messages_per_second
    return 0 if rate == 0 else MICROSECONDS_PER_SECOND // rate
