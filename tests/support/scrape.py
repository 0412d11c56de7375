"""What the processes of an instance show of their metrics, each on its own port."""

import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.metrics_table import Metric

SCRAPE_SECONDS = 10.0
# What a metric shows only when something rare happens, and what that is: each is tried elsewhere.
RARE = {
    "tollwire_api_limit_answers_total": "counts what Valkey or the process answered",
    "tollwire_archive_bytes_total": "a day that is old enough",
    "tollwire_archive_rows_total": "a day that is old enough",
    "tollwire_batch_errors_total": "a flush that failed",
    "tollwire_batch_refused_total": "a full queue",
    "tollwire_claims_refused_total": "two workers that want the same message",
    "tollwire_clockwork_total": "work that somebody dropped",
    "tollwire_consumer_redelivered_total": "a message that comes again",
    "tollwire_db_call_repeats_total": "a connection that broke",
    "tollwire_deadlocks_total": "a fault of ours",
    "tollwire_forgotten_total": "callbacks that nobody could end",
    "tollwire_http_rejected_total": "a request that was turned away",
    "tollwire_ledger_seal_exports_total": "a day that is over",
    "tollwire_loop_failures_total": "a loop that failed",
    "tollwire_partitions_retired_total": "a day that is old enough",
    "tollwire_put_off_total": "a carrier that takes less than comes in",
    "tollwire_receipts_refused_total": "a receipt that was refused",
    "tollwire_resealed_total": "a keyring that was rotated",
    "tollwire_retention_overdue_days": "a day that is old enough",
    "tollwire_sealed_broken": "a secret that does not open",
    "tollwire_texts_expired_total": "a text that is old enough",
    "tollwire_trace_errors_untold_total": "tracing, which is off",
    "tollwire_trace_spans_total": "tracing, which is off",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One series of one process."""

    process: str
    name: str
    labels: Mapping[str, str]
    value: float


def scrape(status: Mapping[str, Any]) -> Iterator[Series]:
    """Every series of every process, by ``tollwire status --json``; of a family without any an empty one."""
    for process in status["processes"]:
        if process["health_port"] is None:
            continue
        url = f"http://127.0.0.1:{process['health_port']}/metrics"
        with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                yield Series(process["name"], sample.name, sample.labels, sample.value)


def missing(metrics: list[Metric], series: list[Series]) -> set[str]:
    """The metrics that have no number anywhere, but those that need something rare."""
    shown = {one.name for one in series if one.value == one.value}  # not one that is not a number
    wanted = {
        f"{metric.name}_count" if metric.kind.endswith("Histogram") else metric.name: metric.name
        for metric in metrics
        if metric.folder != "simulator"
    }
    return {name for sample, name in wanted.items() if sample not in shown} - RARE.keys()
