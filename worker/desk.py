"""One carrier as the worker sees it: its connection, its window, its pace, its health (RULES 16).

Whoever wants to claim takes places here first, so that no more is claimed than can be written at once.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from prometheus_client import Gauge, Histogram

from shared.runtime import tracing
from shared.runtime.metrics import AGE_BUCKETS
from shared.storage.config import CarrierConfig
from worker import traces
from worker.breaker import Breaker
from worker.carriers.base import (
    AWAY,
    GIVEN_BACK,
    Carrier,
    Handover,
    Outcome,
    Refused,
    Submission,
    Throttled,
)
from worker.outcomes import count_outcomes
from worker.pace import RATE_MIN_PER_SECOND, Pace
from worker.share import Share
from worker.window import EXPRESS, Turn, Window, places_for

# A carrier that has not answered a submit for so long is slow.
SLOW_SECONDS: Final = 1.0
# So much of its places' time is the carrier's, if it is full. With less our own claims take three times as
# long as its answers: it is the database that is slow.
FULL_SHARE: Final = 0.25
# One to which nothing has gone for so long may hang; one that takes so many times less than a while ago is
# ill, and may be well again soon.
STEADY_SECONDS: Final = 5.0
ILL_FACTOR: Final = 4.0

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


def _nobody(_: Sequence[Submission], __: Sequence[Outcome]) -> None:
    """Nobody needs to know before all are answered."""


Answered = Callable[[Sequence[Submission], Sequence[Outcome]], None]


class Probe(Turn):
    """The one place that a carrier that was down gives: whoever has just this one probes it."""


class Desk:
    """Places, pace and health of one open carrier."""

    def __init__(self, config: CarrierConfig, carrier: Carrier, lanes: Sequence[str]) -> None:
        self.config = config
        self._carrier = carrier
        self._pace = Pace(config.name, config.rate_per_second)
        places_max = min(config.window_max, places_for(carrier.at_once_max, lanes))
        self._window = Window(places_max, self._pace, lanes)
        self._in_flight = IN_FLIGHT.labels(config.name)
        self._turn_wait = {lane: TURN_WAIT.labels(config.name, lane).observe for lane in lanes}
        self._breaker = Breaker(config.name)
        self._is_closed = False
        # From when a message that probes waits for its place until it is given back, whatever became of it.
        self._probe: Probe | None = None
        self._odd_probes = 0  # submits on their way that are probes of messages whose answer was lost before
        # When each submit that is not answered began, and how many messages are left of it; the oldest first.
        self._unanswered: dict[object, tuple[float, int]] = {}
        self._share = Share()
        DOWN.labels(config.name).set_function(lambda: float(self.is_down or self.has_odd_probe))
        PLACES.labels(config.name, "used").set_function(lambda: self._window.used)
        PLACES.labels(config.name, "max").set(places_max)

    @property
    def is_down(self) -> bool:
        """True while the breaker is open, and then while the one message that probes is on its way.

        Not while only one probes whose answer was lost before (``has_odd_probe``).
        """
        return self._breaker.is_open() or (self.is_broken() and self._probe is not None)

    def is_broken(self) -> bool:
        """Return True until an answer closes the breaker."""
        return self._breaker.is_broken()

    @property
    def has_odd_probe(self) -> bool:
        """True while a message probes whose answer was lost before. No other such one may go."""
        return self.is_broken() and self._odd_probes > 0

    def is_odd(self, message_id: UUID) -> bool:
        """Return True when this message's answer was lost here before: lost again it proves nothing."""
        return self._breaker.is_odd(message_id)

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
        unanswered = [submit for submit in self._unanswered.values() if submit[1]]
        if not unanswered:
            return 0, 0.0
        oldest, _ = unanswered[0]
        return sum([number for _, number in unanswered]), time.monotonic() - oldest

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

    async def take(self, lane: str, wanted: int) -> Turn:
        """Wait until some may be claimed, and return how many, 1 to ``wanted``; 0 when it is closed or down.

        It is no more than goes out in a second, and one, a ``Probe``, when that probes. ``give`` the same
        back, whatever became of it.
        """
        asked_at = time.monotonic()
        if self.is_down:
            return Turn(0)
        if self.is_broken():
            count = await self._take_probe(lane)
        else:
            count = await self._window.take(lane, wanted)
            self._share.note(taken=count)
            if self.is_broken():  # while it waited
                self.give(lane, count)
                return Turn(0)
        self._turn_wait[lane](time.monotonic() - asked_at)
        return count

    async def _take_probe(self, lane: str) -> Turn:
        probe = self._probe = Probe(1)
        count = Turn(0)
        try:
            count = await self._window.take(lane, probe)
            self._share.note(taken=count)
        finally:
            if not count:
                self._probe = None
        probe.ends_at = count.ends_at
        return probe if count else count

    def give_back_pace(self, taken: Turn, unsent: int) -> None:
        """Let others go in the time in which so many of one ``take`` should have gone: they do not."""
        if unsent:
            self._window.give_back(taken, unsent)

    def give(self, lane: str, taken: int) -> None:
        """Give places back: those of one ``take``, as it returned them."""
        self._window.give(lane, taken)
        self._share.note(taken=-taken)
        if taken is self._probe:
            self._probe = None

    def close(self) -> None:
        """Turn away who waits and who comes, before they claim: they go to the desk that came after.

        What is claimed by now and not written is not written here any more.
        """
        self._is_closed = True
        self._window.close()
        self._carrier.turn_away()

    async def until_unused(self) -> None:
        """Wait until it is closed and whoever took places has submitted and given them back."""
        await self._window.until_empty()

    async def submit(
        self,
        submissions: Sequence[Submission],
        taken: int | None = None,
        *,
        lane: str = "",
        answered: Answered = _nobody,
    ) -> list[Outcome]:
        """Submit in places that were taken by a lane, and learn from each answer as it comes.

        So does ``answered``, of each once. What is not written when the desk closes, or its breaker opens, is
        not written any more.
        """
        is_probe = taken is not None and taken is self._probe
        is_odd = is_probe and all(self.is_odd(one.message_id) for one in submissions)
        if is_odd:
            self._probe = None
        handed = _Handed(self, len(submissions), answered, is_probe=is_probe)
        handed.is_urgent = lane == EXPRESS
        self._unanswered[handed] = (time.monotonic(), len(submissions))
        self._note_submitted(len(submissions))
        self._odd_probes += is_odd
        try:
            if tracing.is_on:
                return await traces.submit(self.config.name, self._carrier, submissions, handed)
            return await self._carrier.submit_many(submissions, handed)
        finally:
            self._note_submitted(-handed.left)
            self._unanswered.pop(handed, None)
            self._odd_probes -= is_odd

    def refusal(self, *, of_probe: bool) -> Refused | None:
        """Return why nothing more may be written, or None."""
        if self._is_closed:
            return GIVEN_BACK
        return AWAY if self.is_broken() and not of_probe else None

    def answered(
        self, handed: "_Handed", submissions: Sequence[Submission], outcomes: Sequence[Outcome]
    ) -> None:
        """Learn what became of some that were handed over."""
        began_at, _ = self._unanswered[handed]
        self._unanswered[handed] = (began_at, handed.left)
        self._note_submitted(-len(submissions))
        if count_outcomes(self.config.name, outcomes):
            self._breaker.answered()
            return
        for submission, outcome in zip(submissions, outcomes, strict=True):
            if isinstance(outcome, Throttled):
                self._pace.slow_down(outcome.retry_after_seconds)
            self._breaker.learn(submission.message_id, outcome)
        if self.is_broken():
            self._carrier.turn_away()

    def _note_submitted(self, count: int) -> None:
        self._in_flight.inc(count)
        self._share.note(submitted=count)


class _Handed(Handover):
    """One submit of a desk."""

    def __init__(self, desk: Desk, number: int, answered: Answered, *, is_probe: bool) -> None:
        self.left = number
        self._desk = desk
        self._answered = answered
        self._is_probe = is_probe

    def refusal(self) -> Refused | None:
        """Return why nothing more of it may be written."""
        return self._desk.refusal(of_probe=self._is_probe)

    def answered(self, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        """Take answers, and hand them on."""
        self.left -= len(submissions)
        self._desk.answered(self, submissions, outcomes)
        self._answered(submissions, outcomes)
