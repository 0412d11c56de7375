"""The way of a day out of the database: closed, archived, retired, dropped. Oldest first (RULES 28).

The same way for the two parts of a day: its messages with all that belongs to them, and its journal.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

import msgspec
import structlog
from prometheus_client import Gauge

from ledger import retention_store as store
from ledger.archive import Archive, Manifest
from ledger.pace import Pace
from ledger.partition_removal import remove_all
from ledger.retention_settings import RetentionSettings
from ledger.retention_store import Day, Partition
from shared.runtime.postgres import Pool

# The tables of a part, in the order in which they go: what others are explained by goes last.
TABLES: Final = {
    "messages": (
        "tollwire.callbacks", "tollwire.callback_attempts", "tollwire.receipts", "tollwire.dead_letters",
        "tollwire.attempts", "tollwire.message_traces", "tollwire.message_texts", "tollwire.messages",
        "tollwire.message_states", "ledger.credit_locks",
    ),
    "entries": ("ledger.entries",),
}  # fmt: skip

# Younger days still fill; the server says so too.
CLOSABLE_DAYS: Final = 2

OVERDUE: Final = Gauge(
    "tollwire_retention_overdue_days", "Days past their time, by part and what is due", ["part", "due"]
)

_log = structlog.get_logger(__name__)


class Retirement:
    """Takes days of one part through it.

    Args:
        part: ``messages`` or ``entries``.
        archive: None: there is none, see ``settings`` whether one is wanted.
        archive_after_days: age at which a day is archived.
        drop_after_days: age at which it is dropped.
    """

    def __init__(
        self,
        pool: Pool,
        part: str,
        archive: Archive | None,
        settings: RetentionSettings,
        archive_after_days: int,
        drop_after_days: int,
    ) -> None:
        self._pool = pool
        self._part = part
        self._archive = archive
        self._is_archive_wanted = settings.archive_enabled
        self._archive_after_days = archive_after_days
        self._drop_after_days = drop_after_days

    async def show_overdue(self, _: Pace) -> None:
        """Show how many days are past their time, also where the run does not come to them."""
        unarchived = await self._unarchived() if self._is_archive_wanted else []
        OVERDUE.labels(self._part, "archive").set(len(unarchived))
        OVERDUE.labels(self._part, "drop").set(len(await self._days(self._drop_after_days)))

    async def inspect(self, pace: Pace) -> None:
        """Look through the days that are over, until each is closed or shows what keeps it open."""
        for day in await self._days(CLOSABLE_DAYS):
            if day.is_closed or day.is_retired:
                continue
            while (
                look := await store.inspect_day(self._pool, day.day)
            ).reason is None and not look.is_closed:
                if not await pace.go_on():
                    return
            if look.reason is not None:
                _log.debug("day open", day=day.day, reason=look.reason)

    async def archive(self, pace: Pace) -> None:
        """Write the days to the archive that are old enough and done with."""
        due = [
            day for day in await self._days(self._archive_after_days) if not (day.archived or day.is_retired)
        ]
        if self._archive is None:
            if due and self._is_archive_wanted:
                _log.warning("no archive folder is set, so no day is archived or dropped", days=len(due))
            return
        for number, day in enumerate(due):
            OVERDUE.labels(self._part, "archive").set(len(due) - number)
            reason = await store.blocker(self._pool, day.day, self._part)
            if reason is None:
                reason = await self._write(self._archive, day.day, pace)
            if reason is not None:
                _log.info("day not archived", part=self._part, day=day.day, reason=reason)
            if not await pace.go_on():
                return
        OVERDUE.labels(self._part, "archive").set(len(await self._unarchived()))

    async def retire(self, pace: Pace) -> None:
        """Drop the days that are old enough, in the archive, and that nothing needs any more."""
        due = await self._days(self._drop_after_days)
        for number, day in enumerate(due):
            OVERDUE.labels(self._part, "drop").set(len(due) - number)
            reason = None if day.is_retired else await self._declare(day, pace)
            if reason is not None:
                _log.warning("day kept", part=self._part, day=day.day, reason=reason)
                return
            if not await remove_all(self._pool, await self._partitions_of(day.day), pace):
                return
            _log.info("day dropped", part=self._part, day=day.day)
        OVERDUE.labels(self._part, "drop").set(0)

    async def _declare(self, day: Day, pace: Pace) -> str | None:
        """Declare a day retired once its archive has been looked at again; return why not."""
        if self._archive is not None and day.archived is not None:
            manifest = msgspec.convert(day.archived, Manifest)
            if not await self._archive.is_whole(manifest):
                _log.warning(
                    "the archive of a day is gone or damaged: written anew", part=self._part, day=day.day
                )
                reason = await self._write(self._archive, day.day, pace)
                if reason is not None:
                    return reason
        return await store.retire_day(
            self._pool,
            day.day,
            self._part,
            self._drop_after_days,
            unarchived=not self._is_archive_wanted,
        )

    async def _write(self, archive: Archive, day: date, pace: Pace) -> str | None:
        manifest = await archive.write(self._pool, self._part, day, pace.go_on_to_the_end)
        if manifest is None:
            return "the process stops"
        return await store.note_archive(self._pool, day, self._part, manifest.as_document())

    async def _unarchived(self) -> list[Day]:
        return [
            day for day in await self._days(self._archive_after_days) if not (day.archived or day.is_retired)
        ]

    async def _days(self, age_days: int) -> list[Day]:
        """The days that have a partition and are this old, oldest first."""
        last = (await store.now(self._pool)).date() - timedelta(days=age_days)
        days = {partition.day for partition in await self._partitions() if partition.day <= last}
        return await store.list_days(self._pool, sorted(days), self._part)

    async def _partitions(self) -> Iterable[Partition]:
        tables = TABLES[self._part]
        return [
            partition for partition in await store.list_partitions(self._pool) if partition.parent in tables
        ]

    async def _partitions_of(self, day: date) -> list[Partition]:
        of_day = [partition for partition in await self._partitions() if partition.day == day]
        return sorted(of_day, key=lambda partition: TABLES[self._part].index(partition.parent))
