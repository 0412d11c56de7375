"""A carrier's window, shared among the lanes: whoever wants to claim waits here for its turn (RULES 16).

A lane keeps some places for itself, so that a one-time password never waits for a campaign's answers. Who is
next goes by weight: a lane that asks for little finds nobody before it, one that asks for much gets what is
left, and none gets nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Final, NamedTuple

from worker.pace import Pace

# Whose messages are in a hurry: they go first at a carrier's connections too.
EXPRESS: Final = "express"
# The part of the places that only this lane may take.
RESERVED: Final[Mapping[str, float]] = MappingProxyType({EXPRESS: 0.2, "normal": 0.2, "bulk": 0.1})
# A lane that is alone has places for so many times what its carrier takes at once: one part is there, the
# others are claimed, or are being claimed, so that a connection that comes free has what to write, and claims
# are not too small. All beyond that waits before it is claimed.
AHEAD: Final = 3
# How often a lane comes up while all want more than there is.
WEIGHTS: Final[Mapping[str, int]] = MappingProxyType({EXPRESS: 8, "normal": 4, "bulk": 1})
# A turn is not given for a few places when more are wanted: each is a task and two flushes. In a small window
# this much of what its lane has there: half of that waits before the carrier then.
GRAIN: Final = 50
GRAIN_SHARE: Final = 0.5


class Turn(int):
    """So many places, taken in one turn, whose part of the pace is over at the monotonic time ``ends_at``."""

    ends_at = 0.0


class _Waiter(NamedTuple):
    wanted: int
    granted: asyncio.Future[Turn]


class _Lane:
    """What one lane has, keeps and waits for."""

    def __init__(self, weight: int, reserved: int) -> None:
        self.weight = weight
        self.reserved = reserved
        self.used = 0
        self.is_served_at = 0.0  # in virtual time: what it had so far, by its weight
        self.waiting: deque[_Waiter] = deque()

    @property
    def kept(self) -> int:
        """The places that are kept free for it now."""
        return max(self.reserved - self.used, 0)


def places_for(at_once: int, lanes: Sequence[str]) -> int:
    """Return how many places keep a carrier busy that takes so many messages at once."""
    shares = [RESERVED.get(lane, 0.0) for lane in lanes]
    return ceil(AHEAD * at_once / (1 - sum(shares) + min(shares, default=0.0)))


class Window:
    """Places for so many messages at once; those that are taken are given back."""

    def __init__(self, places_max: int, pace: Pace, lanes: Sequence[str]) -> None:
        self._places_max = places_max
        self._pace = pace
        # With fewer places than lanes there is nothing to keep for anybody.
        least = 1 if places_max >= len(lanes) else 0
        self._lanes = {
            lane: _Lane(WEIGHTS.get(lane, 1), max(least, int(places_max * RESERVED.get(lane, 0.0))))
            for lane in lanes
        }
        self._virtual = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()

    @property
    def used(self) -> int:
        """The places that are taken."""
        return sum(lane.used for lane in self._lanes.values())

    async def take(self, lane: str, wanted: int) -> Turn:
        """Wait for the turn; return how many places were taken, 1 to ``wanted``; 0 once it is closed."""
        if self._is_closed:
            return Turn(0)
        waiter = _Waiter(wanted, asyncio.get_running_loop().create_future())
        self._lanes[lane].waiting.append(waiter)
        self._grant()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._grant()  # it may have stood before others
            else:
                self.give(lane, waiter.granted.result())
            raise

    def give(self, lane: str, count: int) -> None:
        """Give places back."""
        self._lanes[lane].used -= count
        if self._is_closed and self.used == 0:
            self._is_empty.set()
        self._grant()

    def give_back(self, turn: Turn, unsent: int) -> None:
        """Give back what was not sent of a turn's part of the pace. Its places are not given back by that."""
        self._pace.give_back(unsent, turn.ends_at)
        if self._timer is not None:  # it waits for the end of that turn
            self._timer.cancel()
            self._timer = None
        self._grant()

    def close(self) -> None:
        """Give no more places: who waits, or comes, gets none. Those that are taken are still given back."""
        self._is_closed = True
        for lane in self._lanes.values():
            for waiter in lane.waiting:
                if not waiter.granted.done():
                    waiter.granted.set_result(Turn(0))
            lane.waiting.clear()
        if self.used == 0:
            self._is_empty.set()

    async def until_empty(self) -> None:
        """Wait until it is closed and all places are given back."""
        await self._is_empty.wait()

    def _grant(self) -> None:
        while (lane := self._next()) is not None:
            wait_seconds = self._pace.ready_at - time.monotonic()
            if wait_seconds > 0:
                self._grant_later(wait_seconds)
                return
            waiter = lane.waiting.popleft()
            count = min(waiter.wanted, self._room(lane), self._pace.turn_max or waiter.wanted)
            lane.used += count
            self._virtual = max(self._virtual, lane.is_served_at)
            lane.is_served_at = self._virtual + count / lane.weight
            turn = Turn(count)
            turn.ends_at = self._pace.spend(count)
            waiter.granted.set_result(turn)

    def _next(self) -> _Lane | None:
        """The lane whose turn it is among those that wait and for which there is room."""
        able = [lane for lane in self._lanes.values() if self._is_able(lane)]
        return min(able, key=lambda lane: lane.is_served_at, default=None)

    def _is_able(self, lane: _Lane) -> bool:
        while lane.waiting and lane.waiting[0].granted.done():
            lane.waiting.popleft()  # cancelled
        if not lane.waiting:
            return False
        grain = max(lane.reserved, int(lane.used * GRAIN_SHARE), 1)
        return self._room(lane) >= min(lane.waiting[0].wanted, GRAIN, grain)

    def _room(self, lane: _Lane) -> int:
        taken = sum(other.used + other.kept for other in self._lanes.values() if other is not lane)
        return self._places_max - taken - lane.used

    def _grant_later(self, wait_seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._grant()
