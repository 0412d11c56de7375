"""What makes spans and sends them: OpenTelemetry's SDK, imported only while tracing is on.

Who is sampled is decided here, before a span is made, so the SDK keeps every span that it is asked for.
"""

import os
import random
import re
import socket
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import Counter

from shared.runtime.otel_settings import OtelSettings
from shared.runtime.redaction import clean
from shared.runtime.tracing import Attributes, Kind

# How long the spans of the last seconds may take to leave when the process stops.
FLUSH_MILLIS: Final = 2000
# Failures without a sampled trace that are recorded, of each process: a carrier that is down must not
# make a span a message. Ten a second tell an operator as much as a thousand.
ERRORS_PER_SECOND: Final = 10.0
ERRORS_BURST: Final = 100.0

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
# The share of traces is decided by the lower half of the id, as OpenTelemetry's own sampler does.
_LOW_BITS: Final = 2**64 - 1

SPANS: Final = Counter("tollwire_trace_spans_total", "Spans made")
UNTOLD: Final = Counter("tollwire_trace_errors_untold_total", "Errors beyond the limit that got no span")

_log = structlog.get_logger(__name__)


class _Ids(RandomIdGenerator):
    """Random ids, but for a trace that is named."""

    wanted: int | None = None

    def generate_trace_id(self) -> int:
        """The trace that is named, else a new one."""
        return self.wanted or super().generate_trace_id()


class Recorder:
    """Makes spans. Only for the event loop's thread; sending is a thread's of its own."""

    def __init__(self, service: str, settings: OtelSettings, exporter: SpanExporter | None) -> None:
        self._settings = settings
        self._ids = _Ids()
        self._errors_left = ERRORS_BURST
        self._errors_at = time.monotonic()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(service), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(_processor(exporter))
        self._tracer = self._provider.get_tracer("tollwire", version("tollwire"))

    def decide(self, traceparent: str | None) -> tuple[trace.SpanContext | None, bool]:
        """Return the caller's context, if it sent one that is right, and whether to record the request."""
        parent = parse(traceparent) if traceparent else None
        settings = self._settings
        if parent is not None and settings.is_parent_based:
            return parent, parent.trace_flags.sampled
        if parent is not None:
            return parent, parent.trace_id & _LOW_BITS < settings.ratio * _LOW_BITS
        return None, random.random() < settings.ratio  # noqa: S311 - picks samples, keeps no secret

    def may_tell_error(self, failure: str = "error") -> bool:
        """Whether a failure without a sampled trace may still be recorded; False for no failure."""
        if not failure:
            return False
        now = time.monotonic()
        refilled = self._errors_left + (now - self._errors_at) * ERRORS_PER_SECOND
        self._errors_left, self._errors_at = min(refilled, ERRORS_BURST), now
        if self._errors_left < 1:
            UNTOLD.inc()
            return False
        self._errors_left -= 1
        return True

    def start(
        self,
        name: str,
        kind: Kind,
        *,
        parent: trace.SpanContext | None = None,
        trace_id: int | None = None,
        attributes: Attributes | None = None,
        links: Sequence[trace.SpanContext] = (),
        start_ns: int | None = None,
    ) -> trace.Span:
        """Begin a span: below ``parent``, else as a root of the trace ``trace_id``, else of a new one."""
        SPANS.inc()
        self._ids.wanted = trace_id
        span = self._tracer.start_span(
            name,
            context=Context()
            if parent is None
            else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context()),
            kind=trace.SpanKind[kind.upper()],
            attributes={key: clean(value, key=key) for key, value in (attributes or {}).items()},
            links=[trace.Link(context) for context in links],
            start_time=start_ns,
        )
        self._ids.wanted = None
        return span

    def end(self, span: trace.Span, failure: str = "", end_ns: int | None = None) -> None:
        """End a span, as an error if there is one."""
        if failure:
            span.set_attribute("error.type", clean(failure))
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.force_flush(FLUSH_MILLIS)
        self._provider.shutdown()


def remote(trace_id: int, span_id: int) -> trace.SpanContext:
    """The context of a sampled span of another process."""
    return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(_SAMPLED))


def parse(traceparent: str) -> trace.SpanContext | None:
    """Read a ``traceparent``; None when it is not right, as if there were none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = trace.SpanContext(
        int(found[2], 16), int(found[3], 16), is_remote=True, trace_flags=trace.TraceFlags(int(found[4], 16))
    )
    return context if context.is_valid else None


def _resource(service: str) -> Resource:
    own = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or f"tollwire-{service}",
        "service.namespace": "tollwire",
        "service.version": version("tollwire"),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    return Resource.create(own)


def _processor(exporter: SpanExporter | None) -> BatchSpanProcessor | SimpleSpanProcessor:
    if exporter is not None:
        return SimpleSpanProcessor(exporter)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())
