"""One carrier as the worker sees it: its connection, its window, its rate, its health (RULES 16).

Whoever wants to claim takes places here first, so that no more is claimed than can be written at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

from shared.runtime.metrics import SECONDS_BUCKETS
from shared.storage.config import CarrierConfig
from worker.carriers.base import UNREACHABLE, Carrier, Outcome, Refused, Submission, Throttled, Uncertain

# After a throttle the rate is halved, then grows by a twentieth a quiet second (AIMD, research F.4).
THROTTLE_FACTOR: Final = 0.5
GROWTH_PER_SECOND: Final = 0.05
RATE_MIN_PER_SECOND: Final = 1.0
# A carrier that throttles without having said a rate starts from what it took in the last second.
PAUSE_DEFAULT_SECONDS: Final = 1.0
PAUSE_MAX_SECONDS: Final = 60.0
# So many refused connections in a row are a carrier that is down; one probe finds out when it is back.
FAILURES_TO_OPEN: Final = 5
OPEN_SECONDS: Final = 5.0

OUTCOMES: Final = Counter("tollwire_submits_total", "Submits by carrier and outcome", ["carrier", "outcome"])
SUBMIT_SECONDS: Final = Histogram(
    "tollwire_submit_seconds",
    "From the first byte to the carrier's answer",
    ["carrier"],
    buckets=SECONDS_BUCKETS,
)
IN_FLIGHT: Final = Gauge("tollwire_submits_in_flight", "Submits that wait for the carrier", ["carrier"])
RATE: Final = Gauge("tollwire_carrier_rate_per_second", "The rate in force; 0: none", ["carrier"])

_log = structlog.get_logger(__name__)


class Desk:
    """Places, pace and health of one open carrier."""

    def __init__(self, config: CarrierConfig, carrier: Carrier) -> None:
        self.config = config
        self._carrier = carrier
        self._places = asyncio.Semaphore(config.window_max)
        # One takes at a time: two that hold a half each would wait for each other for ever.
        self._taking = asyncio.Lock()
        self._rate = float(config.rate_per_second)
        self._next_at = 0.0
        self._changed_at = time.monotonic()
        self._paused_until = 0.0
        self._failures = 0
        self._open_until = 0.0
        self._second_started_at = 0.0
        self._second_count = 0

    @property
    def is_down(self) -> bool:
        """True while the breaker is open; the first try after that is the probe."""
        return time.monotonic() < self._open_until

    @property
    def batch_max(self) -> int:
        """How many may be claimed at once: within the window, and no more than goes out in a second."""
        rate = int(self._rate) or self.config.window_max
        return max(1, min(rate, self.config.window_max))

    @asynccontextmanager
    async def places(self, count: int) -> AsyncIterator[None]:
        """Wait for ``count`` places in the window and for the carrier's pace; give them back at the end."""
        taken = 0
        try:
            async with self._taking:
                for _ in range(count):
                    await self._places.acquire()
                    taken += 1
            await self._pace(count)
            yield
        finally:
            for _ in range(taken):
                self._places.release()

    async def submit(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Submit and learn from the answers."""
        name = self.config.name
        started_at = time.monotonic()
        with IN_FLIGHT.labels(name).track_inprogress():
            outcomes = await self._carrier.submit_many(submissions)
        SUBMIT_SECONDS.labels(name).observe(time.monotonic() - started_at)
        for outcome in outcomes:
            OUTCOMES.labels(name, type(outcome).__name__.lower()).inc()
            self._learn(outcome)
        return outcomes

    async def _pace(self, count: int) -> None:
        now = time.monotonic()
        wait_until = max(self._paused_until, now)
        if self._rate:
            self._grow(now)
            wait_until = max(wait_until, self._next_at)
            self._next_at = wait_until + count / self._rate
        self._count(now, count)
        if wait_until > now:
            await asyncio.sleep(wait_until - now)

    def _count(self, now: float, count: int) -> None:
        if now - self._second_started_at >= 1.0:
            self._second_started_at, self._second_count = now, 0
        self._second_count += count

    def _grow(self, now: float) -> None:
        ceiling = self.config.rate_per_second or float("inf")
        self._rate = min(self._rate * (1 + GROWTH_PER_SECOND * (now - self._changed_at)), ceiling)
        self._changed_at = now
        RATE.labels(self.config.name).set(self._rate)

    def _learn(self, outcome: Outcome) -> None:
        if isinstance(outcome, Throttled):
            self._slow_down(outcome.retry_after_seconds)
        elif isinstance(outcome, Refused) and outcome.code == UNREACHABLE:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN and not self.is_down:
                self._open_until = time.monotonic() + OPEN_SECONDS
                _log.warning("carrier is down", carrier=self.config.name, open_seconds=OPEN_SECONDS)
        elif not isinstance(outcome, Uncertain):
            self._failures = 0

    def _slow_down(self, retry_after_seconds: float | None) -> None:
        now = time.monotonic()
        pause = min(retry_after_seconds or PAUSE_DEFAULT_SECONDS, PAUSE_MAX_SECONDS)
        if self._paused_until > now:
            return  # one throttle a pause: a whole batch of them is one piece of news
        self._paused_until = now + pause
        current = self._rate or max(float(self._second_count), RATE_MIN_PER_SECOND)
        self._rate = max(current * THROTTLE_FACTOR, RATE_MIN_PER_SECOND)
        self._changed_at = self._paused_until
        RATE.labels(self.config.name).set(self._rate)
        _log.info(
            "carrier throttles",
            carrier=self.config.name,
            rate_per_second=round(self._rate, 1),
            pause_seconds=pause,
        )
