"""What is proved before the days that are over are sealed (RULES 27).

The entries since the newest seal, all of them, and the messages of their days and those they are about: in
the bites of ledger/verify_online.py, each a short snapshot of its own, so that no old one holds up the
vacuum. An account's row and its entries are in one bite, so what adds up for each adds up for all. What of
an older message changes without an entry moves no money: the rounds beside live traffic see it.

Only what holds are open has no order that could be followed over several snapshots: those of the days that
are not done with are added up in one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import structlog

from ledger import verify_books as books
from ledger import verify_messages as messages
from ledger.checkpoints import SignedSeal, Signer, load_seals
from ledger.findings import Finding
from ledger.pace import GoOn, never
from ledger.verify import open_snapshot
from ledger.verify_messages import Locks
from ledger.verify_online import OnlineVerifier
from ledger.verify_ranges import first_entries_day, keep_days
from ledger.verify_seals import check_seal
from shared.domain.ids import day_floor, uuid7_from, uuid7_time_ms
from shared.runtime.postgres import Connection, OutcomeUnknown, Pool

DAY: Final = timedelta(days=1)
# Holds are read with all that were ever made in a time: no index knows which are open. In ten minutes of the
# largest plan's peak, 15,000 a second, that is a gigabyte and a half.
SLICE_MS: Final = 600_000
# The proof of a large day takes hours, and begins anew where it is given up: a failover passes meanwhile.
TRY_AGAIN_SECONDS: Final = (1.0, 5.0, 20.0, 60.0)
# A host that fell silent never answers. What is asked for at once is small enough to be answered long before,
# from cold disks as well.
ANSWER_SECONDS: Final = 300.0
# How soon a stop is heard meanwhile.
LOOK_SECONDS: Final = 1.0
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


class _Stopped(Exception):  # noqa: N818 - named for what happened
    """The process was asked to stop, or the lease is another one's."""


@dataclass(frozen=True, slots=True)
class _Patience:
    """Takes a bite again when the server is slow or away for a while, but not past the stop."""

    should_stop: Callable[[], bool]

    async def take(self, bite: Callable[[], Awaitable[T]]) -> T:
        for pause_seconds in TRY_AGAIN_SECONDS:
            try:
                return await bite()
            except LOST as error:
                _log.info("a bite of the proof is taken again", error=repr(error))
            await self._rest(pause_seconds)
        return await bite()

    async def _rest(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while not self.should_stop():
            left_seconds = ends_at - time.monotonic()
            if left_seconds <= 0:
                return
            await asyncio.sleep(min(left_seconds, LOOK_SECONDS))
        raise _Stopped


def _nobody(_: list[Finding]) -> None:
    """Nobody wants to know before the end."""


async def prove_unsealed(
    pool: Pool,
    dsn: str,
    signer: Signer,
    go_on: GoOn,
    should_stop: Callable[[], bool] = never,
    tell: Callable[[list[Finding]], None] = _nobody,
) -> list[Finding] | None:
    """Return what is wrong with the books since the newest seal, and with the seals themselves.

    What a bite has found is told to ``tell`` at once: the end may be hours away.
    None when ``go_on``, which is asked after each bite, said no before the end, or ``should_stop``, which is
    asked while the server is away, said yes: then nothing is proved.

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer for minutes; nothing is known.
    """
    findings = list[Finding]()
    try:
        async for found in _bites(pool, dsn, signer, go_on, _Patience(should_stop)):
            if found:
                findings += found
                tell(found)
    except _Stopped:
        return None
    return findings


async def _bites(
    pool: Pool, dsn: str, signer: Signer, go_on: GoOn, patience: _Patience
) -> AsyncIterator[list[Finding]]:
    async def rest() -> None:
        if not await patience.take(go_on):
            raise _Stopped

    verifier = OnlineVerifier(pool, is_of_unsealed=True)
    while not verifier.rounds:
        yield await patience.take(verifier.some_accounts)
        await rest()
    while not verifier.message_rounds:
        yield await patience.take(verifier.some_messages)
        await rest()
    for signed in await patience.take(partial(_seals, pool)):
        yield await patience.take(partial(_check_seal, pool, signed, signer))
        await rest()
    yield await patience.take(partial(_check_guards, pool))
    yield await patience.take(partial(_compare_holds, dsn))


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
    async with open_snapshot(dsn, answer_seconds=ANSWER_SECONDS) as conn:
        await keep_days(conn)
        for day in await _days_with_holds(conn):
            for low, high in _slices(day):
                await messages.fold_held(conn, low, high, locks)
        accounts = await books.load_accounts(conn, await first_entries_day(conn, full=False))
    return [finding for account in accounts for finding in books.check_locks(account, locks)]


def _slices(day: date) -> Iterator[tuple[UUID, UUID]]:
    """The bounds of the ids of a day, ``SLICE_MS`` at a time."""
    begins_ms, ends_ms = (uuid7_time_ms(day_floor(at)) for at in (day, day + DAY))
    for at_ms in range(begins_ms, ends_ms, SLICE_MS):
        yield uuid7_from(at_ms, 0), uuid7_from(at_ms + SLICE_MS, 0)


async def _days_with_holds(conn: Connection) -> list[date]:
    return [row[0] for row in await conn.fetch(DAYS_WITH_HOLDS)]
