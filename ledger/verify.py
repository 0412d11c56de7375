"""Proves the books: every entry, lock, message and seal against each other (DESIGN 4, RULES 27).

``verify_database`` reads everything in one snapshot, over a few connections at once: for tests, for
``tollwire ledger verify``, for a replica or a restored copy. ledger/verify_online.py has the small steps that
the ledger process takes beside live traffic.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger import verify_books as books
from ledger import verify_journal as journal
from ledger import verify_messages as messages
from ledger.checkpoints import Signer, check_seals
from ledger.findings import Finding
from ledger.verify_books import Account
from ledger.verify_journal import Fold, Span
from ledger.verify_messages import Locks
from ledger.verify_ranges import day_of_first_entries, first_kept_message, id_ranges, spans
from shared.runtime.postgres import Connection

__all__ = ["Finding", "verify_database", "verify_snapshot"]

# What one connection looks at before another may take the next: a second or two, within work_mem.
ENTRIES_A_SPAN: Final = 250_000
# Below it a second connection costs more than it saves.
ENTRIES_FOR_TWO: Final = 50_000
CONNECTIONS: Final = 2
# A sort or hash of one span in memory.
WORK_MEM: Final = "256MB"
# The key of the marks: any number of 48 bits, so that a version can be added to it.
KEY_BITS: Final = 48

Work = Callable[[Connection], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Books:
    """What the steps of one verification have gathered."""

    accounts: list[Account]
    first_message: UUID
    key: int = field(default_factory=lambda: secrets.randbits(KEY_BITS))
    folds: dict[int, Fold] = field(default_factory=dict)
    locks: dict[int, Locks] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    async def fold_entries(self, span: Span, conn: Connection) -> None:
        folds, findings = await journal.fold_entries(conn, span, self.first_message, self.key)
        for fold in folds:
            known = self.folds.get(fold.account_id)
            self.folds[fold.account_id] = journal.added(known, fold) if known else fold
        self.findings += findings

    async def fold_messages(self, low: UUID, high: UUID, conn: Connection) -> None:
        locks, findings = await messages.fold_messages(conn, low, high, self.key)
        for lock in locks:
            known = self.locks.get(lock.account_id)
            self.locks[lock.account_id] = messages.added(known, lock) if known else lock
        self.findings += findings


async def verify_database(dsn: str, *, full: bool = True, signer: Signer | None = None) -> list[Finding]:
    """Return everything that is wrong with the books; nothing when they are whole.

    ``full=False`` believes the sealed days: it checks their seals, and entries only from each account's
    newest checkpoint on. Without a ``signer`` a seal's sums and root are checked, but not its signature.

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer; nothing is known.
    """
    async with AsyncExitStack() as stack:
        conn = await stack.enter_async_context(_snapshot(dsn))

        async def open_another() -> Connection:
            name = await conn.fetchval("select pg_export_snapshot()")
            return await stack.enter_async_context(_snapshot(dsn, name))

        return await verify_snapshot(conn, full=full, signer=signer, open_another=open_another)


async def verify_snapshot(
    conn: Connection,
    *,
    full: bool = True,
    signer: Signer | None = None,
    open_another: Callable[[], Awaitable[Connection]] | None = None,
) -> list[Finding]:
    """Verify what this connection's open transaction sees; ``open_another`` gives one that sees the same."""
    accounts = await books.load_accounts(conn)
    found = _Books(accounts, await first_kept_message(conn))
    work = deque[Work]()
    for span in spans(accounts, ENTRIES_A_SPAN, full=full):
        work.append(partial(found.fold_entries, span))
    for low, high in await id_ranges(conn, found.first_message):
        work.append(partial(found.fold_messages, low, high))
    connections = [conn]
    if open_another is not None and sum(account.version for account in accounts) > ENTRIES_FOR_TWO:
        connections += [await open_another() for _ in range(CONNECTIONS - 1)]
    await asyncio.gather(*(_work_off(work, each) for each in connections))
    return await _conclude(conn, found, full=full, signer=signer)


async def _work_off(work: deque[Work], conn: Connection) -> None:
    while work:
        await work.popleft()(conn)


async def _conclude(conn: Connection, found: _Books, *, full: bool, signer: Signer | None) -> list[Finding]:
    findings = found.findings
    suspects = []
    for account in found.accounts:
        findings += books.check_account(account)
        fold, locks = found.folds.get(account.id), found.locks.get(account.id)
        findings += books.check_account_sums(account, fold, locks, full=full)
        if full and books.marks_differ(fold, locks):
            suspects.append(account.id)
    if suspects:
        findings += await journal.compare_entries(conn, suspects, found.first_message)
        findings += await messages.compare_locks(conn, suspects, found.first_message)
    strangers = found.locks.keys() - {account.id for account in found.accounts}
    findings += [Finding("lock_without_account", "the locks belong to no client", id_) for id_ in strangers]
    if full:
        findings += books.check_currencies(found.accounts, found.folds)
    findings += await books.check_operations(conn, await day_of_first_entries(conn))
    findings += await books.check_guards(conn)
    return findings + await check_seals(conn, full=full, signer=signer)


@asynccontextmanager
async def _snapshot(dsn: str, name: str | None = None) -> AsyncIterator[Connection]:
    """A connection that reads one snapshot, its own or the one of this name, as long as it takes."""
    settings = {"application_name": "tollwire-verify", "jit": "off", "work_mem": WORK_MEM}
    unlimited = {"statement_timeout": "0", "transaction_timeout": "0"}
    conn = await asyncpg.connect(dsn, server_settings=settings | unlimited)
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            if name is not None:
                await conn.execute("set transaction snapshot '" + name + "'")
            yield conn
    finally:
        await conn.close()
