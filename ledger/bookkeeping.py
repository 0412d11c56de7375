"""The ledger process's part of the books: verifies them on a schedule, closes and seals days (RULES 27)."""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from ledger.checkpoints import KeyringSigner, close_day, unsealed_days
from ledger.findings import Finding
from ledger.verify import verify_database
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Pool

# A day is closed when nothing of it can be in flight any more; transactions last seconds.
CLOSE_AFTER: Final = timedelta(minutes=10)
# The log names this many findings of a run; all of them are shown by `tollwire ledger verify`.
FINDINGS_LOGGED_MAX: Final = 20

FINDINGS: Final = Gauge("tollwire_ledger_findings", "What the last verification of the books found")
VERIFIED: Final = Gauge("tollwire_ledger_verified_timestamp_seconds", "When the books were last verified")
SEALED: Final = Counter("tollwire_ledger_days_sealed_total", "Days that were closed and sealed")

_log = structlog.get_logger(__name__)


class Bookkeeping:
    """Verifies from the newest checkpoints on; a day with findings is not sealed."""

    def __init__(self, pool: Pool, dsn: str, keyring: Keyring) -> None:
        self._pool = pool
        self._dsn = dsn
        self._signer = KeyringSigner(keyring)

    async def run_once(self) -> None:
        """Verify the books, then close the days that are over and proved."""
        findings = await verify_database(self._dsn, full=False, signer=self._signer)
        FINDINGS.set(len(findings))
        VERIFIED.set_to_current_time()
        if findings:
            self._tell(findings)
            return
        async with self._pool.acquire() as connection:
            for day in await unsealed_days(connection, (datetime.now(UTC) - CLOSE_AFTER).date()):
                seal = await close_day(connection, day, self._signer)
                SEALED.inc()
                _log.info("day sealed", day=day.isoformat(), entries=seal.entries, accounts=seal.accounts)

    def _tell(self, findings: list[Finding]) -> None:
        _log.error("the books are not whole", findings=len(findings))
        for finding in findings[:FINDINGS_LOGGED_MAX]:
            _log.error(
                "finding", check=finding.check, sentence=finding.sentence, account_id=finding.account_id
            )
