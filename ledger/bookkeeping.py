"""The ledger process's part of the books: verifies them on a schedule, closes and seals days (RULES 27)."""

import math
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from ledger.checkpoints import KeyringSigner, close_day, unsealed_days
from ledger.clockwork_store import read_time
from ledger.findings import Finding
from ledger.pace import Pace, never
from ledger.spread import Spread
from ledger.tally import Tally
from ledger.verify_online import OnlineVerifier
from ledger.verify_unsealed import prove_unsealed
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop, every
from shared.runtime.postgres import Pool

# A day is closed when nothing of it can be in flight any more; transactions last seconds.
CLOSE_AFTER: Final = timedelta(minutes=10)
CLOSE_DAYS_SECONDS: Final = 600.0
UPKEEP: Final = "close_days"
# How soon everything is gone through again. Small books are done in a step, and proving them again at every
# step cost an idle installation more than all else together.
ROUND_SECONDS: Final = 60.0
# The log names this many findings of a run; all of them are shown by `tollwire ledger verify`.
FINDINGS_LOGGED_MAX: Final = 20

# A walk of which this process knows nothing is not shown: the alert then goes by what was known before.
FINDINGS: Final = Gauge(
    "tollwire_ledger_findings",
    "Findings of the last whole walk (accounts, messages, proof), or of the present one if it has more",
    ["walk"],
)
STEPPED: Final = Gauge(
    "tollwire_ledger_verify_step_timestamp_seconds", "When a step of verification last came to its end"
)
VERIFIED: Final = Gauge(
    "tollwire_ledger_verified_timestamp_seconds", "When the last round over all accounts ended"
)
SEALED: Final = Counter("tollwire_ledger_days_sealed_total", "Days that were closed and sealed")

_log = structlog.get_logger(__name__)


class Bookkeeping:
    """Verifies beside live traffic, a step at a time, and closes days; a day with findings is not sealed."""

    def __init__(
        self, pool: Pool, dsn: str, keyring: Keyring, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._signer = KeyringSigner(keyring)
        self._verifier = OnlineVerifier(pool)
        self._proof = Tally()
        self._rounds = 0
        self._monotonic = monotonic
        self._seen = (0, 0)
        self._began_at = -ROUND_SECONDS
        self._is_resting = True
        self._spread = Spread()
        self._next_at = 0.0
        self._show()

    async def step(self) -> None:
        """Verify the next accounts and messages, and show what is found (``Tally``).

        When all accounts and messages were seen it rests until ``ROUND_SECONDS`` after it began with them.
        Between steps it rests as long as ``Spread`` says, unless something is wrong: whoever mends it waits
        for the next round to say so.
        """
        now = self._monotonic()
        if self._rests(now):
            return
        worked_before = self._verifier.worked_seconds
        try:
            findings = await self._verifier.step()
        finally:
            self._show()
        STEPPED.set_to_current_time()
        due_seconds = self._spread.step(self._verifier.worked_seconds - worked_before)
        is_wrong = self._verifier.of_accounts.shown or self._verifier.of_messages.shown
        self._next_at = now if is_wrong else now + due_seconds
        self._is_resting = (
            self._verifier.rounds > self._seen[0] and self._verifier.message_rounds > self._seen[1]
        )
        if self._is_resting:
            self._spread.end()
        if self._verifier.rounds != self._rounds:
            self._rounds = self._verifier.rounds
            VERIFIED.set_to_current_time()
        if findings:
            self._tell(findings)

    def _rests(self, now: float) -> bool:
        if now < self._next_at or (self._is_resting and now < self._began_at + ROUND_SECONDS):
            return True
        if self._is_resting:
            self._is_resting, self._began_at = False, now
            self._seen = (self._verifier.rounds, self._verifier.message_rounds)
        return False

    async def run_closing(self, stop: Stop) -> None:
        """Close days now and every 10 minutes until the stop, which ends a proof after the bite it is at."""

        async def once() -> None:
            await self.close_days(lambda: stop.requested)

        await every(stop, CLOSE_DAYS_SECONDS, once, name="Bookkeeping.close_days")

    async def close_days(self, should_stop: Callable[[], bool] = never) -> None:
        """Prove the books since the newest seal, and seal the days that are over, if there are any.

        Nothing while another process is at it: one proof is enough for all.
        """
        has_unsealed = bool(await self._unsealed_days())
        self._know_of_others(has_unsealed)
        if not has_unsealed:
            return
        pace = Pace(self._pool, UPKEEP, math.inf, should_stop)
        if not await pace.begin():
            return
        try:
            await self._close_days(pace, should_stop)
        finally:
            await pace.end()

    def _know_of_others(self, has_unsealed: bool) -> None:
        """Whoever sealed the last day found nothing; of days that wait a proof of another may know more."""
        if not has_unsealed:
            self._proof = Tally(0)
        elif not self._proof.shown:
            self._proof = Tally()
        self._show()

    async def _close_days(self, pace: Pace, should_stop: Callable[[], bool]) -> None:
        days = await self._unsealed_days()
        if not days:
            return
        self._proof.begin()
        findings = await prove_unsealed(
            self._pool, self._dsn, self._signer, pace.go_on_to_the_end, should_stop, self._tell_of_proof
        )
        if findings is None:
            return
        self._proof.end()
        self._show()
        if findings:
            return
        # Another process may have, if ours was away for longer than its lease.
        for day in [day for day in await self._unsealed_days() if day in days]:
            if not await pace.go_on_to_the_end():
                return
            async with self._pool.acquire() as connection:
                seal = await close_day(connection, day, self._signer)
            SEALED.inc()
            _log.info("day sealed", day=day.isoformat(), entries=seal.entries, accounts=seal.accounts)

    async def _unsealed_days(self) -> list[date]:
        now = await read_time(self._pool)
        async with self._pool.acquire() as connection:
            return await unsealed_days(connection, (now - CLOSE_AFTER).date())

    def _tell_of_proof(self, findings: list[Finding]) -> None:
        told = self._proof.present
        self._proof.add(len(findings))
        self._show()
        if told < FINDINGS_LOGGED_MAX:
            self._tell(findings)

    def _show(self) -> None:
        tallies = {
            "accounts": self._verifier.of_accounts,
            "messages": self._verifier.of_messages,
            "proof": self._proof,
        }
        FINDINGS.clear()
        for walk, tally in tallies.items():
            if tally.shown is not None:
                FINDINGS.labels(walk).set(tally.shown)

    def _tell(self, findings: list[Finding]) -> None:
        _log.error("the books are not whole", findings=len(findings))
        for finding in findings[:FINDINGS_LOGGED_MAX]:
            _log.error("finding", finding=str(finding))
