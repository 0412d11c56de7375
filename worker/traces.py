"""The trace of a message in the worker: from the bundle that brought it to the carrier's answer."""

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from shared.events.traces import read_traces
from shared.runtime import tracing
from shared.runtime.jetstream import Msg
from worker.carriers.base import Carrier, Handover, Outcome, Refused, Submission, Submitted, Uncertain

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()
# A carrier's code may be anything; what is no plain word, or could hold a number, is not repeated.
_WORD: Final = re.compile(r"(?!.*\d{7})[A-Za-z0-9_.-]{1,40}")


def bundles(lane: str, messages: Sequence[Msg]) -> AbstractContextManager[object]:
    """Return a context manager around the work on a group of bundles, from the fetch to the record."""
    if not tracing.is_on:
        return _NOTHING
    parents = {
        traced.message_id: tracing.remote(traced.trace_id, traced.span_id)
        for message in messages
        for traced in read_traces(message.headers)
    }
    subject = f"sms.send.{lane}"
    about = {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.destination.name": subject,
        "messaging.consumer.group.name": f"worker-{lane}",
    }
    return tracing.group(f"process {subject}", "consumer", parents, about)


async def submit(
    name: str, carrier: Carrier, submissions: Sequence[Submission], handover: Handover
) -> list[Outcome]:
    """Submit, and record the call of each message that is sampled, and of each that failed."""
    start_ns = time.time_ns()
    outcomes = await carrier.submit_many(submissions, handover)
    end_ns = time.time_ns()
    for submission, outcome in zip(submissions, outcomes, strict=True):
        subject = submission.message_id.hex
        failure = _failure(outcome)
        if not failure and tracing.context_of(subject) is None:
            continue
        about: dict[str, str | int] = {
            "tollwire.carrier": name,
            "tollwire.attempt": submission.attempt_no,
            "tollwire.outcome": type(outcome).__name__.lower(),
        }
        tracing.tell(
            f"submit {name}",
            "client",
            subject,
            start_ns=start_ns,
            end_ns=end_ns,
            failure=failure,
            attributes=about,
        )
    return outcomes


def _failure(outcome: Outcome) -> str:
    """A throttled submit is no failure, nor one that found no connection: it waits, and uses up no try."""
    match outcome:
        case Refused(code, is_busy=False):
            return code if _WORD.fullmatch(code) else "refused"
        case Uncertain():
            return "outcome_unknown"
        case Submitted() | _:
            return ""
