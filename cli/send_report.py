"""What a send of a file tells: while it runs, what was accepted and rejected, and how it ended."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.csv_messages import CsvMessage
from cli.output import Output, count_text, money_text, state_text
from cli.proof import FAULTS_SHOWN_MAX, Books
from cli.send_progress import Accepted, Done, Rejected
from shared.domain.money import format_micros

LINES_SHOWN_MAX: Final = 5
LINES_IN_JSON_MAX: Final = 1_000
BAR_COLUMNS: Final = 40


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rejected rows of one code: how many, the first reason in words, the lines they begin on."""

    code: str
    title: str
    detail: str
    lines: Sequence[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file's rows when all were answered; ``earlier`` of the accepted were sent before."""

    file: str
    run: str
    currency: str
    rows: int
    earlier: int
    accepted: Sequence[Accepted]
    rejections: Sequence[Rejections]

    @property
    def rejected_count(self) -> int:
        """Rows that were rejected."""
        return sum(len(group.lines) for group in self.rejections)

    @property
    def segments(self) -> int:
        """Segments of the accepted messages."""
        return sum(message.segments for message in self.accepted)

    @property
    def cost_micros(self) -> int:
        """The price of the accepted messages."""
        return sum(message.amount_micros for message in self.accepted)

    def document(self) -> dict[str, Any]:
        """The same for programs; of each code at most LINES_IN_JSON_MAX lines."""
        return {
            "file": self.file,
            "run": self.run,
            "rows": self.rows,
            "accepted": len(self.accepted),
            "sent_before": self.earlier,
            "rejected": self.rejected_count,
            "segments": self.segments,
            "cost": {"amount": format_micros(self.cost_micros), "currency": self.currency},
            "rejections": [
                {
                    "code": group.code, "count": len(group.lines), "title": group.title,
                    "detail": group.detail, "lines": list(group.lines[:LINES_IN_JSON_MAX]),
                }
                for group in self.rejections
            ],
        }  # fmt: skip


def grouped(rejected: Sequence[Rejected], messages: Sequence[CsvMessage]) -> list[Rejections]:
    """Rejected rows by code, the most frequent first."""
    groups: dict[str, list[Rejected]] = {}
    for row in sorted(rejected, key=lambda row: row.place):
        groups.setdefault(row.code, []).append(row)
    found = [
        Rejections(code, rows[0].title, rows[0].detail, [messages[row.place].line for row in rows])
        for code, rows in groups.items()
    ]
    return sorted(found, key=lambda group: -len(group.lines))


class Bar:
    """A progress bar on stderr, for a person at a terminal; silent elsewhere."""

    def __init__(self, console: Console, title: str, total: int, *, is_quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(BAR_COLUMNS),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            disable=is_quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total, note="")

    @contextmanager
    def shown(self) -> Iterator["Bar"]:
        """Show the bar as long as the context is open; then it is gone."""
        with self._progress:
            yield self

    def advance(self, done: Done) -> None:
        """A batch was answered."""
        self._progress.advance(self._task, len(done.accepted) + len(done.rejected))
        self._progress.update(self._task, note="")

    def set(self, completed: int, note: str) -> None:
        """So many are done; ``note`` stands beside the bar."""
        self._progress.update(self._task, completed=completed, note=note)

    def tell(self, reason: str, seconds: float) -> None:
        """A request waits."""
        self._progress.update(self._task, note=f"{reason} Again in {seconds:.0f} s.")


def print_outcome(output: Output, outcome: Outcome) -> None:
    """Show what was accepted and what was not."""
    cost = money_text(outcome.cost_micros, outcome.currency)
    earlier = f", {outcome.earlier:,} of them before" if outcome.earlier else ""
    accepted = f"{len(outcome.accepted):,} of {outcome.rows:,}{earlier}"
    output.gap()
    output.details(
        [
            ("Accepted", accepted),
            ("Segments", f"{outcome.segments:,}"),
            ("Cost", f"{cost}, held until delivered"),
            ("Rejected", Text(f"{outcome.rejected_count:,}", "red") if outcome.rejections else None),
        ]
    )
    if outcome.rejections:
        output.gap()
        rows = [
            (group.code, f"{len(group.lines):,}", _lines(group.lines), group.detail)
            for group in outcome.rejections
        ]
        output.table(["rejected because", ">rows", "lines", "~the first one"], rows)


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:LINES_SHOWN_MAX]))
    return f"{shown}, …" if len(lines) > LINES_SHOWN_MAX else shown


def print_books(output: Output, books: Books) -> None:
    """Show how the messages ended, what was taken for them, and whether that is right."""
    output.gap()
    rows = [
        (
            state_text(line.state), f"{line.count:,}", f"{line.segments:,}",
            money_text(line.captured.micros), money_text(line.released.micros),
        )
        for line in books.lines
    ]  # fmt: skip
    count, segments = (sum(getattr(line, name) for line in books.lines) for name in ("count", "segments"))
    currency = books.captured.currency
    footer = (
        "", f"{count:,}", f"{segments:,}",
        money_text(books.captured.micros), money_text(books.released.micros),
    )  # fmt: skip
    output.table(
        ["state", ">messages", ">segments", f">captured {currency}", f">released {currency}"],
        rows,
        footer=footer,
    )
    output.gap()
    for text, style in _verdicts(books):
        output.line(text, style)


def _verdicts(books: Books) -> Iterator[tuple[str, str]]:
    if books.open_count:
        verb, they = ("is", "it is") if books.open_count == 1 else ("are", "they are")
        waiting = count_text(books.open_count, "message")
        yield f"{waiting} {verb} not final yet; the books can be proved when {they}.", "yellow"
    elif not books.faults:
        yield f"✓ Captured {_money(books.captured)}: to the micro what {_owed(books)} cost.", "green"
        if books.balance_moved is not None:
            yield (
                f"✓ The balance moved by {_money(books.balance_moved)}, and nothing is left on hold.",
                "green",
            )
        else:
            yield f"· The balance is not compared: {_why_not(books)}.", "dim"
    for fault in books.faults[:FAULTS_SHOWN_MAX]:
        yield f"✗ {fault}", "bold red"
    if len(books.faults) > FAULTS_SHOWN_MAX:
        yield f"✗ and {len(books.faults) - FAULTS_SHOWN_MAX:,} more", "bold red"


def _money(money: Any) -> str:
    return money_text(money.micros, money.currency)


def _owed(books: Books) -> str:
    """What the captured sum consists of, in words."""
    parts = ["the delivered messages"]
    if books.by_plan.micros:
        parts.append(f"those that the plan charges without a delivery ({_money(books.by_plan)})")
    if books.late.micros:
        parts.append(f"those with a late receipt ({_money(books.late)})")
    return " and ".join(parts)


def _why_not(books: Books) -> str:
    if books.other_entries:
        return f"other traffic moved it too ({books.other_entries:,} entries of the journal)"
    if books.has_earlier:
        return "some of the messages were sent before this run began"
    return "it never stood still"


def books_document(books: Books) -> dict[str, Any]:
    """The books for programs; amounts as decimal strings."""
    moved = books.balance_moved
    return {
        "states": [
            {
                "state": line.state, "count": line.count, "segments": line.segments,
                "price": format_micros(line.price.micros), "captured": format_micros(line.captured.micros),
                "released": format_micros(line.released.micros),
            }
            for line in books.lines
        ],
        "currency": books.captured.currency,
        "captured": format_micros(books.captured.micros),
        "released": format_micros(books.released.micros),
        "delivered": format_micros(books.delivered.micros),
        "charged_by_plan": format_micros(books.by_plan.micros),
        "charged_late": format_micros(books.late.micros),
        "balance_moved": None if moved is None else format_micros(moved.micros),
        "other_entries": books.other_entries,
        "not_final": books.open_count,
        "is_right": books.is_right,
        "faults": books.faults,
    }  # fmt: skip
