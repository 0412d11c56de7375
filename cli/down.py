"""`tollwire down`: stops what runs in the background."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import click
from rich.console import Console

from cli.home import Home
from cli.leftovers import stop_leftovers
from cli.ownership import told_whose
from embedded.accounts import SYSTEM_FOLDER
from embedded.postgres_programs import COPIES

POLL_SECONDS = 0.1
# Services drain for 30 s, PostgreSQL writes its last checkpoint in up to 30 s more.
LIMIT_SECONDS = 90.0


@click.command()
@click.option("--clean", is_flag=True, help="Remove the data folder too: messages, money, keys, everything.")
def down(clean: bool) -> None:
    """Finish what is in hand and stop everything. With nothing running, it is done already.

    Exit codes: 0 nothing runs any more, 1 it could not be stopped or removed, 2 used wrongly.
    """
    home = Home.of(os.environ)
    console = Console(highlight=False)
    if home.is_running:
        with console.status("Stopping; what is in hand is finished first …"):
            _stop(home)
        console.print("Stopped.")
    else:
        console.print(f"Nothing runs in {home.path}.")
    if home.is_made and home.run.exists():
        with told_whose(home.path), home.lock:
            asyncio.run(stop_leftovers(home, lambda _: None))
    if clean:
        if home.remove():
            console.print(f"{'Emptied' if home.path.exists() else 'Removed'} {home.path}.")
        else:
            console.print("There is nothing to remove.")
        for programs in SYSTEM_FOLDER.glob(f"{COPIES}*"):
            console.print(f"Left: {programs}, PostgreSQL's programs for every instance that root runs.")


def _stop(home: Home) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    is_told = False
    while home.is_running:
        is_told = is_told or _tell(home)
        if time.monotonic() >= until:
            _kill(home)
            return
        time.sleep(POLL_SECONDS)


def _tell(home: Home) -> bool:
    """Whether the supervisor knows that it should stop; one that begins says a moment later who it is."""
    pid, state = home.supervisor_pid(), home.read_state()
    if pid is None or state is None:
        return False
    # A second signal would mean: do not wait for what is in hand.
    if state.phase != "stopping":
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return True


def _kill(home: Home) -> None:
    pid = home.supervisor_pid()
    if pid is None:
        raise click.ClickException(
            f"{home.path} is held by a process that {home.state_file.name} does not name: stop it by hand."
        )
    os.kill(pid, signal.SIGKILL)
    while home.is_running:
        time.sleep(POLL_SECONDS)
