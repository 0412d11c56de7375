"""Shows what the database and the streams know, in one ledger process of all (ledger/gauges.py).

A plain PostgreSQL and a plain NATS export nothing. What is global is shown once: whoever holds the lead
(a watermark) shows it, the others show nothing of it. It costs a query of about a millisecond every
``WORK_SECONDS`` and one of a few every ``TABLES_SECONDS``.
"""

import os
import socket
from collections.abc import Iterable
from typing import Final

import nats.errors
import structlog

from ledger import gauges
from ledger import observe_store as store
from ledger.observe_store import Readings
from ledger.stream_age import LANES
from shared.runtime.jetstream import JetStream
from shared.runtime.metrics import CONNECTED
from shared.runtime.postgres import Pool
from shared.runtime.streams import STREAMS
from shared.storage.finals import know_carriers

WORK_SECONDS: Final = 15.0
# Rows by table, money and endpoints: every fourth look; the size on disk: every fortieth.
TABLES_EVERY: Final = 4
SIZE_EVERY: Final = 40
# As ``tollwire_connected`` names it.
DEPENDENCY: Final = "postgresql"
# Who may be named among the connections; all others are one.
APPLICATIONS: Final = [
    f"tollwire-{name}" for name in ("api", "worker", "dlr", "ledger", "reporting", "console")
]
CONSUMED: Final = ("SMS_SEND", "SMS_RECEIPT")

_log = structlog.get_logger(__name__)


class Observer:
    """``look`` is run every ``WORK_SECONDS``."""

    def __init__(self, pool: Pool, jetstream: JetStream) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._looks = 0
        gauges.forget()

    async def look(self) -> None:
        """Renew the gauges, if this process leads; show none of them that nobody can read.

        Raises:
            Exception: PostgreSQL did not answer, which ``tollwire_connected`` tells.
        """
        try:
            await self._look()
        except Exception:
            CONNECTED.labels(DEPENDENCY).set(0)
            gauges.forget()
            self._looks = 0
            raise
        CONNECTED.labels(DEPENDENCY).set(1)

    async def _look(self) -> None:
        if not await store.lead(self._pool, self._name):
            gauges.forget()
            self._looks = 0
            return
        gauges.LEADING.set(1)
        show_work(await store.read_work(self._pool, APPLICATIONS))
        if self._looks % TABLES_EVERY == 0:
            show_tables(await store.read_tables(self._pool))
        if self._looks % SIZE_EVERY == 0:
            gauges.DATABASE_BYTES.set((await store.read_size(self._pool))["bytes"][""])
        self._looks += 1
        await self._show_streams()

    async def _show_streams(self) -> None:
        """NATS may be away: then its gauges keep what was true last, and ``tollwire_connected`` tells."""
        if not self._jetstream.connected:
            return
        for stream in STREAMS:
            if (filling := self._jetstream.filling(stream.name)) is not None:
                gauges.STREAM_BYTES.labels(stream.name).set(filling.bytes)
                gauges.STREAM_BYTES_MAX.labels(stream.name).set(filling.bytes_max)
        try:
            backlogs = [backlog for name in CONSUMED for backlog in await self._jetstream.backlogs(name)]
        except (nats.errors.Error, OSError) as error:
            _log.info("consumers not counted", error=type(error).__name__)
            return
        for backlog in backlogs:
            gauges.PENDING.labels(backlog.consumer).set(backlog.pending)
            gauges.ACK_PENDING.labels(backlog.consumer).set(backlog.ack_pending)
            gauges.ACK_PENDING_MAX.labels(backlog.consumer).set(backlog.ack_pending_max)


def show_work(readings: Readings) -> None:
    """Show what waits, and how busy the database is."""
    dispatchable, ages = readings.get("dispatchable", {}), readings["age"]
    for lane in LANES:
        gauges.DISPATCHABLE.labels(lane).set(dispatchable.get(lane, 0))
    for queue in (*LANES, "receipts", "callbacks"):
        gauges.QUEUE_AGE.labels(queue).set(max(ages.get(queue, 0), 0))
    rows = readings["outbox"][""]
    gauges.OUTBOX_ROWS.set(rows)
    gauges.SHAPED.set(max(rows - sum(dispatchable.values()), 0))
    gauges.OUTBOX_AGE.set(readings["outbox_age"][""])
    gauges.RECEIPTS_WAITING.set(readings["receipts"][""])
    gauges.CALLBACKS_WAITING.set(readings["callbacks"][""])
    for result, count in readings["transactions"].items():
        gauges.TRANSACTIONS.labels(result).copy(count)
    for source, count in readings["blocks"].items():
        gauges.BLOCKS.labels(source).copy(count)
    gauges.SERVER_DEADLOCKS.copy(readings["deadlocks"][""])
    gauges.TEMP_BYTES.copy(readings["temp_bytes"][""])
    gauges.WAL_BYTES.copy(readings["wal_bytes"][""])
    for application in (*APPLICATIONS, "other"):
        gauges.CONNECTIONS.labels(application).set(readings["connections"].get(application, 0))
    gauges.CONNECTIONS_MAX.set(readings["connections_max"][""])
    gauges.LOCK_WAITS.set(readings["lock_waits"][""])


def show_tables(readings: Readings) -> None:
    """Show what changes slowly."""
    gauges.SCHEMA.set(readings["schema"][""])
    gauges.PARTITIONS_AHEAD.set(readings["days_ahead"][""])
    gauges.UNSEALED_AGE.set(readings["unsealed_age"][""])
    know_carriers({int(id_): name for name, id_ in readings.get("carrier", {}).items()})
    for table, rows in readings["live"].items():
        gauges.LIVE_ROWS.labels(table).set(rows)
        gauges.DEAD_ROWS.labels(table).set(readings["dead"][table])
    gauges.PARTITION_ROWS.clear()
    for (table, age), rows in _pairs(readings.get("partition", {}).items()):
        gauges.PARTITION_ROWS.labels(table, age).set(rows)
    for (currency, state), micros in _pairs(readings.get("credit", {}).items()):
        gauges.CREDIT.labels(currency, state).set(micros)
    for currency, accounts in readings.get("accounts", {}).items():
        gauges.ACCOUNTS.labels(currency).set(accounts)
    for state in ("ok", "failing", "disabled"):
        gauges.ENDPOINTS.labels(state).set(readings.get("endpoints", {}).get(state, 0))


def _pairs(items: Iterable[tuple[str, float]]) -> Iterable[tuple[tuple[str, str], float]]:
    """Two labels that came in one word."""
    for label, value in items:
        first, _, second = label.partition(" ")
        yield (first, second), value
