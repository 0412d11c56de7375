"""Traces by OpenTelemetry: off unless a collector is named, and then one look at a flag (docs/adr).

What is worked on has a subject: an id of 32 hex digits. While a sampled subject is in hand, its span
stands in a table here, and every stage hangs its own span below it. What is not sampled makes no span at
all; only if it ends in an error, one is made afterwards, in the trace whose id is the subject's. So every
process writes a subject's errors into the same trace, and none has to carry anything for that.

The context travels as W3C ``traceparent`` (https://www.w3.org/TR/trace-context/).
"""

import os
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanContext

    from shared.runtime.otel import Recorder

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]
T = TypeVar("T")

# From here on an answer is our fault, and always recorded.
SERVER_ERROR: Final = 500
# A flush of hundreds names so many of those that it was for: OpenTelemetry's own limit of links.
LINKS_MAX: Final = 128


class Work:
    """What a task works for: the span of a request, or those of a group of subjects."""

    __slots__ = ("spans", "subjects")

    def __init__(self, spans: "Sequence[Span]", subjects: Iterable[str] = ()) -> None:
        self.spans = spans
        self.subjects = list(subjects)


# The one flag that the hot path looks at.
is_on = False
_recorder: "Recorder | None" = None
_current: ContextVar[Work | None] = ContextVar("work", default=None)
_followed: "dict[str, Span]" = {}


def configure(
    service: str, environ: Mapping[str, str] | None = None, *, exporter: "SpanExporter | None" = None
) -> None:
    """Turn tracing on if the environment names a collector (OTEL_EXPORTER_OTLP_ENDPOINT).

    ``exporter`` takes the spans instead, each at once.

    Raises:
        SettingsError: an OTEL_ variable is wrong.
    """
    global _recorder, is_on  # noqa: PLW0603 - one tracer a process, as OpenTelemetry itself has it
    from shared.runtime.otel_settings import read_otel

    settings = read_otel(os.environ if environ is None else environ)
    if not settings.is_wanted and exporter is None:
        return
    # Imported only when wanted: a quarter of a second and 20 MB that most processes need not pay.
    from shared.runtime.otel import Recorder

    _recorder = Recorder(service, settings, exporter)
    is_on = True


def shutdown() -> None:
    """Send what is left and turn tracing off."""
    global _recorder, is_on  # noqa: PLW0603 - one tracer a process
    is_on = False
    _followed.clear()
    if _recorder is not None:
        _recorder.close()
    _recorder = None


def current() -> Work | None:
    """What this task works for, if it is sampled."""
    return _current.get()


def exemplar() -> dict[str, str] | None:
    """Return the trace that an observation of a metric may name: the current one, if it is recorded."""
    trace_id = current_trace_id()
    return None if trace_id is None else {"trace_id": trace_id}


def current_trace_id() -> str | None:
    """Return the current trace's id, 32 hex digits, or None outside a sampled trace."""
    work = _current.get() if is_on else None
    return f"{work.spans[0].get_span_context().trace_id:032x}" if work is not None else None


def follow(subject: str) -> None:
    """Count a subject to the request that is being answered, until its end."""
    work = _current.get()
    if work is not None:
        _followed[subject] = work.spans[0]
        work.subjects.append(subject)


def context_of(subject: str) -> "SpanContext | None":
    """The context of a sampled subject that is in hand; None for all others."""
    span = _followed.get(subject)
    return None if span is None else span.get_span_context()


class _Off:
    """Stands for a request while tracing is off."""

    __slots__ = ("status",)
    status: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was begun."""


class _Request:
    """A request that is sampled, or gets its span only if it fails."""

    __slots__ = ("_name", "_parent", "_recorder", "_request_id", "_started_ns", "_token", "_work", "status")
    _token: Token[Work | None]

    def __init__(self, recorder: "Recorder", name: str, headers: Mapping[str, str], request_id: str) -> None:
        self.status = 0
        self._recorder = recorder
        self._name = name
        self._request_id = request_id
        self._started_ns = time.time_ns()
        self._parent, is_sampled = recorder.decide(headers.get("traceparent"))
        self._work = Work([self._start()]) if is_sampled else None

    def _start(self) -> "Span":
        about = {"tollwire.request.id": self._request_id} if self._request_id else {}
        return self._recorder.start(
            self._name, "server", parent=self._parent, attributes=about, start_ns=self._started_ns
        )

    def __enter__(self) -> Self:
        self._token = _current.set(self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        failure = type(error).__name__ if error is not None else ""
        if self.status >= SERVER_ERROR:
            failure = str(self.status)
        span = self._work.spans[0] if self._work is not None else None
        if span is None and failure and self._recorder.may_tell_error():
            span = self._start()
        if self._work is not None:
            _forget(self._work)
        if span is None:
            return
        if self.status:
            span.set_attribute("http.response.status_code", self.status)
        self._recorder.end(span, failure)


_OFF: Final = _Off()


def request(name: str, headers: Mapping[str, str], request_id: str = "") -> _Off | _Request:
    """Return a context manager around a request that came in; tell it the ``status`` of the answer.

    A 5xx makes it an error.
    """
    if _recorder is None:
        return _OFF
    return _Request(_recorder, name, headers, request_id)


@contextmanager
def group(
    name: str, kind: Kind, parents: "Mapping[str, SpanContext]", attributes: Attributes
) -> "Iterator[Work | None]":
    """Work on sampled subjects together: each gets a span of its own below its parent, which ends with all.

    None are followed by nobody. An exception makes each of them an error.
    """
    if _recorder is None or not parents:
        yield None
        return
    recorder = _recorder
    spans = [
        recorder.start(name, kind, parent=parent, attributes={**attributes, **_names(subject)})
        for subject, parent in parents.items()
    ]
    work = Work(spans, parents)
    before = {subject: _followed.get(subject) for subject in parents}
    _followed.update(zip(parents, spans, strict=True))
    token = _current.set(work)
    failure = ""
    try:
        yield work
    except BaseException as error:
        failure = type(error).__name__
        raise
    finally:
        _current.reset(token)
        _forget(work)
        for subject, outer in before.items():
            # Of a request that has ended meanwhile nobody would take it out again.
            if outer is not None and outer.is_recording():
                _followed[subject] = outer
        for span in spans:
            recorder.end(span, failure)


def tell(
    name: str,
    kind: Kind,
    subject: str,
    *,
    start_ns: int,
    end_ns: int | None = None,
    failure: str = "",
    attributes: Attributes | None = None,
    link: "SpanContext | None" = None,
) -> None:
    """Record a span that is over: below its subject's if that is in hand, else in the subject's own trace.

    Without a sampled subject, and without a ``link`` to one, only failures are recorded.
    """
    parent = context_of(subject)
    if _recorder is None or (parent is None and link is None and not _recorder.may_tell_error(failure)):
        return
    span = _recorder.start(
        name,
        kind,
        parent=parent,
        trace_id=None if parent is not None else int(subject, 16),
        attributes={**(attributes or {}), **_names(subject)},
        links=() if link is None else (link,),
        start_ns=start_ns,
    )
    _recorder.end(span, failure, end_ns)


async def flushed(name: str, works: Iterable[Work | None], flush: Awaitable[T]) -> T:
    """Await a flush for many, and record it if any of them is sampled: linked to each, below the first.

    The flush returns the error that it met, or None.
    """
    start_ns = time.time_ns()
    outcome = await flush
    failure = type(outcome).__name__ if isinstance(outcome, Exception) else ""
    spans: dict[int, SpanContext] = {}
    items = 0
    for work in works:
        items += 1
        for span in work.spans if work is not None else ():
            context = span.get_span_context()
            spans[context.span_id] = context
    recorder = _recorder
    if recorder is None or not (spans or recorder.may_tell_error(failure)):
        return outcome
    links = list(spans.values())[:LINKS_MAX]
    span = recorder.start(
        f"flush {name}",
        "internal",
        parent=links[0] if links else None,
        attributes={"messaging.batch.message_count": items},
        links=links,
        start_ns=start_ns,
    )
    recorder.end(span, failure)
    return outcome


def remote(trace_id: int, span_id: int) -> "SpanContext":
    """The context of a sampled span of another process. Only while tracing is on."""
    from shared.runtime.otel import remote as make

    return make(trace_id, span_id)


def _names(subject: str) -> dict[str, str]:
    return {"messaging.message.id": subject}


def _forget(work: Work) -> None:
    for subject in work.subjects:
        _followed.pop(subject, None)
