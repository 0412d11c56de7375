"""How fast a carrier is given work: by the rate of its row, and slower when it throttles (RULES 16)."""

import time
from math import inf
from typing import Final

import structlog
from prometheus_client import Gauge

# After a throttle the rate is halved, then grows by a twentieth a quiet second (AIMD, research F.4).
THROTTLE_FACTOR: Final = 0.5
GROWTH_PER_SECOND: Final = 0.05
RATE_MIN_PER_SECOND: Final = 1.0
# Where the row says no rate, one that has grown to so many times of what goes tells nothing more: it would
# grow for ever, and the next throttle would halve a number that nobody comes near.
GROWTH_MAX: Final = 2.0
# And a throttle so long ago is forgotten: there is no rate in force again.
FORGET_SECONDS: Final = 600.0
# The best mean of so long, remembered for so long, is what a carrier is known to take when it is well.
MEAN_SECONDS: Final = 10.0
BEST_SECONDS: Final = 300.0
# What went in a second says something until the one after it is over.
LATELY_SECONDS: Final = 2.0
# A carrier that throttles without having said a rate starts from what it took in a second. The one that has
# just begun says nothing: the whole one before it counts, if that was more.
PAUSE_DEFAULT_SECONDS: Final = 1.0
PAUSE_MAX_SECONDS: Final = 60.0
# At a slow carrier's one turn takes no more than this much of its time: the next turn may be an express one.
TURN_SECONDS: Final = 0.25

RATE: Final = Gauge("tollwire_carrier_rate_per_second", "The rate in force; 0: none", ["carrier"])

_log = structlog.get_logger(__name__)


class Pace:
    """When the next work may go, and how much of it."""

    def __init__(self, carrier: str, rate_per_second: int) -> None:
        self._carrier = carrier
        self._ceiling = rate_per_second or inf
        self._rate = float(rate_per_second)
        self._next_at = 0.0
        self._turn_rate = 0.0  # by which the latest turn was counted
        self._changed_at = time.monotonic()
        self._paused_until = 0.0
        self._second_started_at = 0.0
        self._second_count = 0
        self._whole_second_count = 0
        self.went_at = 0.0
        self._mean_since = time.monotonic()
        self._mean_count = 0
        self.best_per_second = 0.0
        self._best_at = 0.0
        RATE.labels(carrier).set_function(lambda: self._rate)  # the latest pace's, once the row has changed

    @property
    def per_second(self) -> float:
        """What goes out a second: the rate in force, else what went in this second or the one before."""
        return self._rate or max(self._taken, RATE_MIN_PER_SECOND)

    @property
    def rate(self) -> float:
        """The rate in force, 0: none."""
        return self._rate

    @property
    def went_lately(self) -> float:
        """What went in this second or the one before; 0 when nothing has gone since."""
        return self._taken if time.monotonic() - self._second_started_at < LATELY_SECONDS else 0.0

    @property
    def _taken(self) -> float:
        return float(max(self._whole_second_count, self._second_count))

    @property
    def ready_at(self) -> float:
        """The monotonic time from which on the next work may go."""
        return max(self._paused_until, self._next_at)

    @property
    def turn_max(self) -> int | None:
        """How much may go at once, None: as much as there is; never more than goes out in a second."""
        return max(1, int(self._rate * TURN_SECONDS)) if self._rate else None

    def spend(self, count: int) -> float:
        """Note that so much goes now, a turn; return the monotonic time at which that turn is over."""
        now = self.went_at = time.monotonic()
        self._mean(count, now)
        if now - self._second_started_at >= 1.0:
            is_next = now - self._second_started_at < 2.0
            self._whole_second_count = self._second_count if is_next else 0
            self._second_started_at, self._second_count = now, 0
        self._second_count += count
        if self._rate:
            self._grow(now)
        if self._rate:
            self._next_at = max(self.ready_at, now) + count / self._rate
            self._turn_rate = self._rate
        return self._next_at

    def give_back(self, count: int, turn_ends_at: float) -> None:
        """Note that so much of the turn that is over then does not go after all: its time is for the next.

        Nothing of a turn that is over by now, for its time has gone by: more than the rate would go. But it
        is no part of what a carrier is known to take.
        """
        self._mean_count = max(self._mean_count - count, 0)
        now = time.monotonic()
        if now < turn_ends_at == self._next_at:
            self._next_at = max(turn_ends_at - count / self._turn_rate, now)

    def _mean(self, count: int, now: float) -> None:
        seconds = now - self._mean_since
        if seconds >= MEAN_SECONDS:
            mean = self._mean_count / seconds
            if mean >= self.best_per_second or now - self._best_at > BEST_SECONDS:
                self.best_per_second, self._best_at = mean, now
            self._mean_since, self._mean_count = now, 0
        self._mean_count += count

    def slow_down(self, retry_after_seconds: float | None) -> None:
        """Halve the rate and pause, as the carrier asks."""
        now = time.monotonic()
        pause = min(retry_after_seconds or PAUSE_DEFAULT_SECONDS, PAUSE_MAX_SECONDS)
        if self._paused_until > now:
            return  # one throttle a pause: a whole batch of them is one piece of news
        self._paused_until = now + pause
        self._rate = max(self.per_second * THROTTLE_FACTOR, RATE_MIN_PER_SECOND)
        self._changed_at = self._paused_until
        _log.info(
            "carrier throttles",
            carrier=self._carrier,
            rate_per_second=round(self._rate, 1),
            pause_seconds=pause,
        )

    def _grow(self, now: float) -> None:
        grown = self._rate * (1 + GROWTH_PER_SECOND * (now - self._changed_at))
        if self._ceiling < inf:
            self._rate = min(grown, self._ceiling)
        elif now - self._paused_until > FORGET_SECONDS:
            self._rate = 0.0
        else:
            self._rate = min(grown, max(self._rate, GROWTH_MAX * self._taken))
        self._changed_at = now
