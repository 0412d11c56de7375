"""How long things took: refused accepts, and the backlog after each fault. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault as it was carried out, in seconds since the epoch."""

    name: str
    struck_at: float
    healed_at: float


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a fault cost.

    Attributes:
        refused_seconds: the longest time without a single accept, from the strike to a while after the heal.
        failed_requests: requests in that time that got no definite word.
        backlog_seconds: from the heal until 99 % of what was open in between had come to its end.
        backlog_last_seconds: the same for the last one.
    """

    name: str
    refused_seconds: float
    failed_requests: int
    backlog_seconds: float
    backlog_last_seconds: float


# After the heal the client's own pauses (2 s) and a process's start belong to the fault.
AFTER_SECONDS = 15.0


def longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """The longest time within [start, end] in which nothing happened. ``times`` are sorted."""
    inside = [start, *(at for at in times if start < at < end), end]
    return max((after - before for before, after in pairwise(inside)), default=0.0)


def accepts(evidence: Evidence) -> list[float]:
    """When each message was accepted, sorted."""
    return sorted(message.accepted_at for message in evidence.messages.values())


def aftermaths(
    evidence: Evidence, strikes: Iterable[Strike], load_ended_at: float, *, is_timed: bool = True
) -> list[Aftermath]:
    """Measure each fault; where backlogs are not timed, nothing is told of them."""
    accepted = accepts(evidence)
    ended = [
        (message.accepted_at, message.finals[0].at)
        for message in evidence.messages.values()
        if message.finals and is_timed
    ]
    doubts = sorted(doubt.at for doubt in evidence.doubts)
    return [_aftermath(strike, accepted, doubts, ended, load_ended_at) for strike in strikes]


def _aftermath(
    strike: Strike,
    accepted: Sequence[float],
    doubts: Sequence[float],
    ended: Sequence[tuple[float, float]],
    load_ended_at: float,
) -> Aftermath:
    until = min(strike.healed_at + AFTER_SECONDS, load_ended_at)
    waits = sorted(
        max(final_at - strike.healed_at, 0.0)
        for accepted_at, final_at in ended
        if accepted_at <= strike.healed_at and final_at >= strike.struck_at
    )
    return Aftermath(
        strike.name,
        longest_gap(accepted, strike.struck_at, until) if until > strike.struck_at else 0.0,
        sum(strike.struck_at <= at <= strike.healed_at for at in doubts),
        waits[int(len(waits) * 0.99)] if waits else 0.0,
        waits[-1] if waits else 0.0,
    )
