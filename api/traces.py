"""The trace of a message from its request to the bundle: which span accepted it, and which one sent it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import structlog

from api.store import AcceptAnswer, AcceptItem
from shared.events.bundles import Bundle
from shared.events.traces import Traced, write_traces
from shared.runtime import tracing
from shared.runtime.loops import Stop
from shared.runtime.postgres import Pool
from shared.storage.traces import keep_traces

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

# Seldom enough to cost nothing, soon enough to be there before the receipt is looked up.
KEEP_EVERY_SECONDS: Final = 0.2
# With one request in a hundred sampled it is the traffic of minutes; beyond it links are lost, no more.
KEEP_MAX: Final = 10_000

_NOTHING: Final[AbstractContextManager[dict[str, str]]] = nullcontext({})
_kept: list[Traced] = []

_log = structlog.get_logger(__name__)


def accepted(items: Sequence[AcceptItem], answers: Sequence[AcceptAnswer]) -> None:
    """Keep, soon, the spans that accepted the sampled messages of a flush."""
    for item, answer in zip(items, answers, strict=True):
        subject = item.message_id.hex
        context = tracing.context_of(subject)
        if context is not None and answer.outcome == "accepted" and len(_kept) < KEEP_MAX:
            _kept.append(Traced(subject, context.trace_id, context.span_id))


def send(bundle: Bundle, parents: "dict[str, SpanContext]") -> AbstractContextManager[dict[str, str]]:
    """Return a context manager around a bundle's publish, which gives the headers that carry its traces.

    Args:
        bundle: what is published.
        parents: the spans that accepted those of its messages that are traced, by message.
    """
    return _send(bundle, parents) if tracing.is_on else _NOTHING


@contextmanager
def _send(bundle: Bundle, parents: "dict[str, SpanContext]") -> Iterator[dict[str, str]]:
    subject = f"sms.send.{bundle.lane}"
    about: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.operation.name": "send",
        "messaging.destination.name": subject,
        "messaging.batch.message_count": len(bundle.work),
    }
    with tracing.group(f"send {subject}", "producer", parents, about) as work:
        sent = [] if work is None else zip(work.subjects, work.spans, strict=True)
        spans = [(id_, span.get_span_context()) for id_, span in sent]
        yield write_traces([Traced(id_, context.trace_id, context.span_id) for id_, context in spans])


async def run(pool: Pool, stop: Stop) -> None:
    """Keep spans until the stop; nothing while tracing is off."""
    while not await stop.wait(KEEP_EVERY_SECONDS if tracing.is_on else None):
        await keep(pool)
    await keep(pool)


async def keep(pool: Pool) -> None:
    """Write what was kept. What the database does not take is forgotten."""
    global _kept
    kept, _kept = _kept, []
    if not kept:
        return
    try:
        await keep_traces(pool, kept)
    except Exception as error:  # noqa: BLE001 - links of traces are lost, and nothing else
        _log.info("traces not kept", traces=len(kept), error=type(error).__name__)
