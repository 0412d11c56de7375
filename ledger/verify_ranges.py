"""How a verification is cut into pieces: accounts by their entries, messages by their ids."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

from ledger.verify_books import Account
from ledger.verify_journal import Span
from shared.domain.ids import day_floor, uuid7_from
from shared.runtime.postgres import Connection

LAST: Final = 2**62
ID_LAST: Final = UUID(int=2**128 - 1)
DAY_MS: Final = 86_400_000
# Bytes of locks that one pass over messages joins: about a million of them.
BYTES_A_RANGE: Final = 100_000_000


def spans(accounts: Sequence[Account], entries_max: int, *, full: bool) -> Iterator[Span]:
    """Cut the accounts into spans of at most about ``entries_max`` entries, without a gap between them.

    Entries of what is no account fall into some span too, and are found there. Not ``full``: each account
    from its newest checkpoint on, one account a span.
    """
    low = -LAST
    size = 0
    for account in accounts:
        if not full or account.version > entries_max:
            yield from _versions(account, entries_max, full=full)
            if full:
                yield Span(low, account.id - 1)
                low, size = account.id + 1, 0
            continue
        if size + account.version > entries_max:
            yield Span(low, account.id - 1)
            low, size = account.id, 0
        size += account.version
    if full:
        yield Span(low, LAST)


def _versions(account: Account, entries_max: int, *, full: bool) -> Iterator[Span]:
    after = 0 if full else account.base_version
    while after < account.version:
        up_to = after + entries_max if after + entries_max < account.version else LAST
        yield Span(account.id, account.id, after, up_to)
        after = up_to


FIRST_KEPT: Final = """
select max(first) from (
    select i.inhparent, min(substring(c.relname from '[0-9]{8}$')) as first
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('ledger.credit_locks'::regclass, 'tollwire.messages'::regclass,
                          'tollwire.message_states'::regclass)
    group by i.inhparent) p
"""
FIRST_ENTRIES: Final = """
select min(substring(c.relname from '[0-9]{8}$'))
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.entries'::regclass
"""


async def first_kept_message(conn: Connection) -> UUID:
    """Return the smallest id of the days whose messages and locks are all still kept."""
    return day_floor(_day(await conn.fetchval(FIRST_KEPT)))


async def day_of_first_entries(conn: Connection) -> date:
    """Return the first day whose entries are still kept."""
    return _day(await conn.fetchval(FIRST_ENTRIES))


def _day(digits: str | None) -> date:
    if digits is None:
        return datetime.max.replace(tzinfo=UTC).date() - timedelta(days=1)
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


SIZES: Final = """
select substring(c.relname from '[0-9]{8}$'), pg_relation_size(c.oid)
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.credit_locks'::regclass
order by 1
"""


async def id_ranges(conn: Connection, first_message: UUID) -> list[tuple[UUID, UUID]]:
    """Cut the ids from ``first_message`` on into ranges [low, high) of about the same size."""
    sizes = ((_day(digits), size) for digits, size in await conn.fetch(SIZES))
    bounds = [first_message, *(b for b in _bounds(sizes) if b > first_message), ID_LAST]
    return list(pairwise(bounds))


def _bounds(sizes: Iterable[tuple[date, int]]) -> Iterator[UUID]:
    """Where to cut: between days once they are large together, and inside a day that is large alone."""
    gathered = 0
    for day, size in sizes:
        if gathered + size > BYTES_A_RANGE:
            first_ms = day_floor(day).int >> 80
            pieces = size // BYTES_A_RANGE + 1
            for piece in range(pieces):
                yield uuid7_from(first_ms + piece * DAY_MS // pieces, 0)
            gathered = size // pieces
        else:
            gathered += size
