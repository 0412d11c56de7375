"""`tollwire up`: everything from one command."""

import asyncio
import os
from contextlib import suppress

import asyncpg
import click
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from cli.detach import start_detached
from cli.home import Home
from cli.instance import Instance
from cli.ownership import is_about, not_ours, told_whose
from cli.screen import Screen, own_command, print_summary
from cli.services import NAMES, parse_scale
from embedded.files import FolderInUse
from embedded.ports import NoFreePort
from embedded.unit import NotInstalled, StartFailed
from shared.runtime.keyring import KeyringError

STOP_BY_KEY = "Ctrl-C"
# What can go wrong without being a bug: its message is for the operator, its traceback for nobody.
PLAIN_ERRORS = (
    StartFailed,
    NotInstalled,
    FolderInUse,
    NoFreePort,
    KeyringError,
    asyncpg.PostgresError,
    DBAPIError,
    OSError,
)


@click.command()
@click.option(
    "--scale", default="", metavar="NAME=N,…", help=f"How many of each service ({', '.join(NAMES)})."
)
@click.option("--observe", is_flag=True, help="Start a Prometheus too, if there is one, with our rules.")
@click.option("--servers-only", is_flag=True, help="Start no service: for work on a database at rest.")
@click.option("--detach", is_flag=True, help="Go on in the background; return when everything is ready.")
@click.option("--in-background", is_flag=True, hidden=True, help="What --detach starts.")
def up(scale: str, observe: bool, servers_only: bool, detach: bool, in_background: bool) -> None:
    """Start servers and services, and show how to send a message.

    The servers are PostgreSQL, NATS and Valkey, from their wheels or your own. Data lives in
    TOLLWIRE_HOME (.tollwire by default) and survives a restart. The API listens on TOLLWIRE_PORT (8080 by
    default).

    Exit codes: 0 it ran and was stopped (with --detach: it is ready; it ran already), 1 it did not start,
    2 used wrongly, 4 a port is in use.
    """
    if servers_only and (scale or observe):
        raise click.UsageError("--servers-only starts no service: --scale and --observe do not go with it.")
    counts = {} if servers_only else parse_scale(scale)
    home = Home.of(os.environ)
    stop_by_command = own_command("down")
    home.make()
    console = Console(quiet=in_background, highlight=False)
    try:
        home.hold()
    except FolderInUse:
        _tell_running(console, home, is_with_options=bool(scale or observe), servers_only=servers_only)
        return
    if detach:
        home.lock.release()
        with told_whose(home.path):
            flags = {"--observe": observe, "--servers-only": servers_only}
            options = ["--scale", scale, *(flag for flag, is_set in flags.items() if is_set)]
            start_detached(console, home, options, stop_by_command)
        return
    _run(console, home, counts, is_observed=observe)


def _run(console: Console, home: Home, counts: dict[str, int], *, is_observed: bool) -> None:
    screen = Screen(console, home.log_of("supervisor"))

    async def run() -> None:
        await Instance(home, os.environ, counts, screen, is_observed=is_observed).run(STOP_BY_KEY)

    try:
        asyncio.run(run())
    except PLAIN_ERRORS as error:
        told = not_ours(error, home.path) if is_about(error, home.path) else error
        with suppress(OSError):
            screen.record(str(told))
        raise click.ClickException(str(told)) from None
    finally:
        home.lock.release()
    console.print("  Stopped. `make up` goes on where it was.")


def _tell_running(console: Console, home: Home, *, is_with_options: bool, servers_only: bool) -> None:
    """Show what runs, if it is what was asked for."""
    state = home.read_state()
    if state is None or state.phase != "running":
        phase = "starting" if state is None else state.phase
        raise click.ClickException(f"An instance in {home.path} is {phase}; see `{own_command('status')}`.")
    if not state.has_services and not servers_only:
        raise click.ClickException(
            f"It runs without services. `{own_command('down')}`, then `{own_command('up')}` starts them."
        )
    if is_with_options or (servers_only and state.has_services):
        raise click.ClickException(
            "It runs as it was started: --scale, --observe and --servers-only are for a start. "
            f"Stop it first: `{own_command('down')}`."
        )
    print_summary(console, home, state, own_command("down"))
