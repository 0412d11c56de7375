"""Proves the books: every entry, lock, message and seal against each other (DESIGN 4, RULES 27).

``verify_database`` reads everything in one snapshot, over a few connections at once: for tests, for
``tollwire ledger verify``, for a replica or a restored copy. ledger/verify_online.py has the small steps that
the ledger process takes beside live traffic.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, Final
from uuid import UUID

from ledger import verify_books as books
from ledger import verify_entries as entries
from ledger import verify_journal as journal
from ledger import verify_marks as marks
from ledger import verify_messages as messages
from ledger import verify_operations as operations
from ledger.checkpoints import SignedSeal, Signer, load_seals
from ledger.findings import Finding
from ledger.verify_books import Account
from ledger.verify_chain import Chains
from ledger.verify_journal import Pass
from ledger.verify_messages import Locks
from ledger.verify_ranges import (
    day_sizes,
    entry_spans,
    first_entries_day,
    first_kept_message,
    id_ranges,
    keep_days,
)
from ledger.verify_seals import check_seal, compare_exported
from ledger.verify_span import Span
from shared.runtime.postgres import Connection
from shared.runtime.postgres_hosts import connect

__all__ = ["CONNECTIONS", "Finding", "Progress", "open_snapshot", "verify_database", "verify_snapshot"]

# Below it a second connection costs more than it saves.
ENTRIES_FOR_TWO: Final = 50_000
CONNECTIONS: Final = 2
# The proof takes minutes; a server that is busy is waited for.
CONNECT_SECONDS: Final = 60.0
# A PgBouncer refuses what a connection asks for as it begins. So the transaction asks, before it sees
# anything: that no limit of the role's ends it, and for 256 MB in memory for a sort or hash of one span.
OWN_SETTINGS: Final = """
set local transaction_timeout = 0;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
set local work_mem = '256MB';
set local jit = off
"""

Work = Callable[[Connection], Coroutine[Any, Any, None]]
# Told how many of how many pieces of work are done.
Progress = Callable[[int, int], None]


def _untold(_done: int, _all: int) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class _Books:
    """What the pieces of one verification have gathered."""

    accounts: list[Account]
    since: date
    first_message: UUID
    key: int = field(default_factory=lambda: secrets.randbits(marks.KEY_BITS))
    chains: Chains = field(init=False)
    # Of all accounts, if they have one.
    currency: str | None = field(init=False)
    locks: Locks = field(default_factory=Locks)
    findings: list[Finding] = field(default_factory=list)
    early: dict[int, list[Pass]] = field(default_factory=dict)
    joined: int = 0

    def __post_init__(self) -> None:
        self.chains = Chains({account.id: account.base for account in self.accounts})
        currencies = {account.currency for account in self.accounts}
        self.currency = currencies.pop() if len(currencies) == 1 else None

    async def fold_entries(self, place: int, span: Span, conn: Connection) -> None:
        # In the order of the pages: by the key each would be visited for every account on it.
        await conn.execute("set local enable_indexscan = off")
        self.early[place] = await journal.fold_entries(conn, span, self.first_message, self.key)
        await conn.execute("set local enable_indexscan = on")
        # Passes end in any order; an account's chain is followed in that of the days.
        while (passes := self.early.pop(self.joined, None)) is not None:
            self.findings += self.chains.join(passes)
            self.joined += 1

    async def check_seal(
        self, signed: SignedSeal, full: bool, signer: Signer | None, conn: Connection
    ) -> None:
        self.findings += await check_seal(conn, signed, full=full, signer=signer)

    async def fold_messages(self, low: UUID, high: UUID, conn: Connection) -> None:
        self.findings += await messages.fold_messages(conn, low, high, self.key, self.locks, self.currency)


async def verify_database(
    dsn: str,
    *,
    full: bool = True,
    signer: Signer | None = None,
    exported: Mapping[date, SignedSeal] | None = None,
    connections: int = CONNECTIONS,
    progress: Progress = _untold,
) -> list[Finding]:
    """Return everything that is wrong with the books; nothing when they are whole.

    ``full=False`` believes the sealed days: it checks their seals, and entries only of the days after, each
    account's from its newest checkpoint on. Without a ``signer`` a seal's sums and root are checked, but not
    its signature. ``exported`` are seals as they were written to files, which the database's must equal.
    One of ``connections`` keeps a CPU busy; beside live traffic it is one.

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer; nothing is known.
    """
    async with AsyncExitStack() as stack:
        conn = await stack.enter_async_context(open_snapshot(dsn))

        async def open_another() -> Connection:
            name = await conn.fetchval("select pg_export_snapshot()")
            return await stack.enter_async_context(open_snapshot(dsn, name))

        findings = await verify_snapshot(
            conn,
            full=full,
            signer=signer,
            open_others=[open_another] * (connections - 1),
            progress=progress,
        )
        if exported is not None:
            findings += compare_exported(await load_seals(conn), exported, signer)
        return findings


async def verify_snapshot(
    conn: Connection,
    *,
    full: bool = True,
    signer: Signer | None = None,
    open_others: Sequence[Callable[[], Awaitable[Connection]]] = (),
    progress: Progress = _untold,
) -> list[Finding]:
    """Verify what this connection's open transaction sees; ``open_others`` open more that see the same.

    If it has seen nothing yet, no day that it sees is dropped before it ends.
    """
    await keep_days(conn)
    since = await first_entries_day(conn, full=full)
    found = _Books(await books.load_accounts(conn, since), since, await first_kept_message(conn))
    work = deque[Work]()
    spans = entry_spans(await day_sizes(conn, "ledger.entries"), found.accounts, since)
    work.extend(partial(found.fold_entries, place, span) for place, span in enumerate(spans))
    ranges = id_ranges(await day_sizes(conn, "ledger.credit_locks"), found.first_message)
    work.extend(partial(found.fold_messages, low, high) for low, high in ranges)
    for signed in await load_seals(conn):
        work.append(partial(found.check_seal, signed, full, signer))
    connections = [conn]
    if sum(account.version for account in found.accounts) > ENTRIES_FOR_TWO:
        connections += [await open_another() for open_another in open_others]
    pieces = len(work)
    await asyncio.gather(*(_work_off(work, each, pieces, progress) for each in connections))
    return await _conclude(conn, found, full=full)


async def _work_off(work: deque[Work], conn: Connection, pieces: int, progress: Progress) -> None:
    while work:
        await work.popleft()(conn)
        progress(pieces - len(work), pieces)


async def _conclude(conn: Connection, found: _Books, *, full: bool) -> list[Finding]:
    findings, folds = found.findings, found.chains.folds
    for account in found.accounts:
        findings += books.check_account(account)
        findings += books.check_entries(account, folds.get(account.id))
        findings += books.check_locks(account, found.locks)
    findings += await _look_closer(conn, found, full=full)
    findings += books.check_currencies(found.accounts, folds)
    findings += await operations.check_limits(conn)
    findings += await books.check_guards(conn)
    return findings


async def _look_closer(conn: Connection, found: _Books, *, full: bool) -> list[Finding]:
    """Name what is wrong with the accounts whose sums or marks say that something is."""
    folds, findings = found.chains.folds, list[Finding]()
    if misshapen := [fold.account_id for fold in folds.values() if fold.is_misshapen]:
        findings += await entries.find_misshapen(conn, misshapen, Span(found.since))
    asked = await operations.operation_marks(conn, found.since, found.key)
    booked = {id_: fold.operation_mark for id_, fold in folds.items()}
    if suspects := marks.differing(asked, booked):
        findings += await entries.compare_operations(conn, suspects, Span(found.since))
    booked = {id_: fold.mark for id_, fold in folds.items()}
    if full and (buckets := marks.differing(marks.by_bucket(booked), found.locks.marks)):
        findings += await _compare_locks(conn, found, booked, buckets)
    return findings


async def _compare_locks(
    conn: Connection, found: _Books, booked: Mapping[int, int], buckets: Sequence[int]
) -> list[Finding]:
    locked = await messages.account_marks(conn, buckets, found.first_message, found.key)
    suspects = marks.differing(marks.of_buckets(booked, buckets), locked)
    strangers = locked.keys() - {account.id for account in found.accounts}
    findings = [Finding("lock_without_account", "the locks belong to no client", id_) for id_ in strangers]
    findings += await entries.compare_entries(conn, suspects, Span(found.since), found.first_message)
    return findings + await messages.compare_locks(conn, suspects, found.first_message)


@asynccontextmanager
async def open_snapshot(
    dsn: str, name: str | None = None, *, answer_seconds: float | None = None
) -> AsyncIterator[Connection]:
    """A connection that reads one snapshot, its own or the one of this name, as long as it takes.

    ``answer_seconds``: how long it waits for an answer, as none comes of a host that fell silent.
    """
    conn = await connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=answer_seconds,
        server_settings={"application_name": "tollwire-verify"},
    )
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            await conn.execute(OWN_SETTINGS)
            if name is not None:
                await conn.execute("set transaction snapshot '" + name + "'")
            yield conn
    finally:
        await conn.close(timeout=answer_seconds)
