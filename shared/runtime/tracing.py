"""Traces by OpenTelemetry: off unless a collector is named, and then next to nothing a call.

The context travels as W3C ``traceparent`` (https://www.w3.org/TR/trace-context/) in the headers of HTTP
and of NATS.
"""

from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

# How long the spans of the last seconds may take to leave when the process stops.
FLUSH_MILLIS: Final = 2000
# A collector that is slower than this loses spans, never a message.
EXPORT_SECONDS: Final = 5

Attributes = Mapping[str, str | int | float | bool]

_propagator: Final = TraceContextTextMapPropagator()
_OFF: Final[AbstractContextManager[object]] = nullcontext()
_provider: "TracerProvider | None" = None
_tracer: trace.Tracer | None = None


def configure(
    service: str, endpoint: str, sample_ratio: float, *, processor: "SpanProcessor | None" = None
) -> None:
    """Send spans to the collector at ``endpoint``; an empty one leaves tracing off.

    ``sample_ratio`` is the share of requests that start a trace; a caller's own decision is followed.
    ``processor`` takes the spans instead of the exporter.
    """
    global _provider, _tracer  # noqa: PLW0603 - one tracer a process, as OpenTelemetry itself has it
    if not endpoint and processor is None:
        return
    # Imported only when wanted: a quarter of a second and 20 MB that most processes need not pay.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    _provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(sample_ratio),
        resource=Resource.create({"service.name": f"tollwire-{service}"}),
        shutdown_on_exit=False,
    )
    if processor is None:
        exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_SECONDS)
        processor = BatchSpanProcessor(exporter)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("tollwire")


def shutdown() -> None:
    """Send what is left and turn tracing off."""
    global _provider, _tracer  # noqa: PLW0603 - one tracer a process
    if _provider is not None:
        _provider.force_flush(FLUSH_MILLIS)
        _provider.shutdown()
    _provider = _tracer = None


def span(
    name: str,
    *,
    headers: Mapping[str, str] | None = None,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> AbstractContextManager[object]:
    """Return a context manager around one piece of work, as a child of the trace in ``headers`` if given."""
    if _tracer is None:
        return _OFF
    parent = None if headers is None else _propagator.extract({k.lower(): v for k, v in headers.items()})
    return _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes)


def inject(headers: MutableMapping[str, str]) -> None:
    """Write the current context into the headers of an outgoing request or message."""
    if _tracer is not None:
        _propagator.inject(headers)


def exemplar() -> dict[str, str] | None:
    """Return the trace that an observation of a metric may name: the current one, if it is recorded."""
    if _tracer is None:
        return None
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None


def current_trace_id() -> str | None:
    """Return the current trace's id, 32 hex digits, or None outside a trace."""
    if _tracer is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
