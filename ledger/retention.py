"""The upkeep of what grows: texts expire, days are closed, archived, retired and dropped (RULES 11, 28, 29).

One process at a time does it, in small steps with rests between them, for a few minutes at most; what is
left waits for the next run. Every step asks the server, which looks for itself whether it may be done.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
import structlog
from prometheus_client import Counter

from ledger import retention_store as store
from ledger.archive import Archive
from ledger.pace import Pace, never
from ledger.partition_removal import remove_all
from ledger.retention_settings import RetentionSettings
from ledger.retirement import Retirement
from shared.runtime.loops import Stop, every
from shared.runtime.postgres import Pool

UPKEEP: Final = "retention"
INTERVAL_SECONDS: Final = 600.0
RUN_SECONDS: Final = 300.0
# A key is answered for 72 h; another slot of 12 h is the margin, and the server insists on it.
SLOTS_KEPT: Final = timedelta(hours=84)

TEXTS: Final = Counter("tollwire_texts_expired_total", "Texts deleted: row by row, or a day at once", ["how"])
FORGOTTEN: Final = Counter(
    "tollwire_forgotten_total", "Callbacks and receipts that were ended since nobody could any more", ["kind"]
)

_log = structlog.get_logger(__name__)


class Retention:
    """The ledger process's retention. ``run`` is its loop, ``run_once`` one turn of it."""

    def __init__(self, pool: Pool, settings: RetentionSettings) -> None:
        self._pool = pool
        self._settings = settings
        archive = Archive(Path(settings.archive_folder)) if settings.archive_folder else None
        archive = archive if settings.archive_enabled else None
        self._messages = Retirement(
            pool, "messages", archive, settings, settings.archive_after_days, settings.drop_after_days
        )
        self._entries = Retirement(
            pool, "entries", archive, settings, settings.entries_days, settings.entries_days
        )

    async def run(self, stop: Stop) -> None:
        """Run now and every 10 minutes until the stop, which ends a run after the step it is at."""

        async def once() -> None:
            await self.run_once(lambda: stop.requested)

        await every(stop, INTERVAL_SECONDS, once, name="retention")

    async def run_once(self, should_stop: Callable[[], bool] = never) -> None:
        """Do what is due, as far as the time reaches; nothing while another process is at it.

        Raises:
            ExceptionGroup: some steps failed; the others were done.
        """
        pace = Pace(self._pool, UPKEEP, RUN_SECONDS, should_stop)
        if not await pace.begin():
            return
        faults: list[Exception] = []
        try:
            for step in self._steps():
                try:
                    await step(pace)
                except Exception as error:  # noqa: BLE001 - a full disk must not keep texts; raised below
                    faults.append(error)
                if not await pace.go_on():
                    break
        finally:
            await pace.end()
        if faults:
            raise ExceptionGroup("steps of the retention failed", faults)

    def _steps(self) -> Sequence[Callable[[Pace], Awaitable[None]]]:
        return (
            self._messages.show_overdue,
            self._entries.show_overdue,
            self.expire_texts,
            self.end_forgotten,
            self.drop_aged,
            self._messages.inspect,
            self._messages.archive,
            self._messages.retire,
            self._entries.archive,
            self._entries.retire,
        )

    async def expire_texts(self, pace: Pace) -> None:
        """Delete the texts whose time is over, oldest day first."""
        for partition in await store.list_partitions(self._pool):
            if partition.parent != "tollwire.message_texts" or not partition.is_attached:
                continue
            try:
                emptied = await store.empty_texts(self._pool, partition.day)
            except asyncpg.LockNotAvailableError:
                emptied = None  # somebody reads them; the next run tries again
            if emptied is not None:
                TEXTS.labels("day").inc(emptied)
                _log.info("texts of a day deleted", day=partition.day, count=emptied)
            elif not await self._walk_texts(partition, pace):
                return

    async def _walk_texts(self, partition: store.Partition, pace: Pace) -> bool:
        """Walk a day's texts to their end; False when the time did not reach."""
        while True:
            deleted, is_done = await store.expire_texts(self._pool, partition.day)
            if deleted:
                TEXTS.labels("row").inc(deleted)
                _log.info("texts deleted", day=partition.day, count=deleted)
            if is_done:
                return True
            if not await pace.go_on():
                return False

    async def end_forgotten(self, pace: Pace) -> None:
        """End callbacks and receipts that nobody looks after any more: they would keep a day for ever."""
        while True:
            callbacks, receipts = await store.end_forgotten(self._pool)
            FORGOTTEN.labels("callback").inc(callbacks)
            FORGOTTEN.labels("receipt").inc(receipts)
            if callbacks or receipts:
                _log.warning("ended what nobody looked after", callbacks=callbacks, receipts=receipts)
            if max(callbacks, receipts) < store.FORGOTTEN_ROWS or not await pace.go_on():
                return

    async def drop_aged(self, pace: Pace) -> None:
        """Drop what goes by its age alone: idempotency keys, carriers' references."""
        now = await store.now(self._pool)
        partitions = await store.list_partitions(self._pool)
        keep = {"slot": SLOTS_KEPT, "time": timedelta(days=self._settings.references_days)}
        for cut, age in keep.items():
            aged = [part for part in partitions if part.cut == cut and part.ends_at + age <= now]
            await remove_all(self._pool, aged, pace)
