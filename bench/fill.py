"""Fills a migrated database with stored history whose books are whole.

    .venv/bin/python -m bench.fill --dsn postgresql://… --messages 5000000 --days 90 --clients 50000
    .venv/bin/python -m bench.fill --home .tollwire --backlog 1000000 --carrier simulator

Each client is topped up first and whenever its credit ends; each message is accepted, submitted, delivered
or not, settled and called back: one hold and one capture or release in the journal. `tollwire ledger verify
--full` passes over it. Nothing is sent, but a backlog waits in the outbox and will be, once a worker runs.
"""

import asyncio
import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from bench import fill_database as database
from bench.fill_database import connected
from bench.fill_rows import Table
from bench.fill_share import Plan, Share
from cli.database import DATABASE
from cli.home import Home
from embedded.postgres import PostgresServer
from ledger.bookkeeping import CLOSE_AFTER
from ledger.checkpoints import KeyringSigner, close_day, unsealed_days
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection

CURRENCY: Final = "EUR"
PROCESSES: Final = 2
# No name ends so: should a callback ever go there, it reaches nobody.
CALLBACK_URL: Final = "https://callbacks.invalid/"
# The backlog was accepted within so long before now.
BACKLOG_SPAN: Final = timedelta(minutes=10)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a fill is to leave behind. ``carrier`` and ``callback_url`` may be empty."""

    dsn: str
    messages: int = 0
    days: int = 1
    clients: int = 1_000
    backlog: int = 0
    carrier: str = ""
    callback_url: str = CALLBACK_URL
    keyring: Keyring | None = None
    has_texts: bool = False
    is_sealed: bool = False
    processes: int = PROCESSES
    seed: int = 1


class SealedAlready(Exception):  # noqa: N818 - named for what happened
    """A day is closed, and nothing can come into it any more."""


async def fill(wish: Wish, tell: Tell) -> None:
    """Fill a database.

    Raises:
        LookupError: there is no such carrier.
        SealedAlready: a day that would be filled is sealed.
        OSError, asyncpg.PostgresError: the database does not answer, or refuses.
    """
    started = time.monotonic()
    async with connected(wish.dsn) as connection:
        plan = await _prepare(connection, wish)
    tell(f"{wish.clients:,} clients and the partitions of {len(plan.days)} days after {_since(started)}")
    began = time.monotonic()
    shares = [_share_of(plan, wish.processes, place) for place in range(wish.processes)]
    if wish.processes == 1:
        await write(wish.dsn, shares[0])
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(wish.processes, mp_context=spawn) as pool:
            loop = asyncio.get_running_loop()
            works = (loop.run_in_executor(pool, _write_apart, wish.dsn, share) for share in shares)
            await asyncio.gather(*works)
    written = wish.messages + wish.backlog
    rate = written / max(time.monotonic() - began, 0.001)
    tell(f"{written:,} messages in {_since(began)}: {rate:,.0f}/s")
    began = time.monotonic()
    await database.settle_in(wish.dsn)
    tell(f"vacuumed in {_since(began)}")
    if wish.is_sealed and wish.keyring is not None:
        began = time.monotonic()
        await _seal(wish.dsn, wish.keyring, plan.today)
        tell(f"days sealed in {_since(began)}")


async def _prepare(connection: Connection, wish: Wish) -> Plan:
    now: datetime = await connection.fetchval("select clock_timestamp()")
    today = now.astimezone(UTC).date()
    days = [today - timedelta(days=ago) for ago in range(wish.days, 0, -1)]
    sealed = await connection.fetchval("select max(day) from ledger.seals")
    if wish.messages and sealed is not None and sealed >= days[0]:
        raise SealedAlready(
            f"the days up to {sealed} are sealed: what is added to them would break the books"
        )
    await database.make_partitions(connection, days[0], today, today)
    await database.walk_past(connection, today)  # before a ledger process could begin to walk them
    clients = await database.make_clients(connection, CURRENCY, wish.clients, days[0], wish.callback_url)
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    span = (max(now - BACKLOG_SPAN, midnight), now)
    keyring = wish.keyring if wish.has_texts or wish.backlog else None
    return Plan(
        currency=CURRENCY,
        carrier_id=await database.carrier_id(connection, wish.carrier),
        clients=clients,
        system=await database.system_accounts(connection, CURRENCY),
        days=days,
        messages=[_part(wish.messages, wish.days, place) for place in range(wish.days)],
        today=today,
        backlog=wish.backlog,
        backlog_us=(_microseconds(span[0]), _microseconds(span[1])),
        keyring=None if keyring is None else (keyring.active, {keyring.active: keyring.key()}),
        seed=wish.seed,
    )


def _share_of(plan: Plan, shares: int, place: int) -> Plan:
    """Every second client, of two shares, and half of the messages."""
    return replace(
        plan,
        clients=dict(list(plan.clients.items())[place::shares]),
        messages=[_part(number, shares, place) for number in plan.messages],
        backlog=_part(plan.backlog, shares, place),
        seed=plan.seed + place,
    )


def _part(whole: int, parts: int, place: int) -> int:
    return whole * (place + 1) // parts - whole * place // parts


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _write_apart(dsn: str, plan: Plan) -> None:
    asyncio.run(write(dsn, plan))


async def write(dsn: str, plan: Plan) -> None:
    """Write one share, a chunk a transaction."""
    share = Share(plan)
    async with connected(dsn) as connection:
        for day, _, tables in share.chunks():
            async with connection.transaction():
                for table in tables:
                    await _copy(connection, table, day)
        await database.write_balances(connection, share.accounts)


# Those of all others are cut by days.
WHOLE_TABLES: Final = ("ledger.operations", "tollwire.outbox")


async def _copy(connection: Connection, table: Table, day: date) -> None:
    schema, _, name = table.name.partition(".")
    if table.name not in WHOLE_TABLES:
        name += f"_{day:%Y%m%d}"  # past the routing of each row
    await connection.copy_to_table(
        name, schema_name=schema, columns=table.columns, source=io.BytesIO(table.take()), format="binary"
    )


async def _seal(dsn: str, keyring: Keyring, today: date) -> None:
    async with connected(dsn) as connection:
        await connection.execute("reset role")
        now: datetime = await connection.fetchval("select clock_timestamp()")
        is_over = (now - CLOSE_AFTER).astimezone(UTC).date()  # just after midnight the last day is not yet
        for day in await unsealed_days(connection, min(today, is_over)):
            await close_day(connection, day, KeyringSigner(keyring))


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"


def _dsn_of(home: Path) -> str:
    place = Home(home.absolute())
    port = place.read_ports().get("postgresql")
    if port is None:
        raise click.UsageError(f"there is no instance in {home}; name a database with --dsn")
    return PostgresServer(place.postgres, port=port).dsn(database=DATABASE)


def _keyring_of(file: Path | None, home: Path | None) -> Keyring | None:
    if file is None and home is not None:
        file = Home(home.absolute()).keyring
    return None if file is None else Keyring.load(file)


@click.command(help=__doc__)
@click.option("--dsn", help="The database, as its owner or superuser.")
@click.option("--home", type=click.Path(path_type=Path), help="The instance whose database it is.")
@click.option("--messages", type=click.IntRange(0), default=0, help="That are over: two entries each.")
@click.option("--days", type=click.IntRange(1, 3650), default=1, show_default=True, help="Before today.")
@click.option("--clients", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--backlog", type=click.IntRange(0), default=0, help="Messages that wait in the outbox, due.")
@click.option("--carrier", default="", help="Who has the messages. Else a disabled one is made.")
@click.option("--callback-url", default=CALLBACK_URL, show_default=True, help="Empty: no callbacks.")
@click.option("--texts", "has_texts", is_flag=True, help="The texts of the last days too.")
@click.option("--seal", "is_sealed", is_flag=True, help="Close and seal the days, unverified.")
@click.option("--keyring", "keyring_file", type=click.Path(path_type=Path), help="Seals texts and days.")
@click.option("--processes", type=click.IntRange(1, 64), default=PROCESSES, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of who sends what and when.")
def main(dsn: str | None, home: Path | None, keyring_file: Path | None, **wishes: object) -> None:
    """See the module."""
    if dsn is None and home is None:
        raise click.UsageError("name the database with --dsn or --home")
    keyring = _keyring_of(keyring_file, home)
    if keyring is None and any(wishes[name] for name in ("backlog", "has_texts", "is_sealed")):
        raise click.UsageError("a backlog, --texts and --seal need --keyring or --home")
    place = dsn if dsn is not None or home is None else _dsn_of(home)
    wish = Wish(dsn=str(place), keyring=keyring, **wishes)  # type: ignore[arg-type] # click checked them
    try:
        asyncio.run(fill(wish, click.echo))
    except (LookupError, SealedAlready) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
