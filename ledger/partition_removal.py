"""Takes partitions off their tables and drops them, without holding up the traffic on the table."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import asyncpg
import structlog
from prometheus_client import Counter

from ledger import retention_store as store
from ledger.pace import Pace
from ledger.retention_store import Partition
from shared.runtime.postgres import Pool

# Each try waits 50 ms at most for its lock, and whoever comes meanwhile waits behind it: hence the pauses.
TRIES_MAX: Final = 10
PAUSE_SECONDS: Final = 1.0

RETIRED: Final = Counter("tollwire_partitions_retired_total", "Partitions dropped, by table", ["table"])
LOCK_MISSES: Final = Counter(
    "tollwire_partition_lock_misses_total", "Tries to take a partition off that met 50 ms of traffic"
)

_log = structlog.get_logger(__name__)


async def remove_all(pool: Pool, partitions: Iterable[Partition], pace: Pace) -> bool:
    """Detach and drop partitions in this order; False at the first one that does not go now."""
    for partition in partitions:
        reason = await remove(pool, partition)
        if reason is not None:
            _log.info("partition kept", table=partition.parent, partition=partition.name, reason=reason)
            return False
        RETIRED.labels(partition.parent).inc()
        _log.info("partition dropped", table=partition.parent, partition=partition.name)
        if not await pace.go_on():
            return False
    return True


async def remove(pool: Pool, partition: Partition) -> str | None:
    """Detach and drop one partition; return why it does not go (None: it is gone)."""
    if partition.is_attached:
        reason = await _patiently(lambda: store.detach(pool, partition))
        if reason is not None:
            return reason
    return await _patiently(lambda: store.drop(pool, partition))


async def _patiently(step: Callable[[], Awaitable[str | None]]) -> str | None:
    for tries in range(1, TRIES_MAX + 1):
        try:
            return await step()
        except asyncpg.LockNotAvailableError:
            LOCK_MISSES.inc()
        if tries < TRIES_MAX:
            # Jitter, so that two processes do not meet again.
            await asyncio.sleep(PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
    return f"the table was in use at each of {TRIES_MAX} tries"
