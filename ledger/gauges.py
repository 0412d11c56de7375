"""What the database knows of itself and of our work, as metrics: the instruments.

A plain PostgreSQL exports nothing, so the ledger process that leads reads these (ledger/observe.py).
"""

import math
from typing import Final

from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase

from shared.runtime.metrics import CopiedCounter

# Work, fit to scale on: what may be done now, not what waits for its time.
DISPATCHABLE: Final = Gauge(
    "tollwire_dispatchable_messages", "Messages that may be sent now and are not with a carrier yet", ["lane"]
)
SHAPED: Final = Gauge(
    "tollwire_shaped_messages", "Messages in the outbox that wait for their time or pace, as estimated"
)
OUTBOX_ROWS: Final = Gauge("tollwire_outbox_rows", "Rows in the outbox, as PostgreSQL estimates")
OUTBOX_AGE: Final = Gauge("tollwire_outbox_oldest_due_seconds", "How long the oldest due row has waited")
QUEUE_AGE: Final = Gauge(
    "tollwire_queue_oldest_age_seconds",
    "How long the oldest piece of work has waited that may be done",
    ["queue"],
)
RECEIPTS_WAITING: Final = Gauge("tollwire_receipts_waiting", "Receipts that are kept and not settled")
CALLBACKS_WAITING: Final = Gauge(
    "tollwire_callbacks_waiting", "Callbacks that are not done, retries included"
)
ENDPOINTS: Final = Gauge(
    "tollwire_callback_endpoints", "Endpoints of clients, by how they fare: ok, failing, disabled", ["state"]
)

# Money.
CREDIT: Final = Gauge(
    "tollwire_credit_micros", "Sums over all clients' accounts: posted, held, credit_limit, overdrawn",
    ["currency", "state"],
)  # fmt: skip
ACCOUNTS: Final = Gauge("tollwire_accounts", "Accounts of clients", ["currency"])
UNSEALED_AGE: Final = Gauge(
    "tollwire_ledger_unsealed_day_seconds",
    "How long the oldest day with entries and no seal has been over; 0: each such day is sealed",
)

# PostgreSQL.
TRANSACTIONS: Final = CopiedCounter(
    "tollwire_postgres_transactions_total", "Transactions of the database, by how they ended", ["result"]
)
SERVER_DEADLOCKS: Final = CopiedCounter(
    "tollwire_postgres_deadlocks_total", "Deadlocks that the server ended, whoever's"
)
BLOCKS: Final = CopiedCounter(
    "tollwire_postgres_blocks_total", "Blocks asked for: hit in PostgreSQL's memory, or read", ["source"]
)
TEMP_BYTES: Final = CopiedCounter(
    "tollwire_postgres_temp_bytes_total", "Bytes that queries wrote to disk aside"
)
WAL_BYTES: Final = CopiedCounter("tollwire_postgres_wal_bytes_total", "Bytes of write-ahead log")
CONNECTIONS: Final = Gauge(
    "tollwire_postgres_connections", "Connections to the server, by whose they are", ["application"]
)
CONNECTIONS_MAX: Final = Gauge("tollwire_postgres_connections_max", "Connections that the server takes")
LOCK_WAITS: Final = Gauge("tollwire_postgres_lock_waits", "Sessions that wait for another one's lock")
DATABASE_BYTES: Final = Gauge("tollwire_postgres_database_bytes", "Size of the database on disk")
LIVE_ROWS: Final = Gauge(
    "tollwire_postgres_live_rows", "Rows by table, as estimated, partitions together", ["table"]
)
DEAD_ROWS: Final = Gauge(
    "tollwire_postgres_dead_rows",
    "Dead rows by table that no vacuum has taken yet, partitions together",
    ["table"],
)
PARTITION_ROWS: Final = Gauge(
    "tollwire_partition_rows",
    "Rows by partition, as estimated: its age in days, 0 is today",
    ["table", "age_days"],
)
PARTITIONS_AHEAD: Final = Gauge("tollwire_partitions_days_ahead", "Days of partitions that are there already")
SCHEMA: Final = Gauge("tollwire_schema_version", "The database's schema version")

# JetStream, as its leader counts.
PENDING: Final = Gauge(
    "tollwire_consumer_pending", "Messages of JetStream that nobody has taken yet", ["consumer"]
)
ACK_PENDING: Final = Gauge(
    "tollwire_consumer_ack_pending", "Messages of JetStream that are taken and not answered", ["consumer"]
)
ACK_PENDING_MAX: Final = Gauge(
    "tollwire_consumer_ack_pending_max", "How many may be taken and not answered", ["consumer"]
)
STREAM_BYTES: Final = Gauge("tollwire_stream_bytes", "What a stream holds", ["stream"])
STREAM_BYTES_MAX: Final = Gauge("tollwire_stream_bytes_max", "What a stream may hold", ["stream"])

LEADING: Final = Gauge(
    "tollwire_observer", "1 in the one ledger process that shows the gauges of database and streams"
)

_ALL: Final = [metric for metric in list(globals().values()) if isinstance(metric, MetricWrapperBase)]


def forget() -> None:
    """Show nothing: somebody else leads, or nobody has looked yet."""
    for metric in _ALL:
        if metric is LEADING:
            LEADING.set(0)
        elif metric._labelnames:  # noqa: SLF001 - the library has no other word for "has labels"
            metric.clear()
        elif isinstance(metric, CopiedCounter):
            metric.copy(None)
        elif isinstance(metric, Gauge):
            metric.set(math.nan)
