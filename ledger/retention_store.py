"""SQL of the retention: what there is, and the functions that look and act (ledger/functions/ret*_v1.sql)."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.runtime.postgres import Pool, call

CALL_DEADLINE_SECONDS: Final = 20.0
# Messages and holds a look takes in: about 0.1 s.
INSPECT_ROWS: Final = 50_000
# Texts a walk takes in: about 0.2 s when all of them expire.
TEXT_ROWS: Final = 10_000
FORGOTTEN_ROWS: Final = 5_000


class Partition(NamedTuple):
    """A partition, or what is left of one that was detached."""

    parent: str
    name: str
    cut: str
    day: date
    is_attached: bool

    @property
    def ends_at(self) -> datetime:
        """When the last row that belongs here could be written: the end of the day, or of its half."""
        start = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return start + timedelta(hours=12 if self.cut == "slot" and self.name.endswith("a") else 24)


class Day(NamedTuple):
    """A day of messages that is online, and how far it has come."""

    day: date
    is_closed: bool
    archived: dict[str, Any] | None
    is_retired: bool


class Look(NamedTuple):
    """What one look at a day gave: closed, or the reason why not (None: there is more to look at)."""

    is_closed: bool
    seen: int
    reason: str | None


NOW = "select clock_timestamp()"


async def now(pool: Pool) -> datetime:
    """Return the time by the database's clock, in UTC."""
    rows = await call(pool, NOW, deadline_seconds=CALL_DEADLINE_SECONDS)
    moment: datetime = rows[0][0]
    return moment.astimezone(UTC)


TAKE_UPKEEP = "select tollwire.take_upkeep_v1($1, $2, $3)"


async def take_upkeep(
    pool: Pool, name: str, holder: UUID, seconds: int, deadline_seconds: float = CALL_DEADLINE_SECONDS
) -> bool:
    """Take or renew the lease on an upkeep; False when another process has it. 0 seconds give it back."""
    rows = await call(pool, TAKE_UPKEEP, name, holder, seconds, deadline_seconds=deadline_seconds)
    return bool(rows[0][0])


LIST_PARTITIONS = """
    select r.parent, c.relname::text, r.cut,
           to_date(substring(c.relname, '[0-9]{8}'), 'YYYYMMDD'), c.relispartition
    from tollwire.partition_rules r
    join pg_catalog.pg_class c
        on c.relkind = 'r' and c.relname ~ ('^' || split_part(r.parent, '.', 2) || '_[0-9]{8}[ab]?$')
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = split_part(r.parent, '.', 1)
    order by 4, 1, 2
"""


async def list_partitions(pool: Pool) -> list[Partition]:
    """Return every partition and every detached one that was not dropped yet, oldest first."""
    rows = await call(pool, LIST_PARTITIONS, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [Partition(*row) for row in rows]


LIST_DAYS = """
    select x.day, i.closed_at is not null, a.manifest, r.day is not null
    from unnest($1::date[]) x(day)
    left join tollwire.day_inspections i on i.day = x.day
    left join tollwire.archived_days a on a.day = x.day and a.part = $2
    left join tollwire.retired_days r on r.day = x.day and ($2 = 'messages' or r.entries_at is not null)
    order by x.day
"""


async def list_days(pool: Pool, days: list[date], part: str) -> list[Day]:
    """Return how far each of these days has come, oldest first. ``part`` is ``messages`` or ``entries``."""
    rows = await call(pool, LIST_DAYS, days, part, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [Day(*row) for row in rows]


INSPECT_DAY = "select o_closed, o_seen, o_reason from tollwire.inspect_day_v1($1, $2)"


async def inspect_day(pool: Pool, day: date) -> Look:
    """Look at the next rows of a day, and close it when all of it has ended."""
    rows = await call(pool, INSPECT_DAY, day, INSPECT_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS)
    return Look(*rows[0])


END_FORGOTTEN = "select o_callbacks, o_receipts from tollwire.end_forgotten_v1($1)"


async def end_forgotten(pool: Pool) -> tuple[int, int]:
    """End callbacks and receipts that nobody looks after any more; return how many of each."""
    rows = await call(pool, END_FORGOTTEN, FORGOTTEN_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS)
    return int(rows[0][0]), int(rows[0][1])


EXPIRE_TEXTS = "select o_seen, o_deleted, o_done from tollwire.expire_texts_v1($1, $2)"


async def expire_texts(pool: Pool, day: date) -> tuple[int, bool]:
    """Delete the expired among the next texts of a day; return how many, and whether that was all."""
    rows = await call(pool, EXPIRE_TEXTS, day, TEXT_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS)
    return int(rows[0][1]), bool(rows[0][2])


EMPTY_TEXTS = "select tollwire.empty_texts_v1($1)"


async def empty_texts(pool: Pool, day: date) -> int | None:
    """Empty a day's texts when none is to be kept; return how many, None when it is not time.

    Raises:
        asyncpg.LockNotAvailableError: somebody read them for longer than 50 ms.
    """
    found = await pool.fetchval(EMPTY_TEXTS, day)
    return None if found is None else int(found)


BLOCKERS = {
    "messages": "select tollwire.day_blocker_v1($1)",
    "entries": "select tollwire.entries_blocker_v1($1)",
}


async def blocker(pool: Pool, day: date, part: str) -> str | None:
    """Return what still needs a day's rows; None: nothing does."""
    return await _reason(pool, BLOCKERS[part], day)


NOTE_ARCHIVE = "select tollwire.note_archive_v1($1, $2, $3)"


async def note_archive(pool: Pool, day: date, part: str, manifest: dict[str, Any]) -> str | None:
    """Note that a day is in the archive; return why that is not believed (None: noted)."""
    return await _reason(pool, NOTE_ARCHIVE, day, part, manifest)


RETIRE_DAY = "select tollwire.retire_day_v1($1, $2, $3, $4)"


async def retire_day(pool: Pool, day: date, part: str, keep_days: int, *, unarchived: bool) -> str | None:
    """Declare a day retired; return why it may not be (None: it is)."""
    return await _reason(pool, RETIRE_DAY, day, part, keep_days, unarchived)


DETACH = "select tollwire.detach_partition_v1($1, $2)"
DROP = "select tollwire.drop_partition_v1($1, $2)"


async def detach(pool: Pool, partition: Partition) -> str | None:
    """Take a partition off its table; return why it may not go (None: it is off).

    Raises:
        asyncpg.LockNotAvailableError: the table was in use for 50 ms; try again later.
    """
    return _text(await pool.fetchval(DETACH, partition.parent, partition.name))


async def drop(pool: Pool, partition: Partition) -> str | None:
    """Drop a detached partition; the same answers and errors as ``detach``."""
    return _text(await pool.fetchval(DROP, partition.parent, partition.name))


async def _reason(pool: Pool, sql: str, *args: object) -> str | None:
    rows = await call(pool, sql, *args, deadline_seconds=CALL_DEADLINE_SECONDS)
    return _text(rows[0][0])


def _text(value: object) -> str | None:
    return None if value is None else str(value)


DAY_SIZES = """
    select to_date(substring(c.relname, '[0-9]{8}'), 'YYYYMMDD') as day, count(*)::integer,
           sum(pg_catalog.pg_total_relation_size(c.oid))::bigint
    from tollwire.partition_rules r
    join pg_catalog.pg_inherits i on i.inhparent = r.parent::regclass
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where r.cut = 'uuid' group by 1 order by 1
"""


async def day_sizes(pool: Pool) -> list[tuple[date, int, int]]:
    """Return for each day of messages how many tables it has online, and their bytes with indexes."""
    rows = await call(pool, DAY_SIZES, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [(row[0], row[1], row[2]) for row in rows]
