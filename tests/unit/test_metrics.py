"""The metrics: named for the house, explained, and with labels that cannot grow without end."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from shared.runtime import metrics
from tests.support import metrics_table

TRACE = {"trace_id": "0" * 32}
METRICS = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
# Every label of every metric, and what bounds its values. A label that is not here has no bound: nothing that
# grows with clients, messages, numbers or requests may ever be one.
BOUNDS = {
    "age_days": "0 to 7 and older",
    "answer": "the words of JetStream's acknowledgements",
    "application": "our processes' names and other",
    "batcher": "the batchers in the code",
    "by": "valkey or process",
    "carrier": "the carriers table, whose ids are a smallint; operators write it",
    "code": "HTTP statuses, or the problems of shared/domain/problems.py",
    "commit": "one a process",
    "consumer": "the consumers in the code",
    "currency": "ISO 4217, as far as an operator has made accounts",
    "dependency": "the dependencies in the code",
    "dispatch": "now or later",
    "due": "what retention does to a part",
    "encoding": "GSM7 or UCS2",
    "followed_by": "what a batcher does after an error",
    "function": "the server functions that the code calls",
    "how": "the ways in which texts end",
    "kind": "the kinds of secrets and of forgotten rows",
    "lane": "express, normal, bulk",
    "level": "the levels of logs",
    "loop": "the loops in the code",
    "method": "the methods of the table of operations",
    "outcome": "words of the code or of an enum of the database",
    "part": "the parts of retention",
    "queue": "the lanes, receipts, callbacks",
    "reason": "words of the code or of an enum of the database",
    "result": "words of the code",
    "route": "the paths of the table of operations, and none",
    "service": "our processes",
    "source": "hit or read",
    "sqlstate": "PostgreSQL's codes, a few hundred at most",
    "state": "words of the code or of an enum of the database",
    "status": "the states of a message",
    "stream": "the streams in the code",
    "table": "the tables of the schema, partitions under their parent's name",
    "version": "one a process",
    "work": "what the clockwork does",
    "walk": "the three walks of the ledger's verification",
    "why": "slow or room",
}


def test_every_metric_says_whose_it_is_and_what_it_tells() -> None:
    assert METRICS
    for metric in METRICS:
        assert metric._name.startswith("tollwire_")
        assert metric._documentation
        assert isinstance(metric, Counter | Gauge | Histogram)


def test_no_label_of_any_process_can_grow_without_end() -> None:
    labels = {label for metric in metrics_table.metrics() for label in metric.labels}
    assert labels
    assert labels - BOUNDS.keys() == set(), "say what bounds it, or leave it away"


def test_counters_count_and_durations_say_their_unit() -> None:
    for metric in metrics_table.metrics():
        is_counter = metric.kind.endswith("Counter")
        assert metric.name.endswith("_total") == is_counter, metric.name
        if metric.kind.endswith("Histogram"):
            assert metric.name.endswith(("_seconds", "_size")), metric.name


def test_buckets_rise() -> None:
    for metric in METRICS:
        if isinstance(metric, Histogram):
            assert list(metric._kwargs["buckets"]) == sorted(set(metric._kwargs["buckets"]))


def test_a_copied_count_that_nobody_knows_now_is_not_shown() -> None:
    """A sum over two processes, of which one showed "not a number", would be none itself."""
    registry = CollectorRegistry()
    count = metrics.CopiedCounter("tollwire_test_bytes_total", "…", registry=registry)
    shown = []
    for known in (7.0, None, 9.0):
        count.copy(known)
        shown.append([(sample.name, sample.value) for one in registry.collect() for sample in one.samples])
    assert shown == [[("tollwire_test_bytes_total", 7.0)], [], [("tollwire_test_bytes_total", 9.0)]]


def test_many_values_at_once_are_counted_as_one_by_one() -> None:
    values = [0.0, 0.01, 0.011, 7.0, 10_000.0]
    one, many = CollectorRegistry(), CollectorRegistry()
    alone = Histogram("tollwire_test_seconds", "…", buckets=metrics.AGE_BUCKETS, registry=one)
    together = metrics.BulkHistogram("tollwire_test_seconds", "…", buckets=metrics.AGE_BUCKETS, registry=many)
    for value in values:
        alone.observe(value)
    together.observe_all(values)
    wanted, got = ({sample.name + str(sample.labels): sample.value
                    for family in registry.collect() for sample in family.samples
                    if not sample.name.endswith("_created")} for registry in (one, many))  # fmt: skip
    assert got == wanted


def shown(registry: CollectorRegistry) -> list[tuple[object, ...]]:
    return [
        (sample.name, sample.labels, sample.value, sample.exemplar and sample.exemplar[:2])
        for family in registry.collect()
        for sample in family.samples
    ]


@given(st.lists(st.tuples(st.floats(0, 10) | st.sampled_from(metrics.SECONDS_BUCKETS), st.booleans())))
def test_a_histogram_sorts_each_amount_as_the_librarys_does(amounts: list[tuple[float, bool]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    swift = metrics.BulkHistogram(
        "seconds", "s", ["route"], buckets=metrics.SECONDS_BUCKETS, registry=ours
    ).labels("a")
    plain = Histogram("seconds", "s", ["route"], buckets=metrics.SECONDS_BUCKETS, registry=theirs).labels("a")
    for amount, is_traced in amounts:
        swift.observe(amount, TRACE if is_traced else None)
        plain.observe(amount, TRACE if is_traced else None)
    assert shown(ours) == shown(theirs)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.booleans())))
def test_a_counter_counts_as_the_librarys_does(amounts: list[tuple[int, bool]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    swift = metrics.SwiftCounter("requests", "r", ["code"], registry=ours).labels("202")
    plain = Counter("requests", "r", ["code"], registry=theirs).labels("202")
    for amount, is_traced in amounts:
        swift.inc(amount, TRACE if is_traced else None)
        plain.inc(amount, TRACE if is_traced else None)
    assert shown(ours) == shown(theirs)
