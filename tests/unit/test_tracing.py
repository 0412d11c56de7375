"""Tracing: nothing while it is off, W3C contexts while it is on."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.runtime import tracing

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure("worker", "", 1.0, processor=SimpleSpanProcessor(exporter))
    yield exporter
    tracing.shutdown()


def test_without_a_collector_nothing_is_traced() -> None:
    tracing.configure("worker", "", 1.0)
    headers: dict[str, str] = {}
    with tracing.span("submit", headers={"traceparent": PARENT}):
        tracing.inject(headers)
        assert tracing.current_trace_id() is None
    assert headers == {}
    tracing.shutdown()


def test_a_span_continues_the_trace_of_the_headers(spans: InMemorySpanExporter) -> None:
    headers: dict[str, str] = {}
    with tracing.span("submit", headers={"Traceparent": PARENT}, attributes={"lane": "express"}):
        tracing.inject(headers)
        assert tracing.current_trace_id() == TRACE_ID
    assert headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert headers["traceparent"] != PARENT
    (span,) = spans.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("submit", {"lane": "express"})
    assert span.resource.attributes["service.name"] == "tollwire-worker"


def test_outside_a_span_there_is_no_trace(spans: InMemorySpanExporter) -> None:
    assert tracing.current_trace_id() is None


def test_a_caller_that_decided_against_a_trace_is_followed(spans: InMemorySpanExporter) -> None:
    with tracing.span("submit", headers={"traceparent": PARENT[:-2] + "00"}):
        assert tracing.current_trace_id() == TRACE_ID
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("header", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_malformed_context_starts_a_trace_of_its_own(spans: InMemorySpanExporter, header: str) -> None:
    with tracing.span("submit", headers={"traceparent": header}):
        assert tracing.current_trace_id() not in (None, TRACE_ID, "0" * 32)


def test_a_collector_that_is_away_costs_no_more_than_the_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_MILLIS", 1)
    tracing.configure("worker", "http://127.0.0.1:9", 1.0)
    assert tracing.current_trace_id() is None
    tracing.shutdown()
