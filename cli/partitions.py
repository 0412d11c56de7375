"""`tollwire partitions`: the days that are online, how far each is on its way out, and what keeps it."""

from datetime import date, timedelta

import click
import msgspec

from cli.database_command import database_command
from cli.output import Output
from ledger import retention_store as store
from ledger.retention_store import Day
from ledger.retirement import CLOSABLE_DAYS
from shared.runtime.postgres import Pool

MEGABYTE = 1_000_000


class DayLine(msgspec.Struct, frozen=True, kw_only=True):
    """One day. ``kept_by`` is what still needs its rows; null: nothing but its age does."""

    day: date
    state: str
    tables: int
    bytes: int
    kept_by: str | None


@click.command()
@database_command
async def partitions(pool: Pool, output: Output) -> None:
    """Show the days of messages that are online.

    Each is open, closed, archived, or on its way out.
    """
    today = (await store.now(pool)).date()
    sizes = {day: (tables, size) for day, tables, size in await store.day_sizes(pool) if day <= today}
    days = await store.list_days(pool, sorted(sizes), "messages")
    lines = [await _line(pool, day, *sizes[day.day], today) for day in days]
    if output.as_json:
        output.document(lines)
        return
    output.table(
        ["day", "state", ">tables", ">MB", "kept by"],
        [
            [
                line.day.isoformat(),
                line.state,
                str(line.tables),
                f"{line.bytes / MEGABYTE:,.1f}",
                line.kept_by or "",
            ]
            for line in lines
        ],
    )


async def _line(pool: Pool, day: Day, tables: int, size: int, today: date) -> DayLine:
    state, kept_by = "open", None
    if day.is_retired:
        state = "going"
    elif day.archived is not None:
        state, kept_by = "archived", await store.blocker(pool, day.day, "messages")
    elif day.is_closed:
        state, kept_by = "closed", await store.blocker(pool, day.day, "messages")
    elif day.day <= today - timedelta(days=CLOSABLE_DAYS):
        # A look goes on where the last one ended, and says what it stands at.
        kept_by = (await store.inspect_day(pool, day.day)).reason
    return DayLine(day=day.day, state=state, tables=tables, bytes=size, kept_by=kept_by)
