"""`tollwire events replay`: tells facts again from PostgreSQL."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import click
import nats.errors
import nats.js.errors

from api.schemas import OUT_OF_TIME, is_strange
from cli.database import secret
from cli.database_command import database_command
from cli.failures import Exit, Failure, Unreachable
from cli.home import Home
from cli.output import Output
from cli.walk_screen import WalkScreen
from cli.words import not_empty
from embedded.nats import NatsServer
from ledger.replay_facts import replay
from shared.runtime.jetstream import JetStream, PublishFailed
from shared.runtime.loops import cancel_all
from shared.runtime.nats_connection import NatsConnection
from shared.runtime.postgres import Pool
from shared.runtime.server_settings import NatsAccess
from shared.runtime.settings import SettingsError, load

STREAM = "SMS_EVENT"
STARTED_AGAIN = "Start the same command again: it goes on."
# A NATS that runs answers at once.
CONNECT_SECONDS = 5.0


@click.group()
def events() -> None:
    """Tell facts for reports again."""


@events.command("replay")
@click.option(
    "--since", required=True, metavar="TIME", help="As 2026-11-21 or 2026-11-21T10:00Z; UTC if unsaid."
)
@click.option("--until", default="", callback=not_empty, metavar="TIME", help="Else now.")
@database_command
async def replay_events(pool: Pool, output: Output, since: str, until: str) -> None:
    """Tell the state of every message that changed since TIME again.

    On sms.event.<status>, for reports that lost facts. Readers count a fact once, so telling it again is
    harmless.

    Exit codes: 0 all are told, 1 NATS gave up in between (start again), 2 used wrongly, 3 the database
    or NATS does not answer.
    """
    first = moment_of(since)
    last = moment_of(until) if until else datetime.now(UTC)
    if first >= last:
        raise Failure("--since is not before --until.", exit_code=Exit.USAGE)
    async with _jetstream(nats_target()) as jetstream:
        try:
            with WalkScreen(output) as shown:
                replayed = await replay(pool, jetstream, first, last, shown.tell)
        except PublishFailed as error:
            raise Failure("NATS gave up in between.", detail=str(error), hint="Start it again.") from error
    if output.as_json:
        output.document({"since": first, "until": last, **dataclasses.asdict(replayed)})
    else:
        output.line(f"{replayed.messages} facts told in {replayed.bundles} bundles.", "bold")


@asynccontextmanager
async def _jetstream(target: NatsAccess) -> AsyncIterator[JetStream]:
    """JetStream as it is: the streams are the services' business, who know how they are to be."""
    connection = NatsConnection(target, name="tollwire-events-replay")
    running = asyncio.create_task(connection.run(), name="nats")
    try:
        if not await connection.wait_connected(CONNECT_SECONDS):
            raise Unreachable("NATS does not answer.", detail=target.nats_url.rpartition("@")[2])
        await connection.client.jetstream().stream_info(STREAM)
        yield JetStream(target, connection)
    except nats.js.errors.NotFoundError:
        hint = "The services make it: start them first."
        raise Unreachable(f"NATS has no stream {STREAM}.", hint=hint) from None
    except nats.errors.Error as error:  # its timeout is an OSError, which would be taken for the database's
        raise Unreachable("NATS does not answer.", detail=str(error), hint=STARTED_AGAIN) from error
    finally:
        connection.is_closing = True
        await cancel_all([running])
        await connection.close()


def moment_of(text: str) -> datetime:
    """Read a time of the command line; UTC if it says no zone, or says UTC as PostgreSQL's log does."""
    try:
        moment = datetime.fromisoformat(f"{text[:-4]}+00:00" if text.endswith(" UTC") else text)
    except ValueError:
        raise Failure(
            f"{text!r} is no time.", hint="Right is 2026-11-21 or 2026-11-21T10:00Z.", exit_code=Exit.USAGE
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if is_strange(moment):
        raise Failure(f"{text!r} {OUT_OF_TIME}.", exit_code=Exit.USAGE)
    return moment


def nats_target(starts: str = "up") -> NatsAccess:
    """The NATS that is set, or that of TOLLWIRE_HOME; where there is none it is told what ``starts`` one."""
    if secret("TOLLWIRE_NATS_URL", os.environ):
        try:
            return load(NatsAccess, os.environ)
        except SettingsError as error:
            raise Failure("The settings are wrong.", detail=str(error), exit_code=Exit.USAGE) from None
    home = Home.of(os.environ)
    port = home.read_ports().get("nats")
    if port is None:
        raise Unreachable(
            f"There is no instance in {home.path}.",
            hint=f"`tollwire {starts}` starts one; "
            "TOLLWIRE_HOME names its folder, TOLLWIRE_NATS_URL a server.",
        )
    server = NatsServer(home.nats, port=port)
    return NatsAccess(nats_url=server.url, nats_token=server.token)
