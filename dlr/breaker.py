"""One endpoint's breaker: closed, open after failures in a row, then half open with a single probe. Pure.

Times are seconds of a monotonic clock; the jitter, a float in [0, 1), keeps breakers that opened together
from probing together.
"""

from dataclasses import dataclass

# A lost packet or a restart is two or three failures; five in a row is a state.
FAILURES_TO_OPEN = 5
# A deployment takes some seconds; an endpoint that is down for the day is asked every five minutes.
OPEN_SECONDS_MIN = 5.0
OPEN_SECONDS_MAX = 300.0
# Share of the time that jitter may take off.
JITTER_SHARE = 0.2


@dataclass(slots=True)
class Breaker:
    """``failures`` counts those in a row; ``open_until`` is None while the breaker is closed."""

    failures: int = 0
    trips: int = 0
    open_until: float | None = None
    is_probing: bool = False

    def is_open(self, now: float) -> bool:
        """Return whether nothing may be sent at all."""
        return self.open_seconds(now) > 0.0

    def open_seconds(self, now: float) -> float:
        """Return for how long still nothing may be sent; 0.0 where something may."""
        return 0.0 if self.open_until is None else max(self.open_until - now, 0.0)

    def allows(self, now: float) -> bool:
        """Return whether one more may be sent: any when closed, one probe when the open time is over."""
        return self.open_until is None or (now >= self.open_until and not self.is_probing)

    def begin(self) -> bool:
        """Note that one is sent; True when it is the probe. Only after ``allows``."""
        self.is_probing = self.open_until is not None
        return self.is_probing

    def abandon(self) -> None:
        """Note that the probe was given up before it could tell anything."""
        self.is_probing = False

    def succeed(self) -> bool:
        """Close; True when it was not closed before. Whoever succeeds, probe or straggler, proves life."""
        was_tripped = self.open_until is not None
        self.failures, self.trips, self.open_until, self.is_probing = 0, 0, None, False
        return was_tripped

    def fail(self, now: float, jitter: float, *, was_probe: bool) -> float | None:
        """Count a failure; return for how many seconds the breaker opens by it, None if it doesn't.

        Stragglers that were sent before it opened count, but prolong nothing.
        """
        self.failures += 1
        is_tripped = self.open_until is not None
        if was_probe and is_tripped:
            self.is_probing = False
        elif is_tripped or self.failures < FAILURES_TO_OPEN:
            return None
        seconds = min(OPEN_SECONDS_MIN * 2.0**self.trips, OPEN_SECONDS_MAX) * (1.0 - JITTER_SHARE * jitter)
        self.trips = min(self.trips + 1, 16)  # far beyond OPEN_SECONDS_MAX; the power stays a number
        return self.open_for(now, seconds)

    def open_for(self, now: float, seconds: float) -> float:
        """Open for so long from now, OPEN_SECONDS_MAX at most: an endpoint may ask for it (Retry-After)."""
        seconds = min(seconds, OPEN_SECONDS_MAX)
        self.open_until = now + seconds
        self.is_probing = False
        return seconds
