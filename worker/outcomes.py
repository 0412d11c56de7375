"""What became of submits, in the words of the metrics."""

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter

from worker.carriers.base import BUSY, UNREACHABLE, Outcome, Refused

# "failed" may go better the next time, "refused" never: the message is at fault, not the carrier. "busy" was
# not written: no connection was free in time, the breaker opened first, or it was given back.
OUTCOMES: Final = Counter(
    "tollwire_submits_total",
    "Submits by outcome: submitted, refused (for ever), failed, unreachable, busy, throttled, uncertain",
    ["carrier", "outcome"],
)

# Refusals that are ours, by their codes.
_OWN_KINDS: Final = {UNREACHABLE: "unreachable", BUSY: "busy"}


def count_outcomes(carrier: str, outcomes: Sequence[Outcome]) -> bool:
    """Count what became of some at a carrier. Return True when it took all of them."""
    kinds = Tally(map(_kind, outcomes))
    for kind, number in kinds.items():
        OUTCOMES.labels(carrier, kind).inc(number)
    return kinds.keys() == {"submitted"}


def _kind(outcome: Outcome) -> str:
    """Return the outcome in the metric's word."""
    if not isinstance(outcome, Refused):
        return type(outcome).__name__.lower()
    if outcome.is_ours:
        return _OWN_KINDS[outcome.code]
    return "refused" if outcome.permanent else "failed"
