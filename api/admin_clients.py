"""Operators: clients. A change is in force within a second and stands in the audit trail (RULES 25, 32)."""

import dataclasses
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import asyncpg
import msgspec
from msgspec import UNSET

from api.account import balance_of_account
from api.admin_schemas import (
    ClientBacklog,
    ClientChange,
    ClientPage,
    ClientPath,
    ClientShown,
    NameQuery,
    NewClient,
)
from api.backlog import read_backlog
from api.callback import actor_of
from api.faults import connected
from api.problems import FieldError, Refusal, invalid, invalid_field
from api.resources import Resources
from api.routing import Call
from api.schemas import time_text
from shared.domain.callback_urls import CallbackUrlError, parse_callback_url
from shared.domain.currencies import CURRENCIES
from shared.domain.numbering import regions
from shared.domain.problems import ProblemCode
from shared.domain.senders import RULE as SENDER_RULE
from shared.domain.senders import is_sender
from shared.storage import clients
from shared.storage.clients import ClientAccount, ClientNameTaken, ClientSettings, NoSuchClient

# What is written for a country often, and what ISO 3166-1 calls it.
COUNTRY_MEANT: Final = MappingProxyType({"UK": "GB", "EL": "GR"})


async def create_client(resources: Resources, call: Call, *, body: NewClient) -> ClientShown:
    """Make a client.

    And its empty account.
    """
    _refuse_partial_charge(body)
    refuse_unknown_currency(body.currency)
    _refuse_senders(body)
    _refuse_countries(body)
    _refuse_hosts(resources, body)
    given = msgspec.to_builtins(body)
    name, currency, reason = (given.pop(field) for field in ("name", "currency", "reason"))
    if body.allowed_senders is not None:
        given.setdefault("default_sender", body.allowed_senders[0])
    settings = ClientSettings(**given)
    _refuse_foreign_default(settings)
    try:
        async with connected(resources.pool) as connection:
            made = await clients.create_client(connection, name, currency, settings, actor_of(call), reason)
    except ClientNameTaken:
        raise Refusal(ProblemCode.ALREADY_EXISTS, what="client") from None
    return _shown(resources, made)


async def list_clients(resources: Resources, _call: Call, *, query: NameQuery) -> ClientPage:
    """List clients.

    By name.
    """
    async with resources.pool.acquire() as connection:
        found = await clients.list_clients(connection, after_name=query.cursor or "", limit=query.limit)
    is_full = len(found) == query.limit
    return ClientPage([_shown(resources, one) for one in found], found[-1].name if is_full else None)


async def get_client(resources: Resources, _call: Call, *, path: ClientPath) -> ClientShown:
    """Get a client.

    With its settings, its balance and its backlog.
    """
    try:
        async with resources.pool.acquire() as connection:
            account = await clients.client_account(connection, path.name)
    except NoSuchClient:
        raise no_client(path.name) from None
    return _shown(resources, account, await read_backlog(resources.pool, account.id))


async def change_client(
    resources: Resources, call: Call, *, path: ClientPath, body: ClientChange
) -> ClientShown:
    """Change a client.

    What is left out stays. `suspended: true` stops its sending in every process within a second.
    What waits then ends for good, FAILED_PERM and uncharged, scheduled messages too.
    """
    _refuse_partial_charge(body)
    _refuse_countries(body)
    _refuse_hosts(resources, body)
    changes = {
        field: getattr(body, field)
        for field in body.__struct_fields__
        if field != "reason" and getattr(body, field) is not UNSET
    }
    try:
        async with connected(resources.pool) as connection, connection.transaction():
            old = (await clients.lock_client(connection, path.name)).settings
            _refuse_senders(body, old)
            _refuse_foreign_default(dataclasses.replace(old, **changes), old)
            changed = await clients.set_client(connection, path.name, changes, actor_of(call), body.reason)
    except NoSuchClient:
        raise no_client(path.name) from None
    except asyncpg.CheckViolationError as error:
        raise invalid_field("body", error.constraint_name or "a value is out of its range") from None
    return _shown(resources, changed)


def _refuse_partial_charge(body: NewClient | ClientChange) -> None:
    # Nothing reads it yet: to take it would promise bills that nobody writes.
    if body.partial_charge is True:
        raise invalid_field("partial_charge", "must be false: it has no effect yet")


def _refuse_senders(body: NewClient | ClientChange, old: ClientSettings | None = None) -> None:
    """Refuse senders that no carrier could take: they would fail each message, or never match one.

    What the client has already may be said again: a list is sent whole, and tools write back what they read.
    """
    has = set() if old is None else {old.default_sender, *(old.allowed_senders or ())}
    named = {"default_sender": body.default_sender}
    if isinstance(body.allowed_senders, list):
        named |= {f"allowed_senders[{place}]": text for place, text in enumerate(body.allowed_senders)}
    wrong = [
        field
        for field, text in named.items()
        if isinstance(text, str) and text not in has and not is_sender(text)
    ]
    if wrong:
        raise invalid(FieldError(field, SENDER_RULE) for field in wrong)


def _refuse_foreign_default(new: ClientSettings, old: ClientSettings | None = None) -> None:
    """Refuse a default sender that is none of those allowed: it would be sent as all the same.

    A client that has such a pair since before may keep it, and everything else of it may be changed.
    """
    allowed, default = new.allowed_senders, new.default_sender
    if old is not None and (allowed, default) == (old.allowed_senders, old.default_sender):
        return
    if allowed is not None and default not in allowed:
        raise invalid_field("default_sender", f"must be one of allowed_senders, which {default} is not")


def _refuse_countries(body: NewClient | ClientChange) -> None:
    """Refuse countries that no number is of: alone in a list they would refuse every destination."""
    countries = body.allowed_countries
    wrong = []
    for place, country in enumerate(countries if isinstance(countries, list) else ()):
        if country not in regions():
            right = f"must be a country of ISO 3166-1 with numbers of its own, which {country} is not"
            if country in COUNTRY_MEANT:
                right += f"; did you mean {COUNTRY_MEANT[country]}?"
            wrong.append(FieldError(f"allowed_countries[{place}]", right))
    if wrong:
        raise invalid(wrong)


def _refuse_hosts(resources: Resources, body: NewClient | ClientChange) -> None:
    """Refuse hosts that no callback_url could name, such as one with a port."""
    hosts = body.allowed_callback_hosts
    for place, host in enumerate(hosts if isinstance(hosts, list) else ()):
        try:
            parse_callback_url(
                f"https://[{host}]/" if ":" in host else f"https://{host}/", resources.url_policy
            )
        except CallbackUrlError as error:
            right = "must be a host without a port" if host.count(":") == 1 else str(error)
            raise invalid_field(f"allowed_callback_hosts[{place}]", right) from None


def refuse_unknown_currency(currency: str) -> None:
    """Refuse what no account can be in, since it could never be changed.

    Raises:
        Refusal: validation_failed.
    """
    if currency not in CURRENCIES:
        raise invalid_field("currency", f"must be a currency of ISO 4217, which {currency} is not")


def no_client(name: str | None) -> Refusal:
    """There is no client with this name; one that is None was not asked for."""
    return Refusal(ProblemCode.NOT_FOUND, what=f"client {name or ''}".rstrip())


def _shown(resources: Resources, account: ClientAccount, backlog: ClientBacklog | None = None) -> ClientShown:
    as_of = datetime.fromtimestamp(resources.clock.now_ms() / 1000, UTC)
    settings = account.settings
    return ClientShown(
        id=account.id,
        name=account.name,
        suspended=settings.suspended,
        requests_per_minute=settings.requests_per_minute,
        requests_burst=settings.requests_burst,
        messages_per_second=settings.messages_per_second,
        charge=settings.charge,
        partial_charge=settings.partial_charge,
        waive_late_capture=settings.waive_late_capture,
        allowed_senders=settings.allowed_senders,
        default_sender=settings.default_sender,
        allowed_countries=settings.allowed_countries,
        allowed_callback_hosts=settings.allowed_callback_hosts,
        text_retention_days=settings.text_retention_days,
        created_at=time_text(account.created_at),
        balance=balance_of_account(account, as_of),
        backlog=backlog,
    )
