"""What is proved before the days that are over are sealed (RULES 27).

The entries since the newest seal, all of them, and the messages of their days and those they are about: in
the bites of ledger/verify_online.py, each a short snapshot of its own, so that no old one holds up the
vacuum. An account's row and its entries are in one bite, so what adds up for each adds up for all. What of
an older message changes without an entry moves no money: the rounds beside live traffic see it.

Only what holds are open has no order that could be followed over several snapshots: those of the days that
are not done with are added up in one.
"""

from datetime import date, timedelta
from typing import Final

from ledger import verify_books as books
from ledger import verify_messages as messages
from ledger.checkpoints import Signer, load_seals
from ledger.findings import Finding
from ledger.pace import GoOn
from ledger.verify import open_snapshot
from ledger.verify_messages import Locks
from ledger.verify_online import OnlineVerifier
from ledger.verify_ranges import first_entries_day, keep_days
from ledger.verify_seals import check_seal
from shared.domain.ids import day_floor
from shared.runtime.postgres import Connection, Pool

DAY: Final = timedelta(days=1)


async def prove_unsealed(pool: Pool, dsn: str, signer: Signer, go_on: GoOn) -> list[Finding] | None:
    """Return what is wrong with the books since the newest seal, and with the seals themselves.

    None when ``go_on``, which is asked after each bite, said no before the end: then nothing is proved.

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer; nothing is known.
    """
    verifier, findings = OnlineVerifier(pool, is_of_unsealed=True), list[Finding]()
    while not verifier.rounds:
        findings += await verifier.some_accounts()
        if not await go_on():
            return None
    while not verifier.message_rounds:
        findings += await verifier.some_messages()
        if not await go_on():
            return None
    async with pool.acquire() as conn:
        findings += await books.check_guards(conn)
        for signed in await load_seals(conn):
            findings += await check_seal(conn, signed, full=False, signer=signer)
            if not await go_on():
                return None
    return findings + await _compare_holds(dsn)


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
