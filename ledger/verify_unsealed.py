"""What is proved before the days that are over are sealed (RULES 27).

The entries since the newest seal, all of them, and the messages of their days and those they are about: in
the bites of ledger/verify_online.py, each a short snapshot of its own, so that no old one holds up the
vacuum. An account's row and its entries are in one bite, so what adds up for each adds up for all. What of
an older message changes without an entry moves no money: the rounds beside live traffic see it.

Only what holds are open has no order that could be followed over several snapshots: those of the days that
are not done with are added up in one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from functools import partial
from typing import Final, TypeVar

import asyncpg
import structlog

from ledger import verify_books as books
from ledger import verify_messages as messages
from ledger.checkpoints import SignedSeal, Signer, load_seals
from ledger.findings import Finding
from ledger.pace import GoOn
from ledger.verify import open_snapshot
from ledger.verify_messages import Locks
from ledger.verify_online import OnlineVerifier
from ledger.verify_ranges import first_entries_day, keep_days
from ledger.verify_seals import check_seal
from shared.domain.ids import day_floor
from shared.runtime.postgres import Connection, OutcomeUnknown, Pool

DAY: Final = timedelta(days=1)
# The proof of a large day takes hours, and begins anew where it is given up: a failover passes meanwhile.
TRY_AGAIN_SECONDS: Final = (1.0, 5.0, 20.0, 60.0)
# The last of them is what asyncpg makes of a connection that ends while a transaction of it does.
LOST: Final = (
    OSError,
    OutcomeUnknown,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def prove_unsealed(pool: Pool, dsn: str, signer: Signer, go_on: GoOn) -> list[Finding] | None:
    """Return what is wrong with the books since the newest seal, and with the seals themselves.

    None when ``go_on``, which is asked after each bite, said no before the end: then nothing is proved.

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer for minutes; nothing is known.
    """
    go_on = partial(_patiently, go_on)
    verifier, findings = OnlineVerifier(pool, is_of_unsealed=True), list[Finding]()
    while not verifier.rounds:
        findings += await _patiently(verifier.some_accounts)
        if not await go_on():
            return None
    while not verifier.message_rounds:
        findings += await _patiently(verifier.some_messages)
        if not await go_on():
            return None
    for signed in await _patiently(partial(_seals, pool)):
        findings += await _patiently(partial(_check_seal, pool, signed, signer))
        if not await go_on():
            return None
    findings += await _patiently(partial(_check_guards, pool))
    return findings + await _patiently(partial(_compare_holds, dsn))


async def _patiently(bite: Callable[[], Awaitable[T]]) -> T:
    """Take a bite, and take it again when the server is slow or away for a while."""
    for pause_seconds in TRY_AGAIN_SECONDS:
        try:
            return await bite()
        except LOST as error:
            _log.info("a bite of the proof is taken again", error=repr(error))
        await asyncio.sleep(pause_seconds)
    return await bite()


async def _seals(pool: Pool) -> list[SignedSeal]:
    async with pool.acquire() as conn:
        return await load_seals(conn)


async def _check_seal(pool: Pool, signed: SignedSeal, signer: Signer) -> list[Finding]:
    async with pool.acquire() as conn:
        return await check_seal(conn, signed, full=False, signer=signer)


async def _check_guards(pool: Pool) -> list[Finding]:
    async with pool.acquire() as conn:
        return await books.check_guards(conn)


# A day that was looked through to its end had no hold left; that one came back is a finding of its message.
DAYS_WITH_HOLDS: Final = """
select d.day
from (select to_date(substring(c.relname from '[0-9]{8}$'), 'YYYYMMDD') as day from pg_inherits i
      join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.credit_locks'::regclass) d
where not exists (select from tollwire.day_inspections i where i.day = d.day and i.closed_at is not null)
order by 1
"""


async def _compare_holds(dsn: str) -> list[Finding]:
    """Compare each account with the sum of its HELD locks."""
    locks = Locks()
    async with open_snapshot(dsn) as conn:
        await keep_days(conn)
        for day in await _days_with_holds(conn):
            await messages.fold_held(conn, day_floor(day), day_floor(day + DAY), locks)
        accounts = await books.load_accounts(conn, await first_entries_day(conn, full=False))
    return [finding for account in accounts for finding in books.check_locks(account, locks)]


async def _days_with_holds(conn: Connection) -> list[date]:
    return [row[0] for row in await conn.fetch(DAYS_WITH_HOLDS)]
