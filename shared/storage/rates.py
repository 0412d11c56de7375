"""Rates by prefix, for everybody or for one client. A rate is never changed, only followed by another.

Versions are those of ``tollwire.config_version``: a rate is in force from the version ``since_version`` on
and ends before ``until_version``, so that the price of an old message can always be computed again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.domain.money import format_micros
from shared.domain.rates import Rate
from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note
from shared.storage.clients import client_account


@dataclass(frozen=True, slots=True)
class RateListing:
    """A rate in force: ``client`` None is the list for everybody; micros of ``currency`` a segment."""

    client: str | None
    prefix: str
    price_micros: int
    currency: str
    since_version: int
    created_at: datetime


# The trigger raises the version also for a statement that changes no row, and holds its row till the commit:
# whoever else changes the configuration waits, so the version read next is the first that shows the change.
RAISE_VERSION = "update tollwire.rates set price_micros = price_micros where false"
READ_VERSION = "select version from tollwire.config_version"
READ_LIVE = """
    select prefix, price_micros from tollwire.rates
    where client_id is not distinct from $1 and currency = $2 and prefix = any ($3::text[])
      and until_version is null
"""
END_RATES = """
    update tollwire.rates set until_version = $4
    where client_id is not distinct from $1 and currency = $2 and prefix = any ($3::text[])
      and until_version is null
"""
INSERT_RATES = """
    insert into tollwire.rates (client_id, currency, prefix, price_micros, since_version)
    select $1, $2, n.prefix, n.price_micros, $5 from unnest($3::text[], $4::bigint[]) n (prefix, price_micros)
"""


async def set_rates(
    conn: Connection, client: str | None, rates: Collection[Rate], by: Actor, reason: str | None = None
) -> int:
    """Put rates in force for a client, or for everybody, together; return how many are new.

    All rates are of one currency and of different prefixes; other prefixes stay as they are. A rate that
    is in force already with this price stays untouched.

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
        ValueError: several currencies, or a prefix twice.
    """
    wanted = {rate.prefix: rate.price_micros for rate in rates}
    currencies = {rate.currency for rate in rates}
    if len(wanted) != len(rates) or len(currencies) > 1:
        raise ValueError("rates that are set together have one currency and different prefixes")
    if not wanted:
        return 0
    return await _follow(conn, client, currencies.pop(), wanted, by, "rate.set", reason)


async def remove_rates(
    conn: Connection,
    client: str | None,
    currency: str,
    prefixes: Collection[str],
    by: Actor,
    reason: str | None = None,
) -> int:
    """End the rates of these prefixes; return how many there were.

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
    """
    return await _follow(conn, client, currency, dict.fromkeys(prefixes), by, "rate.remove", reason)


async def _follow(
    conn: Connection,
    client: str | None,
    currency: str,
    wanted: Mapping[str, int | None],
    by: Actor,
    action: str,
    reason: str | None,
) -> int:
    """Let the live rates be followed by ``wanted`` (None: by nothing)."""
    async with conn.transaction():
        client_id = None if client is None else (await client_account(conn, client)).id
        await conn.execute(RAISE_VERSION)
        version = await conn.fetchval(READ_VERSION)
        rows = await conn.fetch(READ_LIVE, client_id, currency, list(wanted))
        live: dict[str, int] = {row["prefix"]: row["price_micros"] for row in rows}
        changed = {prefix: price for prefix, price in wanted.items() if live.get(prefix) != price}
        if not changed:
            return 0
        await conn.execute(END_RATES, client_id, currency, list(changed), version)
        added = {prefix: price for prefix, price in changed.items() if price is not None}
        await conn.execute(INSERT_RATES, client_id, currency, list(added), list(added.values()), version)
        ended = {prefix: live[prefix] for prefix in changed if prefix in live}
        target = f"rates/{client or 'everybody'}/{currency}"
        await note(conn, by, action, target, before=_shown(ended), after=_shown(added), reason=reason)
        return len(changed)


def _shown(prices: dict[str, int]) -> dict[str, str] | None:
    return {prefix: format_micros(price) for prefix, price in prices.items()} or None


LIST = """
    select c.name as client, r.prefix, r.price_micros, r.currency, r.since_version, r.created_at
    from tollwire.rates r left join tollwire.clients c on c.id = r.client_id
    where r.until_version is null and c.name is not distinct from $1 and starts_with(r.prefix, $2)
      and (r.currency, r.prefix) > ($3, $4)
    order by r.currency, r.prefix limit $5
"""


async def list_rates(
    conn: Connection, client: str | None, *, prefix: str = "", after: tuple[str, str] = ("", ""), limit: int
) -> list[RateListing]:
    """Return a page of the rates in force, by (currency, prefix), those after ``after``.

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
    """
    if client is not None:
        await client_account(conn, client)
    rows = await conn.fetch(LIST, client, prefix, *after, limit)
    return [RateListing(**dict(row.items())) for row in rows]
