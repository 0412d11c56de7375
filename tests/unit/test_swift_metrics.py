"""Metrics of what comes with each request: they count as the library's own do."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from shared.runtime.metrics import SECONDS_BUCKETS, BulkHistogram, SwiftCounter

TRACE = {"trace_id": "0" * 32}


def shown(registry: CollectorRegistry) -> list[tuple[object, ...]]:
    return [
        (sample.name, sample.labels, sample.value, sample.exemplar and sample.exemplar[:2])
        for family in registry.collect()
        for sample in family.samples
    ]


@given(st.lists(st.tuples(st.floats(0, 10) | st.sampled_from(SECONDS_BUCKETS), st.booleans())))
def test_a_histogram_sorts_each_amount_as_the_librarys_does(amounts: list[tuple[float, bool]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    swift = BulkHistogram("seconds", "s", ["route"], buckets=SECONDS_BUCKETS, registry=ours).labels("a")
    plain = Histogram("seconds", "s", ["route"], buckets=SECONDS_BUCKETS, registry=theirs).labels("a")
    for amount, is_traced in amounts:
        swift.observe(amount, TRACE if is_traced else None)
        plain.observe(amount, TRACE if is_traced else None)
    assert shown(ours) == shown(theirs)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.booleans())))
def test_a_counter_counts_as_the_librarys_does(amounts: list[tuple[int, bool]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    swift = SwiftCounter("requests", "r", ["code"], registry=ours).labels("202")
    plain = Counter("requests", "r", ["code"], registry=theirs).labels("202")
    for amount, is_traced in amounts:
        swift.inc(amount, TRACE if is_traced else None)
        plain.inc(amount, TRACE if is_traced else None)
    assert shown(ours) == shown(theirs)
