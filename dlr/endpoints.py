"""Each endpoint in its own turn: a dead or slow one never delays another (DESIGN 6, RULES 36).

``turns`` hands out places and ``breaker`` decides when an endpoint has failed enough; here both learn from
outcomes. When a breaker opens, or the process stops, what waits goes back to PostgreSQL at once, and one row
there keeps everybody's sweeps away until the probe.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from prometheus_client import Counter, Gauge

from dlr.answers import is_gone_there, wanted_seconds
from dlr.health import Failing, Health
from dlr.poster import Delivery
from dlr.turns import Lane, Limits, Place, Turns
from dlr.watch import Watch
from shared.domain.callbacks import Outcome, Posted, RejectReason, is_success
from shared.runtime.clock import Clock

# A post that lasts longer moves its endpoint to the slow ones, before its answer or its deadline comes.
SLOW_SECONDS: Final = 1.0
# An endpoint without one success for so long is switched off; its callbacks are kept for a replay.
DISABLE_AFTER: Final = timedelta(days=5)
_SILENT: Final = "no callback was taken for five days"
# A failure longer ago says nothing of now: nobody may have been here to post, or others may have delivered.
# More than the longest wait between two tries of one callback, a day and its jitter.
FORGET_AFTER: Final = timedelta(hours=36)
# What an endpoint is given at once of its pile where a host that its messages name takes nothing.
SLOW_EACH: Final = 10
# Endpoints remembered while nothing goes on with them, about 1 kB each.
LANES_MAX: Final = 50_000

OPENED: Final = Counter("tollwire_callback_breakers_opened_total", "Breakers of endpoints that opened")
IN_FLIGHT: Final = Gauge("tollwire_callbacks_in_flight", "Callbacks on their way to endpoints")
SENT_BACK: Final = Counter(
    "tollwire_callbacks_sent_back_total", "Callbacks that found no turn and went back to PostgreSQL"
)

_log = structlog.get_logger(__name__)


class Poster(Protocol):
    """What sends one callback."""

    async def post(self, delivery: Delivery) -> Outcome:
        """Send it; the endpoint's faults come back as values."""
        ...


class HealthBook(Protocol):
    """What other processes must know of endpoints: ``dlr.health``."""

    def note(self, health: Health) -> None:
        """Write it soon."""
        ...

    async def read(self) -> tuple[Sequence[Failing], frozenset[int]]:
        """Read who fails, and on whom this process has a newer word."""
        ...


class Endpoints:
    """Hands out turns and keeps breakers.

    Args:
        clock: for durations and for the times that are persisted.
        health: what is known beyond this process.
        limits: places.
        jitter: a float in [0, 1) whenever it is called.
    """

    def __init__(
        self,
        clock: Clock,
        health: HealthBook,
        limits: Limits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._health = health
        self._jitter = jitter
        self._turns = Turns(limits or Limits(), clock.monotonic)
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._slow_watch = Watch(self._on_slow)
        IN_FLIGHT.set_function(lambda: self._turns.in_flight)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._slow_watch.close()

    def stop(self) -> None:
        """Begin no further posts: what waits stays in PostgreSQL for others, what is under way ends."""
        self._is_stopping = True
        for lane in self._lanes.values():
            self._turns.send_away(lane)

    async def post(
        self,
        poster: Poster,
        delivery: Delivery,
        *,
        until: float = math.inf,
        renewed: Callable[[], Delivery] | None = None,
    ) -> Outcome | None:
        """Post in the endpoint's turn. None: not now; ``again_in`` may say when.

        ``until``: the time of the clock after which it may be another process's and is not begun.
        ``renewed`` makes the delivery anew when the turn comes; what it raises gives the turn back.
        """
        lane = self._lane(delivery.endpoint_id, delivery.host)
        place = Place.NONE if self._is_shut(lane) else await self._turns.take(lane)
        if place is not Place.NONE and self._clock.monotonic() > until:
            self._give_up(lane, place)
            place = Place.NONE
        if place is Place.NONE:
            SENT_BACK.inc()
            return None
        return await self._post(poster, renewed or (lambda: delivery), lane, place)

    def again_in(self, endpoint_id: int, host: str) -> float | None:
        """In how many seconds what found no turn may be tried again, by anybody; None: nothing says so."""
        open_seconds = self._lane(endpoint_id, host).breaker.open_seconds(self._clock.monotonic())
        return 0.0 if self._is_stopping else open_seconds or None

    def _give_up(self, lane: Lane, place: Place) -> None:
        if place is Place.PROBE:
            lane.breaker.abandon()
        self._turns.give_back(lane)

    def disable(self, endpoint_id: int, reason: str, url: str) -> None:
        """Switch an endpoint off until its client sets it anew, unless it has another URL by now."""
        lane = self._lane(endpoint_id)
        lane.is_disabled = True
        self._turns.send_away(lane)
        _log.warning("callback endpoint switched off", endpoint_id=endpoint_id, reason=reason)
        self._note(lane, open_seconds=None, disabled_reason=reason, of_url=url)

    def rooms(self, few: int, piled: Mapping[int, int]) -> dict[int, int]:
        """How many more may be brought of piles in PostgreSQL, of endpoints where that is not ``few``.

        ``piled`` are those that may have more, where they have places. What messages name themselves counts
        little: a dead host of theirs leaves the endpoint some.
        """
        rooms = dict(piled)
        now = self._clock.monotonic()
        for lane in self._lanes.values():
            if lane.is_noted:
                continue  # what PostgreSQL knows of it holds its own back there, and not what goes elsewhere
            room = 0 if lane.breaker.is_open(now) else self._turns.room(lane)
            if lane.host:
                room = max(room, SLOW_EACH)
            if room < rooms.get(lane.endpoint_id, few):
                rooms[lane.endpoint_id] = room
        return rooms

    async def follow(self) -> None:
        """Learn what other processes found out, and what clients have set right."""
        failing, known_better = await self._health.read()
        by_id = {entry.endpoint_id: entry for entry in failing if entry.endpoint_id not in known_better}
        for lane in self._lanes.values():
            if lane.is_noted and lane.endpoint_id not in by_id and lane.endpoint_id not in known_better:
                self._heal(lane)
        for entry in by_id.values():
            self._adopt(entry)

    def _is_shut(self, lane: Lane) -> bool:
        return self._is_stopping or lane.is_disabled or lane.breaker.is_open(self._clock.monotonic())

    async def _post(self, poster: Poster, make: Callable[[], Delivery], lane: Lane, place: Place) -> Outcome:
        mark = self._slow_watch.begin(lane, self._loop.time() + SLOW_SECONDS)
        try:
            outcome = await poster.post(make())
            # Before the place is given back, so that the next in turn meets what was learned.
            self._learn(lane, outcome, was_probe=place is Place.PROBE)
        except BaseException:
            if place is Place.PROBE:
                lane.breaker.abandon()
            raise
        finally:
            mark.end()
            self._turns.give_back(lane)
        return outcome

    def _on_slow(self, lane: Lane) -> None:
        self._turns.mark(lane, is_slow=True)

    def _learn(self, lane: Lane, outcome: Outcome, *, was_probe: bool) -> None:
        if not isinstance(outcome, Posted) and outcome.reason is RejectReason.NO_CONNECTION_FREE:
            if was_probe:
                lane.breaker.abandon()
            return
        self._turns.mark(lane, is_slow=outcome.duration_ms > SLOW_SECONDS * 1000)
        if is_success(outcome) or is_gone_there(lane.host, outcome):
            self._turns.widen(lane)
            self._succeeded(lane)
        else:
            self._turns.narrow(lane)
            self._failed(lane, outcome, was_probe=was_probe)

    def _succeeded(self, lane: Lane) -> None:
        lane.breaker.succeed()
        lane.failing_since = None
        if lane.is_noted:
            self._note(lane, open_seconds=None, disabled_reason=None)
            lane.is_noted = False

    def _failed(self, lane: Lane, outcome: Outcome, *, was_probe: bool) -> None:
        now = self._clock.now()
        if lane.failed_at is not None and now - lane.failed_at > FORGET_AFTER:
            lane.breaker.succeed()
            lane.failing_since = None
        lane.failed_at = now
        lane.failing_since = lane.failing_since or now
        open_seconds = lane.breaker.fail(self._clock.monotonic(), self._jitter(), was_probe=was_probe)
        wanted = wanted_seconds(outcome, now)
        if wanted is not None and wanted > (open_seconds or 0.0):
            open_seconds = lane.breaker.open_for(self._clock.monotonic(), wanted)
        if open_seconds is None:
            return
        OPENED.inc()
        self._turns.send_away(lane)
        _log.info(
            "callback breaker open",
            endpoint_id=lane.endpoint_id,
            seconds=round(open_seconds, 1),
            failures=lane.breaker.failures,
        )
        if lane.host:
            return  # nobody is switched off for it, and each process finds out for itself
        # PostgreSQL decides, which knows what others delivered, and ``follow`` learns of it.
        reason = _SILENT if now - lane.failing_since > DISABLE_AFTER else None
        self._note(lane, open_seconds=open_seconds, disabled_reason=reason)

    def _note(
        self,
        lane: Lane,
        *,
        open_seconds: float | None,
        disabled_reason: str | None,
        of_url: str | None = None,
    ) -> None:
        until = None if open_seconds is None else self._clock.now() + timedelta(seconds=open_seconds)
        lane.is_noted = True
        failures, unless = lane.breaker.failures, DISABLE_AFTER if disabled_reason == _SILENT else None
        self._health.note(
            Health(lane.endpoint_id, failures, lane.failing_since, until, disabled_reason, unless, of_url)
        )

    def _adopt(self, entry: Failing) -> None:
        lane = self._lane(entry.endpoint_id)
        lane.is_noted, lane.is_disabled = True, entry.is_disabled
        now = self._clock.now()
        failed_at = entry.open_until or now  # soon after the last failure that anybody saw
        if now - failed_at > FORGET_AFTER:
            return
        lane.failed_at = max(failed_at, lane.failed_at or failed_at)
        lane.failing_since = entry.failing_since or lane.failing_since
        lane.breaker.failures = max(lane.breaker.failures, entry.consecutive_failures)
        if entry.open_until is None or lane.breaker.open_until is not None:
            return
        seconds = (entry.open_until - now).total_seconds()
        if seconds > 0:
            lane.breaker.open_for(self._clock.monotonic(), seconds)
            self._turns.send_away(lane)

    def _heal(self, lane: Lane) -> None:
        lane.breaker.succeed()
        lane.is_noted = lane.is_disabled = False
        lane.failing_since = None

    def _lane(self, endpoint_id: int, host: str = "") -> Lane:
        lane = self._lanes.get((endpoint_id, host))
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                self._forget_idle()
            lane = self._lanes[endpoint_id, host] = Lane(endpoint_id, host)
        return lane

    def _forget_idle(self) -> None:
        self._lanes = {
            key: lane
            for key, lane in self._lanes.items()
            if lane.is_noted or (lane.failing_since and not lane.host) or not lane.is_idle
        }
