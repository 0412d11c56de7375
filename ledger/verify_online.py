"""Verification beside live traffic: small steps, each in a short snapshot of its own (RULES 27).

A step looks at some accounts, from their newest checkpoints on, and at some messages; steps go round for
ever. What only sums over everything can show is left to ``verify_database``. What is proved before a day is
sealed goes round once in the same bites (ledger/verify_unsealed.py).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import accumulate, pairwise
from typing import Final, NamedTuple
from uuid import UUID

from ledger import verify_books as books
from ledger import verify_entries as entries
from ledger import verify_journal as journal
from ledger import verify_messages as messages
from ledger import verify_operations as operations
from ledger.findings import Finding
from ledger.tally import Tally
from ledger.verify_books import Account
from ledger.verify_chain import Chains, State
from ledger.verify_messages import Locks
from ledger.verify_ranges import ID_LAST, first_entries_day, first_kept_message, keep_days
from ledger.verify_span import FIRST, LAST, Span
from shared.domain.ids import day_floor
from shared.runtime.postgres import Connection, Pool

# A step is taken in bites of some 10 ms with rests between them, so that no request waits for a step: of two
# CPUs one would be away for a tenth of a second. It locks nothing but the days, against being dropped.
BITES_A_STEP: Final = 10
ENTRIES_A_BITE: Final = 2_000
ACCOUNTS_A_BITE: Final = 200
MESSAGES_A_BITE: Final = 1_000
# How long a rest is, by the work before it; and when the work was slow, for it is not alone.
REST_TIMES: Final = 4.0
REST_MAX_SECONDS: Final = 1.0
FIRST_ID: Final = UUID(int=0)

NEXT_MESSAGE: Final = """
select message_id from ledger.credit_locks where message_id >= $1 order by message_id offset $2 limit 1
"""


class _Place(NamedTuple):
    """The last account that was seen, and where a bite left the next one, of which it had not read all."""

    account: int = 0
    state: State | None = None


START: Final = _Place()


@dataclass(slots=True)
class OnlineVerifier:
    """Where the round over accounts, and the one over messages, stand."""

    pool: Pool
    rounds: int = 0
    """Over the accounts."""
    message_rounds: int = 0
    worked_seconds: float = 0.0
    """Of all steps, without the rests between their bites."""
    is_of_unsealed: bool = False
    """Only messages of the days that are not sealed, and those that entries of these days are about."""
    of_accounts: Tally = field(default_factory=Tally)
    of_messages: Tally = field(default_factory=Tally)
    _place: _Place = START
    _message: UUID = field(default=FIRST_ID)
    # What the bites of a step have found; told by the next one where a later bite of it raised.
    _found: list[Finding] = field(default_factory=list)

    async def step(self) -> list[Finding]:
        """Verify the next accounts and the next messages; return what is wrong with them.

        Ends with the round over the accounts, if that comes first.
        """
        rounds = self.rounds
        for _ in range(BITES_A_STEP):
            began = time.monotonic()
            self._found += await self.some_accounts()
            self._found += await self.some_messages()
            worked_seconds = time.monotonic() - began
            self.worked_seconds += worked_seconds
            if self.rounds != rounds:
                break
            await asyncio.sleep(min(worked_seconds * REST_TIMES, REST_MAX_SECONDS))
        found, self._found = self._found, []
        return found

    async def some_accounts(self) -> list[Finding]:
        """Verify the next bite of accounts; ``rounds`` says when all were seen.

        Nothing counts as seen before its transaction has ended: what raises is to be taken again.
        """
        async with self.pool.acquire() as conn, _snapshot(conn):
            findings, place = await self._some_accounts(conn)
        self._place = place
        self.of_accounts.add(len(findings))
        if place == START:
            self.rounds += 1
            self.of_accounts.end()
        return findings

    async def some_messages(self) -> list[Finding]:
        """The same of messages; ``message_rounds`` says when all were seen."""
        async with self.pool.acquire() as conn, _snapshot(conn):
            findings, high = await self._some_messages(conn)
        self._message = FIRST_ID if high == ID_LAST else high
        self.of_messages.add(len(findings))
        if high == ID_LAST:
            self.message_rounds += 1
            self.of_messages.end()
        return findings

    async def _some_accounts(self, conn: Connection) -> tuple[list[Finding], _Place]:
        since = await first_entries_day(conn, full=False)
        accounts = await books.load_accounts(conn, since, self._place.account, ACCOUNTS_A_BITE)
        whole = _that_fit(accounts)
        findings = await self._strangers(conn, [account.id for account in whole or accounts[:1]], since)
        if not accounts:
            return findings, START
        if not whole:
            found, place = await self._some_entries(conn, accounts[0], since)
            return findings + found, place
        findings += (await self._verify(conn, whole, since))[0]
        return findings, _Place(whole[-1].id)

    async def _strangers(self, conn: Connection, ids: Sequence[int], since: date) -> list[Finding]:
        """Look between these accounts and those before for entries of what is no client's account."""
        bounds = pairwise([self._place.account or FIRST, *ids, *(() if ids else (LAST,))])
        gaps = [(low + 1, high - 1) for low, high in bounds if high > low + 1]
        if not gaps:
            return []
        return await entries.find_strangers(conn, gaps, Span(since, await _day_after_next(conn)))

    async def _some_entries(
        self, conn: Connection, account: Account, since: date
    ) -> tuple[list[Finding], _Place]:
        """Verify the next entries of an account that has many; a checkpoint may have come past meanwhile."""
        after, state = 0, self._place.state
        if state is not None and state.version > account.base.version:
            account, after = replace(account, base=state), state.version
        up_to = account.base.version + ENTRIES_A_BITE
        versions = (after, up_to if up_to < account.version else LAST)
        findings, last = await self._verify(conn, [account], since, versions)
        return findings, _Place(account.id) if last is None else _Place(self._place.account, last)

    async def _some_messages(self, conn: Connection) -> tuple[list[Finding], UUID]:
        low = max(self._message, await first_kept_message(conn))
        if self.is_of_unsealed:
            low = max(low, day_floor(await first_entries_day(conn, full=False)))
        await conn.execute(
            "set local plan_cache_mode = force_generic_plan"
        )  # over all days, and always the same
        high = await conn.fetchval(NEXT_MESSAGE, low, MESSAGES_A_BITE) or ID_LAST
        await conn.execute("set local plan_cache_mode = force_custom_plan")
        findings = await messages.fold_messages(conn, low, high, 0, Locks())
        return findings + await messages.find_holds(conn, low, high), high

    async def _verify(
        self,
        conn: Connection,
        accounts: Sequence[Account],
        since: date,
        versions: tuple[int, int] = (0, LAST),
    ) -> tuple[list[Finding], State | None]:
        """Verify entries against each other, against locks and operations; of one account, perhaps some.

        Args:
            versions: (after, up to). Also those before the bases: who writes past the functions can give an
                entry of a day that is not sealed a number that was there on another day.

        Returns the findings and how the last account's last entry left it, if more are to be read after it.
        """
        first_message = await first_kept_message(conn)
        ids = [account.id for account in accounts]
        span = Span(since, await _day_after_next(conn), ids[0], ids[-1], *versions)
        chains = Chains({account.id: account.base for account in accounts})
        findings = chains.join(await journal.fold_entries(conn, span, first_message, 0))
        if misshapen := [fold.account_id for fold in chains.folds.values() if fold.is_misshapen]:
            findings += await entries.find_misshapen(conn, misshapen, span)
        findings += await entries.compare_entries(conn, ids, span, first_message)
        findings += await entries.compare_operations(conn, ids, span)
        if self.is_of_unsealed:
            older = (first_message, day_floor(since))
            findings += await messages.messages_of_entries(conn, ids, span, *older)
        last = chains.folds.get(ids[-1])
        # Where a bite found none after its base, the next one would be the same again.
        if span.up_to != LAST and last is not None and last.last.version > last.base.version:
            return findings, last.last
        findings += await operations.check_limits(conn, ids[0], ids[-1])
        for account in accounts:
            findings += books.check_account(account)
            findings += books.check_entries(account, chains.folds.get(account.id))
        return findings, None


@asynccontextmanager
async def _snapshot(conn: Connection) -> AsyncIterator[None]:
    """One snapshot. A step wants few rows of large tables: planned for these, never reading them all."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await keep_days(conn)
        await conn.execute("set local enable_seqscan = off; set local plan_cache_mode = force_custom_plan")
        yield


def _that_fit(accounts: Sequence[Account]) -> list[Account]:
    """The first accounts, as many as have entries for a bite together."""
    sums = accumulate(account.version - account.base.version for account in accounts)
    return [account for account, entries_ in zip(accounts, sums, strict=True) if entries_ <= ENTRIES_A_BITE]


async def _day_after_next(conn: Connection) -> date:
    """No entry is of it yet: what is planned for the days before leaves the empty ones out."""
    day: date = await conn.fetchval("select (clock_timestamp() at time zone 'UTC')::date + 2")
    return day
