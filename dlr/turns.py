"""Who may post next: a window for each endpoint, one limit over all, places given in turn.

Three things keep one endpoint from delaying another. Each has a window of its own, which opens with its
successes and halves with its failures. Those that are slow share a part of the total, so that the others
always find places. And where places are short, endpoints take turns, one place each time round.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from dlr.breaker import Breaker

# An endpoint that nobody has tried yet has one under way: a thousand dead ones after a restart still leave
# places. Five round trips of successes open the window to 32.
WINDOW_FIRST = 1


class Place(Enum):
    """What a wait for a turn ended with."""

    NONE = "none"
    PLAIN = "plain"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Limits:
    """Places under way, over all and for one endpoint; and how many may wait in memory for one.

    What finds no place to wait stays in PostgreSQL; about as many may wait as a window posts while a lease
    lasts. Few may wait for a slow endpoint, else the memory of the process would fill with its pile and have
    no room for the others'.
    """

    total_max: int = 1_000
    slow_total_max: int = 400
    window_max: int = 32
    waiting_max: int = 1_300
    slow_waiting_max: int = 20


@dataclass(slots=True, eq=False)
class Lane:
    """One endpoint: what is under way to it, who waits, and how it has been.

    ``host`` is empty for the endpoint's own URL; what messages name themselves has a lane for each host.
    ``failing_since`` is the first failure after its last success, ``failed_at`` the last; ``is_noted`` says
    that PostgreSQL has a row about it that a success must clear.
    """

    endpoint_id: int
    host: str = ""
    breaker: Breaker = field(default_factory=Breaker)
    waiting: deque[asyncio.Future[Place]] = field(default_factory=deque)
    in_flight: int = 0
    window: int = WINDOW_FIRST
    is_slow: bool = False
    is_disabled: bool = False
    is_in_line: bool = False
    is_noted: bool = False
    failing_since: datetime | None = None
    failed_at: datetime | None = None

    @property
    def is_idle(self) -> bool:
        """True when forgetting it would lose nothing that goes on."""
        return not (self.in_flight or self.waiting or self.is_in_line)


class Turns:
    """Gives places to lanes. Every ``take`` that gave one is followed by one ``give_back``."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._in_flight = 0
        self._slow_in_flight = 0
        # Lanes that could use a place if the total had one; slow ones that wait for the slow share.
        self._line: deque[Lane] = deque()
        self._slow_line: deque[Lane] = deque()

    @property
    def in_flight(self) -> int:
        """Posts under way."""
        return self._in_flight

    async def take(self, lane: Lane) -> Place:
        """Wait for a place. NONE: not now, too many wait already or the breaker has opened meanwhile."""
        if self._is_free(lane):
            return self._begin(lane)
        waiting_max = self._limits.slow_waiting_max if lane.is_slow else self._limits.waiting_max
        if len(lane.waiting) >= waiting_max:
            return Place.NONE
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        self._enter_line(lane)
        self._hand_out()
        try:
            return await turn
        except asyncio.CancelledError:
            self._take_back(lane, turn)
            raise

    def _take_back(self, lane: Lane, turn: asyncio.Future[Place]) -> None:
        # The turn may have come in the moment in which its waiter was cancelled.
        if turn.cancelled() or not turn.done() or turn.result() is Place.NONE:
            return
        if turn.result() is Place.PROBE:
            lane.breaker.abandon()
        self.give_back(lane)

    def give_back(self, lane: Lane) -> None:
        """Return a place; whoever is next has it before this returns."""
        lane.in_flight -= 1
        self._in_flight -= 1
        if lane.is_slow:
            self._slow_in_flight -= 1
        self._enter_line(lane)
        self._hand_out()

    def room(self, lane: Lane) -> int:
        """How many more may be brought for a lane from the pile in PostgreSQL; they may wait there as well.

        A lane whose window is small, since it is new or fails, may never take what it is brought: then each
        would have been leased, loaded and sent back for nothing, at the cost of all others.
        """
        limits = self._limits
        most = limits.slow_waiting_max if lane.is_slow else limits.slow_waiting_max * lane.window
        places = lane.window - lane.in_flight
        if lane.is_slow:
            free = min(limits.slow_total_max - self._slow_in_flight, limits.total_max - self._in_flight)
            places = min(places, max(free, 0))
        return max(0, min(most, limits.waiting_max) + places - len(lane.waiting))

    def mark(self, lane: Lane, *, is_slow: bool) -> None:
        """Move a lane and what it has under way to the slow share, or back."""
        if lane.is_slow == is_slow:
            return
        lane.is_slow = is_slow
        self._slow_in_flight += lane.in_flight if is_slow else -lane.in_flight
        if is_slow:
            self.send_away(lane, keep=self._limits.slow_waiting_max)
        elif lane in self._slow_line:
            self._slow_line.remove(lane)
            self._line.append(lane)
        self._hand_out()

    def send_away(self, lane: Lane, *, keep: int = 0) -> None:
        """Tell those that wait "not now", the latest first, but for ``keep`` of them."""
        while len(lane.waiting) > keep:
            turn = lane.waiting.pop()
            if not turn.done():
                turn.set_result(Place.NONE)

    def widen(self, lane: Lane) -> None:
        """Open the window by one: it doubles with each round of successes."""
        lane.window = min(lane.window + 1, self._limits.window_max)

    def narrow(self, lane: Lane) -> None:
        """Halve the window."""
        lane.window = max(lane.window // 2, 1)

    def _enter_line(self, lane: Lane) -> None:
        if lane.waiting and not lane.is_in_line and self._has_place(lane):
            lane.is_in_line = True
            self._line.append(lane)

    def _has_place(self, lane: Lane) -> bool:
        return lane.in_flight < lane.window and lane.breaker.allows(self._now())

    def _hand_out(self) -> None:
        """Give places to the line, one each in turn; a lane whose window is full leaves until a post ends."""
        while self._in_flight < self._limits.total_max:
            lane = self._next_in_line()
            if lane is None:
                return
            lane.is_in_line = False
            turn = _next_waiting(lane)
            if turn is not None and self._has_place(lane):
                self._start(lane, turn)
                self._enter_line(lane)

    def _next_in_line(self) -> Lane | None:
        has_slow_places = self._slow_in_flight < self._limits.slow_total_max
        if self._slow_line and has_slow_places:
            return self._slow_line.popleft()
        while self._line:
            lane = self._line.popleft()
            if has_slow_places or not lane.is_slow:
                return lane
            self._slow_line.append(lane)
        return None

    def _is_free(self, lane: Lane) -> bool:
        """True when a place can be had at once and nobody waits who would come first."""
        if self._line or lane.waiting or self._in_flight >= self._limits.total_max:
            return False
        if lane.is_slow and (self._slow_line or self._slow_in_flight >= self._limits.slow_total_max):
            return False
        return self._has_place(lane)

    def _start(self, lane: Lane, turn: asyncio.Future[Place]) -> None:
        lane.waiting.popleft()
        turn.set_result(self._begin(lane))

    def _begin(self, lane: Lane) -> Place:
        lane.in_flight += 1
        self._in_flight += 1
        if lane.is_slow:
            self._slow_in_flight += 1
        return Place.PROBE if lane.breaker.begin() else Place.PLAIN


def _next_waiting(lane: Lane) -> asyncio.Future[Place] | None:
    while lane.waiting and lane.waiting[0].done():
        lane.waiting.popleft()
    return lane.waiting[0] if lane.waiting else None
