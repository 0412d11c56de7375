"""What `tollwire up` shows: a line for each step, then a short screen with all that one needs to begin."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.home import Home, State, Step

TITLE_WIDTH = 42  # the longest title and a little air, so that the times stand in one column
MARKS = {"done": ("✓", "green"), "note": ("·", "blue"), "warning": ("!", "yellow")}  # as doctor's
SLOW_SECONDS = 0.05  # below that a time says nothing


class Screen:
    """Tells what happens, to a person and in logs/supervisor.log.

    Args:
        console: where a person reads; quiet when there is none.
        log: the supervisor's log.
    """

    def __init__(self, console: Console, log: Path) -> None:
        self._console = console
        self._log = log
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Show that something is being done, then that it was; a text in the list replaces the title."""
        started_at = time.monotonic()
        better_titles: list[str] = []
        with self._console.status(Text(f"{title} …"), spinner_style="cyan"):
            yield better_titles
        done = "".join(better_titles[-1:]) or title
        waited_seconds = time.monotonic() - started_at
        line = f"{done:<{TITLE_WIDTH}}{waited_seconds:6.1f} s" if waited_seconds >= SLOW_SECONDS else done
        self._show_step(Step(line))
        self.record(f"{done}: done in {waited_seconds:.2f} s")

    def note(self, text: str) -> None:
        """Show something that needs no doing."""
        self._show_step(Step(text, "note"))
        self.record(text)

    def warn(self, text: str) -> None:
        """Show something that should be set right."""
        self._show_step(Step(text, "warning"))
        self.record(text)

    def _show_step(self, step: Step) -> None:
        self.steps.append(step)
        print_step(self._console, step)

    def tell(self, text: str, *, is_bad: bool) -> None:
        """Show an event of the day, with its time."""
        now = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
        style = "yellow" if is_bad else "green"
        line = Text.assemble("  ", (now, "dim"), "  ", (text, style))
        self._console.print(line, soft_wrap=True)
        self.record(text)

    def record(self, text: str) -> None:
        """Write into the supervisor's log alone."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{now} {text}\n")

    def show(self, home: Home, state: State, how_to_stop: str) -> None:
        """Show the last screen."""
        print_summary(self._console, home, state, how_to_stop)


def print_step(console: Console, step: Step) -> None:
    """Print one line of the start."""
    text = (step.text, "yellow" if step.kind == "warning" else "")
    console.print(Text.assemble("  ", MARKS[step.kind], " ", text), soft_wrap=True)


def print_summary(console: Console, home: Home, state: State, how_to_stop: str) -> None:
    """Print where everything is and what to paste first."""
    where = {"Data": short(home.path), "Logs": short(home.logs)}
    if not state.has_services:
        _print_rows(console, "The servers are running, and no service.", {**where, "Stop": how_to_stop})
        console.print()
        return
    key = home.demo_key.read_text(encoding="utf-8").strip()
    url = state.api_url
    rows = {
        "API": f"{url}   (documentation: {url}/docs)",
        "Key": f"{key}   (client demo)",
        **where,
        **({"Watch": f"{state.prometheus_url}/alerts   (Prometheus)"} if state.prometheus_url else {}),
        "Stop": how_to_stop,
    }
    _print_rows(console, "Tollwire is running.", rows)
    _print_command(
        console,
        "Send a message:",
        f"curl -s {url}/v1/messages \\",
        f"  -H 'X-API-Key: {key}' \\",
        "  -H 'Content-Type: application/json' \\",
        """  -d '{"to": "+4915112345678", "text": "Hello from Tollwire"}'""",
    )
    _print_command(
        console,
        "See what became of it, with the id from the answer in place of ID:",
        f"curl -s {url}/v1/messages/ID \\",
        f"  -H 'X-API-Key: {key}'",
    )
    console.print()


def _print_rows(console: Console, title: str, rows: Mapping[str, str]) -> None:
    console.print()
    console.print(Text.assemble("  ", (title, "bold green")))
    console.print()
    for name, value in rows.items():
        console.print(Text.assemble("  ", (f"{name:<6}", "dim"), value), soft_wrap=True)


def _print_command(console: Console, title: str, *lines: str) -> None:
    console.print()
    console.print(Text.assemble("  ", (title, "dim")))
    # No wrapping: a command must come out of the clipboard as it is.
    for line in lines:
        console.print(Text(f"  {line}", style="cyan"), soft_wrap=True)


def own_command(arguments: str) -> str:
    """Return how this command is called here: by name when it is on the PATH, else by its path."""
    name = Path(sys.argv[0])
    is_script = name.name == "tollwire"
    return (
        f"tollwire {arguments}"
        if shutil.which("tollwire") or not is_script
        else f"{short(name.absolute())} {arguments}"
    )


def how_to_start(home: Home, command: str = "up") -> str:
    """What to say where something of the home is asked for, and nothing runs there."""
    return f"Nothing runs in {short(home.path)}; `{own_command(command)}` starts it."


def short(path: Path) -> str:
    """Return the path as a person writes it: relative to here when it is below here, else with ~."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base) and path != base:
            return prefix + str(path.relative_to(base))
    return str(path)
