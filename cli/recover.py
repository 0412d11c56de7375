"""`tollwire recover`: after the database was restored to an earlier moment."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import nats.errors
from nats.aio.client import Client

from cli.database import is_of_home
from cli.database_command import actor, database_command
from cli.events import CONNECT_SECONDS, STARTED_AGAIN, moment_of, nats_target
from cli.failures import Failure, Unreachable
from cli.home import Home
from cli.output import Output
from cli.recover_list import opened
from cli.screen import own_command
from cli.walk_screen import WalkScreen
from ledger import recover_facts as facts
from ledger.recover import NEWER_MAX, CannotRecover, Recovered, ServicesRun, finish, plan_for
from ledger.recover import recover as decide
from ledger.recover_store import client_names
from shared.runtime.loops import cancel_all
from shared.runtime.nats_connection import NatsConnection
from shared.runtime.postgres import Pool

# What starts the servers of a home, and nothing that would send.
SERVERS = "up --servers-only"
# What one wants to know of it, in this order.
SHOWN = (
    ("ended", "ended as their clients were told"),
    ("sent", "known to be with their carrier"),
    ("asked_again", "asked again of a carrier that recognises our ids"),
    ("sent_again", "sent once more, marked as possible duplicates"),
    ("held_back", "of unknown outcome; nothing is sent, a dead letter if no receipt comes"),
    ("gone", "accepted after the moment and gone; only facts name them"),
)


@click.command("recover")
@click.option("--restored-to", required=True, metavar="TIME", help="As 2026-11-21T10:00:00Z; UTC if unsaid.")
@click.option(
    "--hold", "holds_back", is_flag=True, help="Send nothing again, at_least_once neither: you decide."
)
@click.option("--without-nats", is_flag=True, help="NATS is lost as well, with what it could tell.")
@click.option(
    "--list",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV of every message and what was done; that of a run that was cut off is added to.",
)
@partial(database_command, starts=SERVERS)
async def recover(
    pool: Pool, output: Output, restored_to: str, holds_back: bool, without_nats: bool, file: Path | None
) -> None:
    """Make a database whole that was restored to TIME.

    It decides for the messages that went on since. Stop the services first, and start them afterwards; the
    servers of TOLLWIRE_HOME are started without them by `tollwire up --servers-only`.
    What sms.event.* still tells is made again; whatever else waits may have been sent, and is treated as
    a submit whose answer was lost. Streams of work are emptied. It may be cut off and started again.

    Exit codes: 0 done, 1 refused, 2 used wrongly, 3 the database or NATS does not answer, 4 the role may
    not.
    """
    moment = moment_of(restored_to)
    try:
        with opened(file) as listed, WalkScreen(output) as shown:
            async with nullcontext() if without_nats else _nats() as client:
                plan = await plan_for(pool, moment, holds_back=holds_back)
                listed.check(plan.began)
                oldest = None if client is None else await facts.oldest(client)
                told = {} if client is None else await facts.read(client, moment - NEWER_MAX)
                listener = listed.listener(told, await client_names(pool), plan.began)
                done = await decide(pool, plan, told, actor(), listener, shown.count)
                emptied = [] if client is None else await facts.empty_streams(client)
                await finish(pool, plan)
    except (CannotRecover, facts.TooMany) as error:
        raise Failure(f"Nothing was done: {error}.", hint=_cure(error)) from error
    _show(output, moment, done, emptied, oldest)
    if not without_nats and (oldest is None or oldest > moment):
        output.note(_gap(oldest))


def _cure(error: Exception) -> str:
    cure = "See docs/recovery.md."
    is_homes = is_of_home(click.get_current_context().params["dsn"], "ledger")
    if isinstance(error, ServicesRun) and is_homes and Home.of(os.environ).is_running:
        cure = f"`{own_command('down')}`, then `{own_command(SERVERS)}`. {cure}"
    return cure


@asynccontextmanager
async def _nats() -> AsyncIterator[Client]:
    connection = NatsConnection(nats_target(SERVERS), name="tollwire-recover")
    running = asyncio.create_task(connection.run(), name="nats")
    try:
        if not await connection.wait_connected(CONNECT_SECONDS):
            raise Unreachable("NATS does not answer.", hint="If it is lost for good: --without-nats.")
        yield connection.client
    except nats.errors.Error as error:  # its timeout is an OSError, which would be taken for the database's
        raise Unreachable("NATS does not answer.", detail=str(error), hint=STARTED_AGAIN) from error
    finally:
        connection.is_closing = True
        await cancel_all([running])
        await connection.close()


def _gap(oldest: datetime | None) -> str:
    if oldest is None:
        return "NATS has no facts: nothing is told of what came after that moment."
    return (
        f"The oldest fact that NATS has is of {_time(oldest)}: nothing is told of what came before. "
        "Messages that were accepted after the restored moment and ended before that are in no list."
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _show(
    output: Output, moment: datetime, done: Recovered, emptied: list[str], oldest: datetime | None
) -> None:
    counts = {name: getattr(done, name) for name, _ in SHOWN}
    if output.as_json:
        more = {"open_holds": done.open_holds, "streams_emptied": emptied, "oldest_fact": oldest}
        output.document({"restored_to": moment, **counts, **more})
        return
    output.line(f"The database is as of {_time(moment)}, and may be used again.", "bold")
    output.details((name.replace("_", " "), f"{_number(counts[name])}  {meaning}") for name, meaning in SHOWN)
    output.note(
        "Made since that moment and gone: top-ups, keys and their revocations, prices, routes. "
        "Now: tollwire ledger verify --full, then start the services (docs/recovery.md)."
    )


def _number(count: Any) -> str:
    if isinstance(count, int):
        return str(count)
    kinds = ", ".join(f"{status} {number}" for status, number in sorted(count.items()))
    return f"{sum(count.values())}" + (f" ({kinds})" if kinds else "")
