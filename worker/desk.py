"""One carrier as the worker sees it: its connection, its window, its pace, its health (RULES 16).

Whoever wants to claim takes places here first, so that no more is claimed than can be written at once.
"""

import itertools
import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge, Histogram

from shared.runtime import tracing
from shared.runtime.metrics import AGE_BUCKETS
from shared.storage.config import CarrierConfig
from worker import traces
from worker.carriers.base import (
    BUSY,
    UNREACHABLE,
    Carrier,
    Outcome,
    Refused,
    Submission,
    Throttled,
    Uncertain,
)
from worker.pace import RATE_MIN_PER_SECOND, Pace
from worker.share import Share
from worker.window import Window

# So many refused connections or messages without an answer in a row are a carrier that is down; then one
# message at a time finds out whether it is back. A lost answer may end its message: they must not go out by
# the window.
FAILURES_TO_OPEN: Final = 5
OPEN_SECONDS: Final = 5.0
# The messages whose answer was lost last: one that loses it again says something of itself, not of the
# carrier. So one of these may probe, for the carrier may be back, and one of the others beside it.
LOST_MAX: Final = 1_000
# A carrier that has not answered a submit for so long is slow.
SLOW_SECONDS: Final = 1.0
# So much of its places' time is the carrier's, if it is full. With less our own claims take three times as
# long as its answers: it is the database that is slow.
FULL_SHARE: Final = 0.25
# One to which nothing has gone for so long may hang; one that takes so many times less than a while ago is
# ill, and may be well again soon.
STEADY_SECONDS: Final = 5.0
ILL_FACTOR: Final = 4.0

# "failed" may go better the next time, "refused" never: the message is at fault, not the carrier. "busy" was
# not written: there are fewer connections than messages in the window, and the carrier is slow or hangs.
OUTCOMES: Final = Counter(
    "tollwire_submits_total",
    "Submits by outcome: submitted, refused (for ever), failed, unreachable, busy, throttled, uncertain",
    ["carrier", "outcome"],
)
IN_FLIGHT: Final = Gauge("tollwire_submits_in_flight", "Submits that wait for the carrier", ["carrier"])
DOWN: Final = Gauge("tollwire_carrier_down", "1 while a carrier's breaker is open", ["carrier"])
PLACES: Final = Gauge(
    "tollwire_carrier_window", "Places for messages at a carrier at once: used, max", ["carrier", "state"]
)

TURN_WAIT: Final = Histogram(
    "tollwire_carrier_turn_wait_seconds",
    "How long work waited for its turn at a carrier, for a place in its window or for its pace",
    ["carrier", "lane"],
    buckets=AGE_BUCKETS,
)

# Refusals that are ours, by their codes.
_OWN_KINDS: Final = {UNREACHABLE: "unreachable", BUSY: "busy"}

_log = structlog.get_logger(__name__)


class Probe(int):
    """The one place that a carrier that was down gives: whoever has just this one probes it."""


class Desk:
    """Places, pace and health of one open carrier."""

    def __init__(self, config: CarrierConfig, carrier: Carrier, lanes: Sequence[str]) -> None:
        self.config = config
        self._carrier = carrier
        self._pace = Pace(config.name, config.rate_per_second)
        self._window = Window(config.window_max, self._pace, lanes)
        self._in_flight = IN_FLIGHT.labels(config.name)
        self._turn_wait = {lane: TURN_WAIT.labels(config.name, lane).observe for lane in lanes}
        self._failures = 0
        self._open_until = 0.0
        self._lost: dict[UUID, None] = {}
        # From when a message that probes waits for its place until it is given back, whatever became of it.
        self._probe: Probe | None = None
        self._odd_probes = 0  # submits on their way that are probes of messages whose answer was lost before
        # When each submit that is not answered began, and of how many messages; the oldest first.
        self._unanswered: dict[int, tuple[float, int]] = {}
        self._submits = itertools.count()
        self._share = Share()
        DOWN.labels(config.name).set_function(lambda: float(self.is_down or self.has_odd_probe))
        PLACES.labels(config.name, "used").set_function(lambda: self._window.used)
        PLACES.labels(config.name, "max").set(config.window_max)

    @property
    def is_down(self) -> bool:
        """True while the breaker is open, and then while the one message that probes is on its way.

        Not while only one probes whose answer was lost before (``has_odd_probe``).
        """
        return self.is_broken() and (self._probe is not None or time.monotonic() < self._open_until)

    def is_broken(self) -> bool:
        """Return True until an answer closes the breaker."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def has_odd_probe(self) -> bool:
        """True while a message probes whose answer was lost before. No other such one may go."""
        return self.is_broken() and self._odd_probes > 0

    def is_odd(self, message_id: UUID) -> bool:
        """Return True when this message's answer was lost here before: lost again it proves nothing."""
        return message_id in self._lost

    def is_slow(self) -> bool:
        """Return True when what is here waits for the carrier: it is full, or has not answered for long."""
        at_carrier, seconds = self._longest()
        return self.is_full() or (at_carrier > 0 and seconds > SLOW_SECONDS)

    def is_full(self) -> bool:
        """Return True when what waits for places waits for the carrier, and not for our own claims.

        Its pace lets nothing go, or a good part of the places' time is with what it has not answered.
        """
        return self.rest_seconds > 0 or self._share.of_carrier() >= FULL_SHARE

    def _longest(self) -> tuple[int, float]:
        """How many messages the carrier has not answered, and since how long the first of them."""
        if not self._unanswered:
            return 0, 0.0
        oldest, _ = next(iter(self._unanswered.values()))
        return sum([number for _, number in self._unanswered.values()]), time.monotonic() - oldest

    @property
    def rest_seconds(self) -> float:
        """How long it takes nothing, by its pace."""
        return max(self._pace.ready_at - time.monotonic(), 0.0)

    @property
    def per_second(self) -> float:
        """How many messages the carrier takes a second, as far as is known; 1 at least.

        While its pace holds work up, that pace. Else what went of late, or what it has, by the time for which
        the first of that has waited: who is in such a line comes out of it in that time (Little's law). So a
        carrier that hangs is known to be slower each second.
        """
        if self.rest_seconds > 0:
            return self._pace.per_second
        at_carrier, seconds = self._longest()
        flow = max(self._pace.went_lately, at_carrier / max(seconds, SLOW_SECONDS), RATE_MIN_PER_SECOND)
        return min(flow, self._pace.rate or flow)

    def is_steady(self) -> bool:
        """Return True when ``per_second`` is what it takes for long: work goes, and about as before."""
        is_going = time.monotonic() - self._pace.went_at < STEADY_SECONDS
        known_per_second = self._pace.best_per_second or self._pace.rate
        return is_going and 0 < known_per_second < ILL_FACTOR * self.per_second

    async def take(self, lane: str, wanted: int) -> int:
        """Wait until some may be claimed, and return how many, 1 to ``wanted``; 0 when it is closed or down.

        It is no more than goes out in a second, and one, a ``Probe``, when that probes. ``give`` the same
        back, whatever became of it.
        """
        asked_at = time.monotonic()
        if self.is_down:
            return 0
        if self.is_broken():
            count = await self._take_probe(lane)
        else:
            count = await self._window.take(lane, wanted)
            self._share.note(taken=count)
            if self.is_broken():  # while it waited
                self.give(lane, count)
                return 0
        self._turn_wait[lane](time.monotonic() - asked_at)
        return count

    async def _take_probe(self, lane: str) -> int:
        probe = self._probe = Probe(1)
        count = 0
        try:
            count = await self._window.take(lane, probe)
            self._share.note(taken=count)
        finally:
            if not count:
                self._probe = None
        return probe if count else 0

    def give(self, lane: str, taken: int) -> None:
        """Give places back: those of one ``take``, as it returned them."""
        self._window.give(lane, taken)
        self._share.note(taken=-taken)
        if taken is self._probe:
            self._probe = None

    def close(self) -> None:
        """Turn away who waits and who comes, before they claim: they go to the desk that came after."""
        self._window.close()

    async def until_unused(self) -> None:
        """Wait until it is closed and whoever took places has submitted and given them back."""
        await self._window.until_empty()

    async def submit(self, submissions: Sequence[Submission], taken: int | None = None) -> list[Outcome]:
        """Submit in places that were taken, and learn from the answers."""
        started_at = time.monotonic()
        self._in_flight.inc(len(submissions))
        submit = next(self._submits)
        self._unanswered[submit] = (started_at, len(submissions))
        self._share.note(submitted=len(submissions))
        is_probe = taken is not None and taken is self._probe
        is_odd = is_probe and all(self.is_odd(one.message_id) for one in submissions)
        if is_odd:
            self._probe = None
        self._odd_probes += is_odd
        try:
            if tracing.is_on:
                outcomes = await traces.submit(self.config.name, self._carrier, submissions)
            else:
                outcomes = await self._carrier.submit_many(submissions)
        finally:
            self._in_flight.dec(len(submissions))
            del self._unanswered[submit]
            self._share.note(submitted=-len(submissions))
            self._odd_probes -= is_odd
        kinds = Tally(map(_kind, outcomes))
        for kind, count in kinds.items():
            OUTCOMES.labels(self.config.name, kind).inc(count)
        if kinds.keys() == {"submitted"}:
            self._answered()
        else:
            for submission, outcome in zip(submissions, outcomes, strict=True):
                self._learn(submission.message_id, outcome)
        return outcomes

    def _learn(self, message_id: UUID, outcome: Outcome) -> None:
        if isinstance(outcome, Uncertain):
            if not self._is_lost_again(message_id):
                self._failed()
            return
        if isinstance(outcome, Refused) and outcome.is_ours:
            if not outcome.is_busy:
                self._failed()
            return
        if isinstance(outcome, Throttled):
            self._pace.slow_down(outcome.retry_after_seconds)
        self._answered()

    def _is_lost_again(self, message_id: UUID) -> bool:
        if message_id in self._lost:
            return True
        self._lost[message_id] = None
        if len(self._lost) > LOST_MAX:
            del self._lost[next(iter(self._lost))]
        return False

    def _answered(self) -> None:
        if self.is_broken():
            _log.info("carrier is back", carrier=self.config.name)
        self._failures = 0

    def _failed(self) -> None:
        self._failures += 1
        if self.is_broken() and time.monotonic() >= self._open_until:
            self._open_until = time.monotonic() + OPEN_SECONDS
            _log.warning("carrier is down", carrier=self.config.name, open_seconds=OPEN_SECONDS)


def _kind(outcome: Outcome) -> str:
    """The outcome in the metric's word."""
    if not isinstance(outcome, Refused):
        return type(outcome).__name__.lower()
    if outcome.is_ours:
        return _OWN_KINDS[outcome.code]
    return "refused" if outcome.permanent else "failed"
