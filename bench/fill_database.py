"""What a fill does to a database before and after the rows: partitions, clients, accounts, statistics."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Final

import asyncpg

from bench.fill_share import KEPT_REFERENCE_DAYS, Account
from shared.domain.ids import day_floor
from shared.runtime.postgres import Connection

OWNER: Final = "tollwire_owner"
# Partitions made in one transaction: each is a lock on a table and its indexes.
PARTITION_DAYS_A_CALL: Final = 10
ACCOUNTS_A_CALL: Final = 5_000
KEYS_KEPT_DAYS: Final = 5
CONNECTIONS: Final = 2


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection as the owner of the tables, without the limits of a service."""
    settings = {"application_name": "tollwire-fill", "synchronous_commit": "off", "timezone": "UTC"}
    unlimited = {"statement_timeout": "0", "transaction_timeout": "0", "lock_timeout": "0"}
    connection = await asyncpg.connect(dsn, server_settings=settings | unlimited)
    try:
        await connection.execute(f"set role {OWNER}")
        yield connection
    finally:
        await connection.close()


AGED: Final = """
select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = $1::text::regclass and to_date(substring(c.relname from '[0-9]{8}'), 'YYYYMMDD') < $2
"""


async def make_partitions(connection: Connection, first: date, last: date, today: date) -> None:
    """Make the partitions of some days, but those that the ledger process would have dropped by now."""
    for start in range(0, (last - first).days + 1, PARTITION_DAYS_A_CALL):
        low = first + timedelta(days=start)
        high = min(low + timedelta(days=PARTITION_DAYS_A_CALL - 1), last)
        await connection.execute("select tollwire.make_partitions_v1($1, $2)", low, high)
    kept_days = {
        "tollwire.carrier_references": KEPT_REFERENCE_DAYS - 1,
        "tollwire.idempotency_keys": KEYS_KEPT_DAYS,
    }
    for table, days in kept_days.items():
        for (name,) in await connection.fetch(AGED, table, today - timedelta(days=days)):
            await connection.execute(f"drop table {name}")


CLIENTS: Final = """
with opened as (
    select ledger.open_account_v1($1, 0) as id, n from generate_series(1, $2::bigint) n
)
insert into tollwire.clients (id, name, created_at)
select id, format('%s-%s', $3::text, lpad(n::text, 6, '0')), $4::date from opened
returning id
"""
ENDPOINTS: Final = """
insert into tollwire.callback_endpoints (client_id, url)
select id, $2 from unnest($1::bigint[]) id order by id returning client_id, id
"""
SYSTEM: Final = "select kind::text, id from ledger.accounts where currency = $1 and kind <> 'client'"
CARRIER: Final = """
insert into tollwire.carriers (name, kind, settings, enabled) values ('fill', 'http', '{}', false)
on conflict (name) do update set name = excluded.name returning id
"""


async def make_clients(
    connection: Connection, currency: str, number: int, since: date, callback_url: str
) -> dict[int, int | None]:
    """Open accounts with their clients; return their ids, each with its endpoint if there is to be one."""
    name = f"fill-{secrets.token_hex(3)}"
    rows = await connection.fetch(CLIENTS, currency, number, name, since)
    clients: dict[int, int | None] = dict.fromkeys(sorted(row[0] for row in rows))
    if callback_url:
        endpoints = await connection.fetch(ENDPOINTS, list(clients), callback_url)
        clients |= {row["client_id"]: row["id"] for row in endpoints}
    return clients


async def system_accounts(connection: Connection, currency: str) -> dict[str, int]:
    """The ids of a currency's system accounts by kind."""
    return {row["kind"]: row["id"] for row in await connection.fetch(SYSTEM, currency)}


async def carrier_id(connection: Connection, name: str) -> int:
    """The id of the carrier of this name; without a name, of one that is disabled and made here."""
    sql = "select id from tollwire.carriers where name = $1"
    found = await connection.fetchval(sql, name) if name else await connection.fetchval(CARRIER)
    if found is None:
        raise LookupError(f"there is no carrier {name}")
    return int(found)


BALANCES: Final = """
update ledger.accounts a
set posted_micros = x.posted, held_micros = x.held, open_holds = x.open, version = x.version,
    chain_head = x.head, last_entry_at = to_timestamp(0) + x.at * interval '1 microsecond'
from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[])
     x(id, posted, held, open, version, head, at)
where a.id = x.id
"""


async def write_balances(connection: Connection, accounts: Sequence[Account]) -> None:
    """Bring the accounts' rows to where their entries left them."""
    for first in range(0, len(accounts), ACCOUNTS_A_CALL):
        some = [one for one in accounts[first : first + ACCOUNTS_A_CALL] if one.version]
        rows = [(a.id, a.posted, a.held, a.open_holds, a.version, a.head, a.at) for a in some]
        columns = zip(*rows, strict=True) if rows else [[]] * 7
        await connection.execute(BALANCES, *map(list, columns))


WALKED: Final = """
insert into tollwire.watermarks (name, position) values ('expire_holds', $1)
on conflict (name) do update set position = greatest(watermarks.position, excluded.position)
"""
FILLED: Final = """
select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('tollwire', 'ledger') and c.relkind = 'r' order by pg_relation_size(c.oid) desc
"""


async def walk_past(connection: Connection, today: date) -> None:
    """Have the walk over holds be past the days before this one, as if they had passed."""
    await connection.execute(WALKED, str(day_floor(today)))


async def settle_in(dsn: str) -> None:
    """Leave it as it would be after all these days: tables are vacuumed."""
    async with connected(dsn) as connection:
        names = [name for (name,) in await connection.fetch(FILLED)]
    await asyncio.gather(*(_vacuum(dsn, names[place::CONNECTIONS]) for place in range(CONNECTIONS)))


async def _vacuum(dsn: str, names: Sequence[str]) -> None:
    async with connected(dsn) as connection:
        for name in names:
            await connection.execute(f"vacuum (analyze) {name}")
