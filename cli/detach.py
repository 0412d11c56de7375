"""`tollwire up --detach`: starts the supervisor in the background and waits until all is ready."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import click
from rich.console import Console

from cli.home import Home, State
from cli.screen import own_command, print_step, print_summary
from embedded.files import tail

POLL_SECONDS = 0.1
TAIL_LINES = 20
# Ctrl-C while waiting: the background goes on, and that is said.
INTERRUPTED_EXIT = 130


def start_detached(console: Console, home: Home, options: Sequence[str], how_to_stop: str) -> None:
    """Start the supervisor with these options of `up`, in a session of its own; return when all is ready.

    Exits with the supervisor's status, and says why, when it did not get ready.
    """
    log = home.log_of("supervisor")
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-m", "cli", "up", "--in-background", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        state = _wait(console, home, process)
    except KeyboardInterrupt:
        console.print(
            f"  It goes on starting in the background; `{own_command('status')}` shows how far it is."
        )
        raise SystemExit(INTERRUPTED_EXIT) from None
    print_summary(console, home, state, how_to_stop)


def _wait(console: Console, home: Home, process: "subprocess.Popen[bytes]") -> State:
    shown = 0
    with console.status("Starting …", spinner_style="cyan"):
        while True:
            is_over = process.poll() is not None
            state = _state_of(home, process.pid)
            for step in state.screen[shown:]:
                print_step(console, step)
            shown = len(state.screen)
            if state.phase == "running":
                return state
            if is_over:
                _fail(home, state)
            time.sleep(POLL_SECONDS)


def _state_of(home: Home, pid: int) -> State:
    state = home.read_state()
    return state if state is not None and state.supervisor_pid == pid else State()


def _fail(home: Home, state: State) -> NoReturn:
    log = home.log_of("supervisor")
    last_words = f"It ended before it was ready. The end of {log}:\n{tail(log, TAIL_LINES)}"
    click.ClickException(state.problem or last_words).show()
    raise SystemExit(state.exit_code or 1)
