"""The ledger process's export of seals. It may fail for days: sealing goes on, and it tries again."""

import asyncio
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from ledger import seal_files
from ledger.checkpoints import load_seals
from shared.runtime.postgres import Pool

EXPORTS: Final = Counter(
    "tollwire_ledger_seal_exports_total", "Seals on their way into files, by what became of them", ["result"]
)

_log = structlog.get_logger(__name__)


class SealExport:
    """Writes every seal that has no file yet; ``folder`` None: there is no place for them."""

    def __init__(self, pool: Pool, folder: Path | None) -> None:
        self._pool = pool
        self._folder = folder
        self._has_warned = False

    async def run_once(self) -> None:
        """Bring the folder up to date. A folder that cannot be written is logged and counted, not raised."""
        async with self._pool.acquire() as connection:
            seals = await load_seals(connection)
        if self._folder is None:
            if seals and not self._has_warned:
                self._has_warned = True
                _log.warning("no folder for the seals: TOLLWIRE_SEALS_FOLDER is not set", seals=len(seals))
            return
        try:
            done = await asyncio.to_thread(seal_files.export, self._folder, seals)
        except OSError as error:
            EXPORTS.labels("failed").inc()
            _log.error("seals not exported, will try again", folder=str(self._folder), error=str(error))
            return
        for day in done.written:
            EXPORTS.labels("written").inc()
            _log.info("seal exported", day=day, folder=str(self._folder))
        for day in done.differing:
            EXPORTS.labels("differs").inc()
            _log.error("the seal is not the one that was exported", day=day, folder=str(self._folder))
