"""How a verification is cut into pieces: entries by their days, messages by their ids."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Final
from uuid import UUID

from ledger.verify_books import Account
from ledger.verify_span import FIRST, LAST, Span
from shared.domain.ids import day_floor, uuid7_from
from shared.runtime.postgres import Connection

ID_LAST: Final = UUID(int=2**128 - 1)
DAY_MS: Final = 86_400_000
DAY: Final = timedelta(days=1)
# Bytes of locks that one pass over messages joins, some 200,000: what it hashes fits into a CPU's cache.
LOCK_BYTES_A_RANGE: Final = 20_000_000
# Bytes of entries that one pass sorts, about a million of them: they fit into the memory for a sort.
ENTRY_BYTES_A_SPAN: Final = 160_000_000
# So many pieces of less, so that each connection has its share; but a piece costs a little for each account.
PIECES_MIN: Final = 4
BYTES_MIN: Final = 4_000_000
# A day that is large alone is read once for each part of its accounts; beyond that its sorts use the disk.
PARTS_A_DAY_MAX: Final = 8

# A partition goes only under its parent's own lock, so the parents are enough.
KEEP_DAYS: Final = """
lock table only ledger.entries, only ledger.credit_locks, only tollwire.messages,
           only tollwire.message_states, only tollwire.attempts, only tollwire.dead_letters
in access share mode
"""


async def keep_days(conn: Connection) -> None:
    """Keep all days that are online until this transaction ends; to be called before it sees anything.

    Days leave no trace for those who began before: with one that goes between the snapshot and the first read
    of its tables, each message of it would look lost. Who takes a day off finds its tables in use.
    """
    await conn.execute(KEEP_DAYS)


FIRST_KEPT: Final = """
select max(substring(first from '[0-9]{8}$')) from (
    select i.inhparent, min(c.relname::text collate "C") as first
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('ledger.credit_locks'::regclass, 'tollwire.messages'::regclass,
                          'tollwire.message_states'::regclass, 'tollwire.attempts'::regclass,
                          'tollwire.dead_letters'::regclass)
    group by i.inhparent) p
"""


async def first_kept_message(conn: Connection) -> UUID:
    """Return the smallest id of the days of which everything that a proof of messages reads is kept."""
    return day_floor(_day(await conn.fetchval(FIRST_KEPT)))


def _day(digits: str | None) -> date:
    if digits is None:
        return datetime.max.replace(tzinfo=UTC).date() - timedelta(days=1)
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


UNSEALED: Final = """
select greatest(
    (select min(to_date(substring(c.relname from '[0-9]{8}$'), 'YYYYMMDD'))
     from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.entries'::regclass),
    (select max(day) + 1 from ledger.seals where not $1))
"""


async def first_entries_day(conn: Connection, *, full: bool) -> date:
    """Return the first day whose entries are kept; not ``full``: and that is not sealed."""
    day: date | None = await conn.fetchval(UNSEALED, full)
    return day or datetime.max.replace(tzinfo=UTC).date() - timedelta(days=1)


SIZES: Final = """
select substring(c.relname from '[0-9]{8}$'), pg_relation_size(c.oid)
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = $1::text::regclass
order by 1
"""


async def day_sizes(conn: Connection, table: str) -> list[tuple[date, int]]:
    """Return the bytes of each day of a table, oldest first."""
    return [(_day(digits), size) for digits, size in await conn.fetch(SIZES, table)]


def entry_spans(
    sizes: Sequence[tuple[date, int]], accounts: Sequence[Account], since: date
) -> Iterator[Span]:
    """Cut the entries from a day on into spans of at most some bytes, in the order of their days.

    Every account number is in some span, so entries of what is no account are found too.
    """
    days = [(day, size) for day, size in sizes if day >= since]
    limit = _limit(days, ENTRY_BYTES_A_SPAN)
    begins, gathered = since, 0
    for day, size in days:
        if gathered and gathered + size > limit:
            yield Span(begins, day)
            begins, gathered = day, 0
        gathered += size
        if size > limit:
            yield from _parts_of_day(day, min(-(-size // limit), PARTS_A_DAY_MAX), accounts)
            begins, gathered = day + DAY, 0
    if days and begins <= days[-1][0]:
        yield Span(begins, days[-1][0] + DAY)


def _limit(sizes: Iterable[tuple[date, int]], bytes_max: int) -> int:
    return min(bytes_max, max(BYTES_MIN, sum(size for _, size in sizes) // PIECES_MIN))


def _parts_of_day(day: date, parts: int, accounts: Sequence[Account]) -> Iterator[Span]:
    """Cut a day by accounts, by how many entries they have had in all."""
    sums = list(accumulate(account.version for account in accounts))
    wanted = (sums[-1] * part // parts for part in range(1, parts)) if sums else ()
    bounds = [FIRST]
    for share in wanted:
        account = accounts[next(place for place, total in enumerate(sums) if total >= share)].id
        if account > bounds[-1]:
            bounds.append(account)
    for low, high in pairwise([*bounds, LAST]):
        yield Span(day, day + DAY, low + 1, high)


def id_ranges(sizes: Sequence[tuple[date, int]], first_message: UUID) -> list[tuple[UUID, UUID]]:
    """Cut the ids from ``first_message`` on into ranges [low, high) of about the same bytes of locks."""
    bounds = [first_message, *(b for b in _bounds(sizes) if b > first_message), ID_LAST]
    return list(pairwise(bounds))


def _bounds(sizes: Sequence[tuple[date, int]]) -> Iterator[UUID]:
    """Where to cut: between days once they are large together, and inside a day that is large alone."""
    limit, gathered = _limit(sizes, LOCK_BYTES_A_RANGE), 0
    for day, size in sizes:
        if gathered + size > limit:
            first_ms = day_floor(day).int >> 80
            pieces = size // limit + 1
            for piece in range(pieces):
                yield uuid7_from(first_ms + piece * DAY_MS // pieces, 0)
            gathered = size // pieces
        else:
            gathered += size
