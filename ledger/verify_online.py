"""Verification beside live traffic: small steps, each in a short snapshot of its own (RULES 27).

A step looks at some accounts, from their newest checkpoints on, and at some messages; steps go round for
ever. What only sums over everything can show is left to ``verify_database``.
"""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ledger import verify_books as books
from ledger import verify_journal as journal
from ledger import verify_messages as messages
from ledger.findings import Finding
from ledger.verify_books import Account
from ledger.verify_journal import Span
from ledger.verify_ranges import ID_LAST, LAST, first_kept_message
from shared.runtime.postgres import Connection, Pool

# A few tenths of a second of reading: below a second on a slow machine, and it takes no locks.
ENTRIES_A_STEP: Final = 20_000
ACCOUNTS_A_STEP: Final = 200
MESSAGES_A_STEP: Final = 10_000
FIRST_ID: Final = UUID(int=0)

NEXT_MESSAGE: Final = """
select message_id from ledger.credit_locks where message_id >= $1 order by message_id offset $2 limit 1
"""


@dataclass(slots=True)
class OnlineVerifier:
    """Where the round over accounts, and the one over messages, stand."""

    pool: Pool
    rounds: int = 0
    _account: int = 0
    _version: int = 0
    _message: UUID = field(default=FIRST_ID)

    async def step(self) -> list[Finding]:
        """Verify the next accounts and the next messages; return what is wrong with them."""
        async with self.pool.acquire() as conn:
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                findings = await self._some_accounts(conn)
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                return findings + await self._some_messages(conn)

    async def _some_accounts(self, conn: Connection) -> list[Finding]:
        accounts = await books.load_accounts(conn, self._account, ACCOUNTS_A_STEP)
        if not accounts:
            self._account = 0
            self.rounds += 1
        findings: list[Finding] = []
        left = ENTRIES_A_STEP
        for account in accounts:
            span = self._span(account, left)
            findings += books.check_account(account) + await _entries(conn, span)
            left -= min(span.up_to, account.version) - span.after
            if span.up_to < account.version:
                self._version = span.up_to
                break
            self._account, self._version = account.id, 0
            if left <= 0:
                break
        return findings

    def _span(self, account: Account, entries_max: int) -> Span:
        """The account's entries from where the last step left off, or from its newest checkpoint."""
        after = max(account.base_version, self._version)
        up_to = after + entries_max
        return Span(account.id, account.id, after, up_to if up_to < account.version else LAST)

    async def _some_messages(self, conn: Connection) -> list[Finding]:
        low = max(self._message, await first_kept_message(conn))
        high = await conn.fetchval(NEXT_MESSAGE, low, MESSAGES_A_STEP) or ID_LAST
        _, findings = await messages.fold_messages(conn, low, high, 0)
        self._message = FIRST_ID if high == ID_LAST else high
        return findings + await messages.find_holds(conn, low, high)


async def _entries(conn: Connection, span: Span) -> list[Finding]:
    """Verify one account's entries in a span against each other and against their messages' locks."""
    first_message = await first_kept_message(conn)
    _, findings = await journal.fold_entries(conn, span, first_message, 0)
    return findings + await journal.compare_entries(
        conn, [span.low], first_message, after=span.after, up_to=span.up_to
    )
