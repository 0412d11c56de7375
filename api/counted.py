"""What is counted of requests, and of messages that ask to be accepted: these once a flush."""

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Gauge

from api.store import AcceptAnswer, AcceptItem
from shared.domain.problems import ProblemCode
from shared.runtime.metrics import SECONDS_BUCKETS, BulkHistogram, SwiftCounter
from shared.runtime.statistics import Watched

REQUESTS: Final = SwiftCounter(
    "tollwire_http_requests_total", "Requests, by what answered", ["route", "method", "code"]
)
REFUSALS: Final = Counter("tollwire_http_refusals_total", "Refusals, by the problem's code", ["code"])
IN_FLIGHT: Final = Gauge("tollwire_http_requests_in_flight", "Requests that have no answer yet")
DURATION: Final = BulkHistogram(
    "tollwire_http_request_duration_seconds",
    "From the request's head read to its answer made",
    ["route", "method"],
    buckets=SECONDS_BUCKETS,
)
ACCEPTED: Final = Counter(
    "tollwire_messages_accepted_total",
    "Messages accepted; dispatch says whether they may go now or wait for their time or pace",
    ["lane", "encoding", "dispatch"],
)
SEGMENTS: Final = Counter(
    "tollwire_segments_accepted_total", "Segments of accepted messages: what is billed", ["lane", "encoding"]
)
HOLDS: Final = Counter(
    "tollwire_credit_holds_total",
    "Holds asked for: held, replayed, insufficient, refused (for another reason), busy, error",
    ["result"],
)
HELD: Final = Counter("tollwire_credit_held_micros_total", "Credit held by accepted messages", ["currency"])

# What probes ask says nothing of what the process does.
_NO_PROBES: Final = {"route": frozenset({"/healthz", "/startupz", "/readyz"})}
WATCHED: Final = (
    Watched("requests", REQUESTS, by="code", without=_NO_PROBES),
    Watched("request", DURATION, without=_NO_PROBES),
    Watched("accepted", ACCEPTED, by="lane"),
    Watched("refused", REFUSALS, by="code"),
)

_REPLAYED: Final = ("replayed", "refused_before")


def count_flush(items: Sequence[AcceptItem], answers: Sequence[AcceptAnswer]) -> None:
    """Count what a flush decided."""
    groups: dict[tuple[str, str, bool, str], list[int]] = {}
    others: Tally[str] = Tally()
    for item, answer in zip(items, answers, strict=True):
        if answer.outcome != "accepted":
            others[_result(answer)] += 1
            continue
        group = groups.setdefault((item.lane, item.encoding, answer.dispatch_now, item.currency), [0, 0, 0])
        group[0] += 1
        group[1] += item.segments
        group[2] += item.amount_micros
    for (lane, encoding, is_now, currency), (messages, segments, micros) in groups.items():
        ACCEPTED.labels(lane, encoding, "now" if is_now else "later").inc(messages)
        SEGMENTS.labels(lane, encoding).inc(segments)
        HOLDS.labels("held").inc(messages)
        HELD.labels(currency).inc(micros)
    for result, count in others.items():
        HOLDS.labels(result).inc(count)


def _result(answer: AcceptAnswer) -> str:
    if answer.outcome in _REPLAYED:
        return "replayed"
    return "insufficient" if answer.problem == ProblemCode.INSUFFICIENT_CREDIT else "refused"
