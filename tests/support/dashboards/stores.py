"""PostgreSQL, NATS and Valkey, as our own processes see them."""

from tests.support.dashboards.panels import Dashboard, Panel, Query, Row, line, lines, or_zero, quantile, rate

HIT = rate("tollwire_postgres_blocks_total", where='source="hit"')
BLOCKS = rate("tollwire_postgres_blocks_total")

STORES = Dashboard(
    "tollwire-stores",
    "Tollwire / PostgreSQL, NATS, Valkey",
    "The servers below, from the gauges of the leading ledger process and from every process's own calls.",
    (
        Row(
            "PostgreSQL: the server",
            [
                line(
                    "Transactions",
                    rate("tollwire_postgres_transactions_total", by="result"),
                    "{{result}}",
                    unit="ops",
                ),
                lines(
                    "Connections",
                    ("max by (application) (tollwire_postgres_connections)", "{{application}}"),
                    ("max(tollwire_postgres_connections_max)", "max"),
                ),
                lines(
                    "Locks",
                    ("max(tollwire_postgres_lock_waits)", "sessions that wait"),
                    (rate("tollwire_postgres_deadlocks_total"), "deadlocks a second"),
                    bounds=(10,),
                ),
                line("Blocks found in memory", f"{HIT} / ({BLOCKS} > 0)", "share", unit="percentunit"),
                line("Write-ahead log", rate("tollwire_postgres_wal_bytes_total"), "WAL", unit="Bps"),
                line(
                    "Written aside by queries",
                    rate("tollwire_postgres_temp_bytes_total"),
                    "temporary files",
                    unit="Bps",
                ),
                line(
                    "Size on disk", "max(tollwire_postgres_database_bytes)", "database", unit="bytes", width=6
                ),
                line("Rows", "topk(8, max by (table) (tollwire_postgres_live_rows))", "{{table}}", width=6),
                line(
                    "Dead rows", "topk(8, max by (table) (tollwire_postgres_dead_rows))", "{{table}}", width=6
                ),
                line(
                    "Rows by day",
                    'max by (age_days) (tollwire_partition_rows{table="messages"})',
                    "{{age_days}} days old",
                    width=6,
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "PostgreSQL: our calls",
            [
                Panel(
                    "Connections used of each pool",
                    (
                        Query(
                            '(sum by (instance) (tollwire_db_pool_connections{state="open"})'
                            ' - sum by (instance) (tollwire_db_pool_connections{state="idle"}))'
                            ' / sum by (instance) (tollwire_db_pool_connections{state="max"})',
                            "{{instance}}",
                        ),
                    ),
                    unit="percentunit",
                    bounds=(0.8,),
                ),
                line(
                    "Waiting for a connection: P99",
                    quantile(0.99, "tollwire_db_pool_wait_seconds", by="job"),
                    "{{job}}",
                    unit="s",
                ),
                line(
                    "Calls",
                    f"topk(8, {rate('tollwire_db_call_seconds_count', by='function')})",
                    "{{function}}",
                    unit="ops",
                ),
                line(
                    "Calls: P99",
                    f"topk(8, {quantile(0.99, 'tollwire_db_call_seconds', by='function')} > 0)",
                    "{{function}}",
                    unit="s",
                ),
                line(
                    "Calls sent again",
                    or_zero(rate("tollwire_db_call_repeats_total", by="function, sqlstate")),
                    "{{function}} {{sqlstate}}",
                    unit="ops",
                ),
                line(
                    "Deadlocks of ours",
                    or_zero(rate("tollwire_deadlocks_total", by="function")),
                    "{{function}}",
                    unit="ops",
                    text="A fault of ours: report it.",
                ),
            ],
        ),
        Row(
            "NATS JetStream",
            [
                line(
                    "Connected",
                    "min by (dependency, job) (tollwire_connected)",
                    "{{job}}: {{dependency}}",
                    width=6,
                ),
                line(
                    "Bundles nobody has taken",
                    "max by (consumer) (tollwire_consumer_pending)",
                    "{{consumer}}",
                    width=6,
                ),
                line(
                    "Bundles out",
                    "max by (consumer) (tollwire_consumer_ack_pending)",
                    "{{consumer}}",
                    width=6,
                ),
                line(
                    "Bundles out, of those that may be",
                    "max by (consumer) (tollwire_consumer_ack_pending)"
                    " / max by (consumer) (tollwire_consumer_ack_pending_max)",
                    "{{consumer}}",
                    unit="percentunit",
                    width=6,
                    bounds=(0.9,),
                ),
                line(
                    "Answers",
                    rate("tollwire_consumer_acks_total", by="consumer, answer"),
                    "{{consumer}} {{answer}}",
                    unit="ops",
                ),
                line(
                    "Come again",
                    or_zero(rate("tollwire_consumer_redelivered_total", by="consumer")),
                    "{{consumer}}",
                    unit="ops",
                ),
                line(
                    "Streams: filled",
                    "max by (stream) (tollwire_stream_bytes) / max by (stream) (tollwire_stream_bytes_max)",
                    "{{stream}}",
                    unit="percentunit",
                    text="SMS_EVENT and SMS_DLQ keep the past and may be full; the others may not.",
                ),
                line(
                    "Publishes",
                    rate("tollwire_publish_total", by="stream, result"),
                    "{{stream}} {{result}}",
                    unit="ops",
                    width=12,
                ),
                line(
                    "Publish: P99",
                    quantile(0.99, "tollwire_publish_seconds", by="stream"),
                    "{{stream}}",
                    unit="s",
                    width=12,
                ),
            ],
        ),
        Row(
            "Valkey",
            [
                lines(
                    "Limits' script",
                    (quantile(0.5, "tollwire_valkey_call_seconds"), "P50"),
                    (quantile(0.99, "tollwire_valkey_call_seconds"), "P99"),
                    unit="s",
                ),
                line(
                    "Calls",
                    rate("tollwire_valkey_call_seconds_count", by="instance"),
                    "{{instance}}",
                    unit="ops",
                ),
                line(
                    "Errors",
                    rate("tollwire_valkey_errors_total", by="instance"),
                    "{{instance}}",
                    unit="ops",
                    text="Without Valkey limits are local; nothing else changes.",
                ),
            ],
        ),
    ),
)
