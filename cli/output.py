"""What the commands print: tables for people, JSON for programs. Results go to stdout, all else to stderr."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.terminal import json_bytes, printable
from shared.domain.money import format_micros, parse_micros

# Without a terminal nobody asked for a width: wide enough that no row of ours is folded.
PIPE_COLUMNS: Final = 200
INDENT: Final = 2

# One colour a meaning, the same on every screen.
STATE_STYLES: Final = {
    "DELIVERED": "green", "CAPTURED": "green", "HELD": "yellow", "RELEASED": "blue",
    "UNDELIVERED": "red", "EXPIRED": "red", "FAILED_PERM": "red", "CANCELLED": "magenta",
    "FAILED_TEMP": "yellow", "UNKNOWN": "yellow",
}  # fmt: skip


class Output:
    """Prints a command's results.

    Args:
        as_json: for programs: one JSON document on stdout and nothing else there.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _console(is_error=False)
        self.notes = _console(is_error=True)

    def document(self, value: Any) -> None:
        """Print a JSON document: anything that msgspec writes."""
        click.echo(json_bytes(value))

    def line(self, text: str, style: str = "") -> None:
        """Print one line for people."""
        self.console.print(Text(" " * INDENT + printable(text), style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something beside the result, to people only."""
        if not self.as_json:
            self.notes.print(Text(" " * INDENT + printable(text), style="dim"), soft_wrap=True)

    def more(self, has_more: bool) -> None:
        """Say that a list does not end here."""
        if has_more:
            self.note("There are more; --limit shows them.")

    def gap(self) -> None:
        """Print an empty line."""
        self.console.print()

    def details(self, pairs: Iterable[tuple[str, str | Text | None]]) -> None:
        """Print names and values in two columns, its further lines below it; None leaves it out."""
        shown = [(name, value) for name, value in pairs if value is not None]
        column = INDENT + max(len(name) for name, _ in shown) + INDENT
        for name, value in shown:
            first, *others = _shown(value).split("\n") or [Text()]
            head = Text(" " * INDENT + name.ljust(column - INDENT), style="dim")
            self.console.print(Text.assemble(head, first), soft_wrap=True)
            for line in others:
                self.console.print(Text.assemble(" " * column, line), soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, footer: Sequence[str] = ()
    ) -> None:
        """Print a table; a column whose name begins with ``>`` stands to the right, as numbers do.

        A column whose name begins with ``~`` is folded when the screen is narrow; others hold what is copied.
        A column that is empty in every row is left out. Without rows it says so.
        """
        rows = list(rows)
        if not rows:
            self.note("None.")
            return
        kept = [number for number in range(len(columns)) if any(len(row[number]) for row in rows)]
        table = Table(
            box=None, pad_edge=False, header_style="dim", show_footer=bool(footer), footer_style="bold"
        )
        for number in kept:
            column = columns[number]
            name = column.lstrip(">~")
            table.add_column(
                name if number else " " * INDENT + name,
                footer=footer[number] if footer else "",
                justify="right" if column.startswith(">") else "left",
                overflow="fold",
                no_wrap=not column.startswith("~"),
            )
        for row in rows:
            first, *others = (_shown(row[number]) for number in kept)
            table.add_row(Text.assemble(" " * INDENT, first), *others)
        self.console.print(table)


def state_text(state: str) -> Text:
    """A state of a message or of its hold, in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def amount_text(amount: str, currency: str = "") -> str:
    """A decimal amount of the API for people: "12345.6700" is "12,345.6700"."""
    return money_text(parse_micros(amount), currency)


def money_text(micros: int, currency: str = "") -> str:
    """An amount in micros for people, with its thousands apart."""
    whole, _, decimals = format_micros(micros).partition(".")
    text = f"{int(whole):,}.{decimals}"
    if whole == "-0":
        text = "-" + text
    return f"{text} {currency}".rstrip()


def count_text(count: int, thing: str) -> str:
    """So many of something: "1 message", "2,000 messages"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def time_text(time: str | None) -> str:
    """A time of the API ("2026-11-21T10:00:00.123Z") in the local time zone, to the second."""
    if time is None:
        return ""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short_time_text(time: str | None) -> str:
    """The same, short enough for a table: today only the time, else the day and the minute."""
    if time is None:
        return ""
    moment = datetime.fromisoformat(time).astimezone()
    is_today = moment.date() == datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def _shown(value: str | Text) -> Text:
    """A text of a message or of a file, with nothing in it that a terminal would obey."""
    if isinstance(value, str):
        return Text(printable(value))
    value.plain = printable(value.plain)
    return value


def _console(*, is_error: bool) -> Console:
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    # What is shown comes from messages and files: brackets and colons in it are no markup.
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)
