"""Tracing: nothing while it is off, W3C contexts while it is on, errors always."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared.runtime import tracing
from shared.runtime.batcher import Batcher
from shared.runtime.otel import ERRORS_BURST
from shared.runtime.otel_settings import read_otel
from shared.runtime.settings import SettingsError

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
SUBJECT = "01890a5d" * 4
NEVER = {"OTEL_TRACES_SAMPLER_ARG": "0"}
ALWAYS = {"OTEL_TRACES_SAMPLER_ARG": "1"}


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Nothing is sampled but what its caller asks for."""
    yield from on(NEVER)


@pytest.fixture
def exporter_of_all() -> Iterator[InMemorySpanExporter]:
    yield from on(ALWAYS)


def on(environ: Mapping[str, str]) -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    tracing.configure("api", environ, exporter=made)
    yield made
    tracing.shutdown()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def answer(headers: Mapping[str, str], status: int = 202, *subjects: str) -> None:
    with tracing.request("POST /v1/messages", headers, "request-1") as trace:
        for subject in subjects:
            tracing.follow(subject)
        trace.status = status


def test_without_a_collector_nothing_is_traced() -> None:
    tracing.configure("worker", {})
    assert not tracing.is_on
    with tracing.request("x", {"traceparent": PARENT}) as trace:
        tracing.follow(SUBJECT)
        trace.status = 500
        assert tracing.current_trace_id() is None
    assert tracing.context_of(SUBJECT) is None


def test_a_sampled_callers_trace_goes_on(exporter) -> None:
    answer({"traceparent": PARENT})
    (span,) = exporter.get_finished_spans()
    assert trace_of(span) == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert span.attributes == {"tollwire.request.id": "request-1", "http.response.status_code": 202}


@pytest.mark.parametrize("headers", [{}, {"traceparent": UNSAMPLED}, {"traceparent": "rubbish"}])
def test_what_is_not_sampled_makes_no_span_unless_it_fails(exporter, headers) -> None:
    answer(headers, 202)
    answer(headers, 422)
    assert exporter.get_finished_spans() == ()
    answer(headers, 500)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (trace_of(span) == TRACE_ID) is (headers.get("traceparent") == UNSAMPLED)


def test_an_exception_is_an_error_and_goes_on(exporter) -> None:
    with pytest.raises(RuntimeError), tracing.request("x", {}):
        raise RuntimeError
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "RuntimeError"


@pytest.mark.parametrize(
    "header",
    [
        "rubbish",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"{PARENT}-more",
    ],
)
def test_a_malformed_traceparent_begins_a_trace_of_our_own(exporter_of_all, header) -> None:
    answer({"traceparent": header})
    (span,) = exporter_of_all.get_finished_spans()
    assert span.parent is None
    assert trace_of(span) != TRACE_ID


def test_a_followed_subject_has_its_requests_context_until_the_end(exporter) -> None:
    with tracing.request("x", {"traceparent": PARENT}):
        tracing.follow(SUBJECT)
        context = tracing.context_of(SUBJECT)
        assert context is not None
        assert f"{context.trace_id:032x}" == TRACE_ID == tracing.current_trace_id()
    assert tracing.context_of(SUBJECT) is None
    assert tracing.current_trace_id() is None


def test_a_group_gives_each_subject_a_span_of_its_own(exporter) -> None:
    other = "ff" * 16
    parents = {SUBJECT: tracing.remote(1, 2), other: tracing.remote(3, 4)}
    with tracing.group("process", "consumer", parents, {"messaging.system": "nats"}) as work:
        assert work is not None
        tracing.tell("submit", "client", SUBJECT, start_ns=1)
        tracing.tell("submit", "client", "aa" * 16, start_ns=1)
    found = [(span.name, trace_of(span)) for span in exporter.get_finished_spans()]
    assert found == [("submit", f"{1:032x}"), ("process", f"{1:032x}"), ("process", f"{3:032x}")]
    assert tracing.context_of(SUBJECT) is None


def test_after_a_group_its_subject_is_its_requests_again(exporter) -> None:
    with tracing.request("x", {"traceparent": PARENT}):
        tracing.follow(SUBJECT)
        context = tracing.context_of(SUBJECT)
        assert context is not None
        with tracing.group("send", "producer", {SUBJECT: context}, {}):
            assert tracing.context_of(SUBJECT) != context
        assert tracing.context_of(SUBJECT) == context


async def test_a_group_that_outlives_its_request_leaves_nothing_followed(exporter) -> None:
    """A bundle is published beside the answer, and often after it."""
    may_end = asyncio.Event()

    async def send() -> None:
        context = tracing.context_of(SUBJECT)
        assert context is not None
        with tracing.group("send", "producer", {SUBJECT: context}, {}):
            await may_end.wait()

    with tracing.request("x", {"traceparent": PARENT}):
        tracing.follow(SUBJECT)
        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
    may_end.set()
    await sending
    assert tracing.context_of(SUBJECT) is None


def test_a_group_that_raises_is_an_error_of_each(exporter) -> None:
    parents = {SUBJECT: tracing.remote(1, 2)}
    with pytest.raises(RuntimeError), tracing.group("process", "consumer", parents, {}):
        raise RuntimeError
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


def test_a_failure_of_an_unsampled_subject_stands_in_the_trace_of_its_id(exporter) -> None:
    tracing.tell("submit", "client", SUBJECT, start_ns=1)
    tracing.tell("submit", "client", SUBJECT, start_ns=1, failure="refused")
    tracing.tell("callback", "client", SUBJECT, start_ns=1, failure="500")
    assert {trace_of(span) for span in exporter.get_finished_spans()} == {SUBJECT}
    assert len(exporter.get_finished_spans()) == 2


def test_a_flood_of_failures_makes_no_flood_of_spans(exporter) -> None:
    for _ in range(int(ERRORS_BURST) * 3):
        tracing.tell("submit", "client", SUBJECT, start_ns=1, failure="refused")
    assert ERRORS_BURST <= len(exporter.get_finished_spans()) < ERRORS_BURST * 2


def test_what_is_linked_is_recorded_in_its_own_trace(exporter) -> None:
    tracing.tell("settle", "consumer", SUBJECT, start_ns=5, end_ns=9, link=tracing.remote(1, 2))
    (span,) = exporter.get_finished_spans()
    assert trace_of(span) == SUBJECT
    assert [link.context.span_id for link in span.links] == [2]
    assert (span.start_time, span.end_time) == (5, 9)


async def test_a_flush_hangs_below_the_first_of_its_items_and_is_linked_to_all(exporter) -> None:
    go = asyncio.Event()

    async def flush(items: Sequence[int]) -> Sequence[int]:
        await go.wait()
        return items

    async def ask(item: int, headers: Mapping[str, str]) -> None:
        with tracing.request(f"request {item}", headers):
            await batcher.submit(item)

    async with Batcher(flush, name="accept", batch_max=10, queue_max=10) as batcher:
        asked = [asyncio.create_task(ask(0, {}))]
        await asyncio.sleep(0)  # the first flush takes it alone
        asked += [asyncio.create_task(ask(number, {"traceparent": PARENT})) for number in (1, 2)]
        asked.append(asyncio.create_task(ask(3, {})))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*asked)
    found = spans(exporter)
    assert set(found) == {"request 1", "request 2", "flush accept"}
    first, second, flushed = (found[name] for name in ("request 1", "request 2", "flush accept"))
    assert flushed.parent is not None
    assert first.context is not None
    assert second.context is not None
    assert flushed.parent.span_id == first.context.span_id
    assert [link.context.span_id for link in flushed.links] == [first.context.span_id, second.context.span_id]
    assert dict(flushed.attributes or {})["messaging.batch.message_count"] == 3


async def test_a_flush_that_fails_is_recorded_without_a_sampled_item(exporter) -> None:
    async def flush(items: Sequence[int]) -> Sequence[int]:
        raise RuntimeError

    async with Batcher(flush, name="record", batch_max=10, queue_max=10) as batcher:
        with pytest.raises(RuntimeError):
            await batcher.submit(1)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.status_code) == ("flush record", StatusCode.ERROR)


def test_no_text_and_no_number_stand_on_a_span(exporter) -> None:
    attributes = {"text": "secret words", "detail": "no such number +4915112345678"}
    tracing.tell("x", "client", SUBJECT, start_ns=1, failure="+4915112345678", attributes=attributes)
    shown = str(dict(exporter.get_finished_spans()[0].attributes or {}))
    assert "secret words" not in shown
    assert "12345678" not in shown


@pytest.mark.parametrize(
    ("environ", "ratio", "is_parent_based"),
    [
        ({}, 0.01, True),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, 1.0, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0.0, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, 0.5, False),
    ],
)
def test_samplers_are_opentelemetrys(environ, ratio, is_parent_based) -> None:
    settings = read_otel(environ)
    assert (settings.ratio, settings.is_parent_based, settings.is_wanted) == (ratio, is_parent_based, False)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_endpoint_turns_tracing_on_and_a_switch_off(name) -> None:
    environ = {name: "http://collector:4318"}
    assert read_otel(environ).is_wanted
    assert not read_otel({**environ, "OTEL_SDK_DISABLED": "true"}).is_wanted
    assert not read_otel({**environ, "OTEL_TRACES_EXPORTER": "none"}).is_wanted


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "must be like http://collector:4318"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "must be one of always_on"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1 %"}, "must be a number from 0 to 1"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "must be http/protobuf",
        ),
    ],
)
def test_wrong_settings_are_named(environ, said) -> None:
    with pytest.raises(SettingsError, match=said):
        read_otel(environ)
