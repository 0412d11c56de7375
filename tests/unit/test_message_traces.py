"""The trace of a message across its processes: headers beside a bundle, the carrier's call, callbacks."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.domain.alphabet import Encoding
from shared.events.traces import Traced, read_traces, write_traces
from shared.runtime import tracing
from worker import traces
from worker.carriers.base import (
    BUSY,
    FREELY,
    Handover,
    Outcome,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Uncertain,
)

ONE = Traced("01890a5d" * 4, 2**127 + 1, 2**63 + 5)
OTHER = Traced("ff" * 16, 1, 1)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    tracing.configure("worker", {"OTEL_TRACES_SAMPLER_ARG": "0"}, exporter=made)
    yield made
    tracing.shutdown()


def test_what_is_written_beside_a_bundle_is_read_again() -> None:
    headers = write_traces([ONE, OTHER])
    assert read_traces(headers) == [ONE, OTHER]
    assert headers["traceparent"] == f"00-{ONE.trace_id:032x}-{ONE.span_id:016x}-01"
    assert write_traces([]) == {}


@pytest.mark.parametrize("text", ["", "rubbish", "x" * 10_000, f"{OTHER.message_id}-zz-1"])
def test_a_malformed_header_is_no_trace(text) -> None:
    assert read_traces({"Tollwire-Traces": text}) == []


class Carrier:
    """Answers each submission with the outcome at its position."""

    name = "example"
    at_once_max = 1

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = outcomes

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        return list(self._outcomes[: len(submissions)])

    def turn_away(self) -> None:
        """Nothing waits."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


def submission(number: int) -> Submission:
    id_ = UUID(int=number)
    return Submission(id_, 1, 1, "+4915112345678", "ACME", "Hello", Encoding.GSM7, 1, 60, 15.0, 30.0, 0.0)


async def test_only_failed_submits_of_unsampled_messages_are_told(exporter) -> None:
    busy = Refused(BUSY, "", permanent=False, is_ours=True)
    its_own = Refused(BUSY, "", permanent=False)
    outcomes = (
        Submitted("r1"),
        Refused("blocked", "", permanent=True),
        Throttled(1.0),
        Uncertain("lost"),
        busy,
        its_own,
    )
    answers = await traces.submit("example", Carrier(*outcomes), [submission(n) for n in range(1, 7)], FREELY)
    assert answers == list(outcomes)
    told = {
        span.context.trace_id: dict(span.attributes or {})["error.type"]
        for span in exporter.get_finished_spans()
        if span.context is not None
    }
    assert told == {2: "blocked", 4: "outcome_unknown", 6: BUSY}


@pytest.mark.parametrize(
    "code", ["no such number 491511234567", "+4915112345678", "Hello you", "x" * 41, "491511234567"]
)
async def test_a_carriers_code_that_is_no_plain_word_is_not_repeated(exporter, code) -> None:
    await traces.submit("example", Carrier(Refused(code, "", permanent=True)), [submission(1)], FREELY)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "refused"


async def test_a_sampled_message_has_its_submit_below_the_bundle_that_brought_it(exporter) -> None:
    traced = Traced(UUID(int=1).hex, 77, 88)
    with tracing.group("process", "consumer", {traced.message_id: tracing.remote(77, 88)}, {}):
        await traces.submit(
            "example", Carrier(Submitted("r1"), Submitted("r2")), [submission(1), submission(2)], FREELY
        )
    submit, process = exporter.get_finished_spans()
    assert submit.parent is not None
    assert process.context is not None
    assert submit.parent.span_id == process.context.span_id
    assert process.context.trace_id == 77
