"""The trace of a message after its submit: receipts and callbacks, linked to the request that sent it.

They come minutes or days later, in other processes, so they stand in the message's own trace, whose id is
the message's; the link leads to the span that accepted it. They are gathered and looked up together.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from dlr.store import CallbackWork, Settled
from shared.domain.callbacks import Outcome, Posted, is_success
from shared.events.traces import Traced
from shared.runtime import tracing
from shared.runtime.loops import Stop
from shared.runtime.postgres import Pool
from shared.storage.traces import load_traces

# After the API has kept its spans (api/traces.py), also when a carrier's receipt comes at once.
TELL_EVERY_SECONDS: Final = 1.0
# Some seconds of the peak; beyond it spans are lost, no more.
TOLD_MAX: Final = 20_000
NANOS_PER_MS: Final = 1_000_000


class _Told(NamedTuple):
    name: str
    kind: tracing.Kind
    subject: str
    start_ns: int
    end_ns: int
    failure: str
    attributes: tracing.Attributes


_told: list[_Told] = []

_log = structlog.get_logger(__name__)


def settled(answers: Sequence[Settled], start_ns: int) -> None:
    """Tell what a flush of receipts did."""
    end_ns = time.time_ns()
    for answer in answers:
        if answer.message_id is not None:
            about = {"tollwire.receipt": answer.outcome, "tollwire.state": answer.state or ""}
            _add(_Told("settle receipt", "consumer", answer.message_id.hex, start_ns, end_ns, "", about))


def called_back(work: CallbackWork, outcome: Outcome) -> None:
    """Tell that a callback was tried."""
    if work.message_id is None:
        return
    end_ns = time.time_ns()
    about: dict[str, str | int] = {
        "tollwire.callback.id": str(work.callback_id),
        "tollwire.event": work.event_type or "",
        "tollwire.attempt": work.attempts + 1,
    }
    failure = ""
    if isinstance(outcome, Posted):
        about["http.response.status_code"] = outcome.status
        failure = "" if is_success(outcome) else str(outcome.status)
    else:
        failure = outcome.reason.value
    start_ns = end_ns - outcome.duration_ms * NANOS_PER_MS
    _add(_Told("POST callback", "client", work.message_id.hex, start_ns, end_ns, failure, about))


def _add(told: _Told) -> None:
    if len(_told) < TOLD_MAX:
        _told.append(told)


async def run(pool: Pool, stop: Stop) -> None:
    """Record what is told, until the stop; nothing while tracing is off."""
    while not await stop.wait(TELL_EVERY_SECONDS if tracing.is_on else None):
        await tell(pool)
    await tell(pool)


async def tell(pool: Pool) -> None:
    """Record what was told of sampled messages, and every failure."""
    global _told
    told, _told = _told, []
    if not told:
        return
    traced: dict[str, Traced] = {}
    try:
        traced |= await load_traces(pool, list({one.subject for one in told}))
    except Exception as error:  # noqa: BLE001 - spans are lost, and nothing else
        _log.info("traces not loaded", messages=len(told), error=type(error).__name__)
    for one in told:
        origin = traced.get(one.subject)
        tracing.tell(
            one.name,
            one.kind,
            one.subject,
            start_ns=one.start_ns,
            end_ns=one.end_ns,
            failure=one.failure,
            attributes=one.attributes,
            link=None if origin is None else tracing.remote(origin.trace_id, origin.span_id),
        )
