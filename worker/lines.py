"""Those of a lane who wait for one carrier: who stays, and when the others come back (docs/adr/0017)."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from math import inf
from typing import Final

from shared.domain.retry import patience_seconds

# So long a carrier may let a lane wait; then the lane's other carriers go on. A line that is younger is not
# judged: what its carrier takes is not known yet.
SHORT_SECONDS: Final = 1.0
# Work may wait beside the lane as long as its carrier gets to it so soon. What is behind that is put off, and
# then all that is behind the half of it, so that a line is not cut each second. It stays in the stream
# meanwhile, and makes the lane's oldest message old: a lost lease is noticed so much later.
LINE_SECONDS: Final = 60.0
# And in so many bundles. With the 400 that a lane's groups have in hand, of all workers, they stay far below
# ACK_PENDING_MAX (shared/runtime/consumers.py): a worker cannot know what the others let wait.
BUNDLES_MAX: Final = 200
# A lane that nobody else's work came by for so long may wait for one carrier that takes so much a second: a
# backlog stays in the stream, where it is, and who comes by finds a lane that moves.
OTHERS_SECONDS: Final = 60.0
QUICK_PER_SECOND: Final = 100.0
# What was only heard is still behind such a backlog: it counts until almost any of them is put off, some
# 1,200 bundles a second.
HEARD_SECONDS: Final = 600.0
# How often those who wait look whether the worker stops, their carrier has changed or their line is too long;
# the first time sooner, so that what is put off leaves the lane at once.
LOOK_SECONDS: Final = 1.0
FIRST_LOOK_SECONDS: Final = 0.1
# What was put off is due a little before the carrier should get to it: work that comes back too early costs
# two calls, work that comes too late leaves the carrier idle. Where the carrier may be quicker again soon, it
# is due within so long, doubled with each dispatch: nothing is late by more than it has waited already.
EARLY_FACTOR: Final = 0.8
FIRST_SECONDS: Final = 15.0
FIRST_EXPRESS_SECONDS: Final = 4.0
PUT_OFF_MAX_SECONDS: Final = 1_800.0
# And no sooner than so long, also doubled: what comes back again and again comes for nothing.
PUT_OFF_MIN_SECONDS: Final = 1.0
AGAIN_MAX_SECONDS: Final = 8.0
DOUBLINGS_MAX: Final = 7
# What waits for a carrier that is away, and that no other carries, asks again after so long the first times,
# then after twice as long up to a minute (shared/domain/retry.py). But no more than so many ask in a second,
# of each lane and in each worker: who comes behind them asks later, within an hour. Each costs a dispatch and
# a put-off, a tenth of a millisecond of the database. Not counted are the first dispatches, which come no
# faster than the work itself: the carrier may be back in a moment.
AWAY_SECONDS: Final = 5.0
AWAY_PER_SECOND: Final = 500.0
AWAY_MAX_SECONDS: Final = 3_600.0
# While many wait, somebody asks at every moment. When nobody has asked in vain for so long the carrier was
# back: who still waits finds it there, and who comes now does not stand behind them.
BACK_SECONDS: Final = 10.0


class Wait:
    """One group's work for a carrier, as far as it has no places yet."""

    def __init__(self, work: Sequence[tuple[str, int]], bundles: int) -> None:
        self.bundles = bundles
        self.began_at = time.monotonic()
        self._work = work
        self._start = 0
        self._end = len(work)

    @property
    def left(self) -> int:
        """How many messages wait."""
        return self._end - self._start

    def first(self, number: int) -> Sequence[tuple[str, int]]:
        """The next so many, or all that there are."""
        return self._work[self._start : min(self._start + number, self._end)]

    def bring_forward(self, is_wanted: Callable[[tuple[str, int]], bool]) -> None:
        """Put the first of those that are wanted before all others, if there is one."""
        for place in range(self._start, self._end):
            if is_wanted(self._work[place]):
                work = list(self._work)
                work[self._start], work[place] = work[place], work[self._start]
                self._work = work
                return

    def advance(self, number: int) -> None:
        """Note that so many of the first wait no more."""
        self._start += number

    def cut(self, number: int) -> Sequence[tuple[str, int]]:
        """Take away so many from the end, and return them."""
        self._end -= number
        return self._work[self._end : self._end + number]


class Line:
    """One lane's line at one carrier, in the order in which its groups came."""

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._waits: dict[Wait, None] = {}
        # Messages that were put off, as far as the carrier has not had the time for them.
        self._behind = 0.0
        self._counted_at = 0.0
        self._asks_at = 0.0  # when the last one asks that was put off because the carrier is away
        self._asked_at = -inf  # when somebody last asked in vain
        self.counts_until = -inf  # when the lane may be another carrier's alone again
        self._waited_until = -inf  # when somebody last had waited for long

    @contextmanager
    def wait(self, work: Sequence[tuple[str, int]], bundles: int) -> Iterator[Wait]:
        """Stand in the line with so many bundles of work, until the end of the context."""
        wait = Wait(work, bundles)
        self.counts_until = max(self.counts_until, wait.began_at + OTHERS_SECONDS)
        self._waits[wait] = None
        try:
            yield wait
        finally:
            if not self.is_young():
                self._waited_until = time.monotonic()
            del self._waits[wait]

    @property
    def bundles(self) -> int:
        """How many bundles have work that waits."""
        return sum([wait.bundles for wait in self._waits if wait.left])

    def is_young(self) -> bool:
        """Return True when nobody has waited long enough to tell how fast it goes."""
        return all(time.monotonic() - wait.began_at < SHORT_SECONDS for wait in self._waits)

    def is_quick(self) -> bool:
        """Return True when nobody waits here for long, nor did lately."""
        return self.is_young() and time.monotonic() - self._waited_until >= OTHERS_SECONDS

    def is_crowded(self, wait: Wait) -> bool:
        """Return True when so much stands before this work that it is too much with it."""
        before = sum([one.bundles for one in self._before(wait) if one.left])
        return before + wait.bundles > BUNDLES_MAX

    def surplus(self, wait: Wait, per_second: float, rest_seconds: float) -> int:
        """Return how many at the end of this work a carrier does not get to soon.

        It takes so many a second, and nothing for the next ``rest_seconds``.
        """
        before = sum([one.left for one in self._before(wait)])
        if rest_seconds + (before + wait.left) / per_second <= LINE_SECONDS:
            return 0
        stay = int((LINE_SECONDS / 2 - rest_seconds) * per_second) - before
        return wait.left - min(max(stay, 0), wait.left)

    def _before(self, wait: Wait) -> Iterator[Wait]:
        return takewhile(lambda one: one is not wait, self._waits)

    def put_off_seconds(
        self, wait: Wait, numbers: Sequence[int], per_second: float, rest_seconds: float, *, is_steady: bool
    ) -> tuple[list[float], float]:
        """Return in how many seconds each of these dispatch numbers is due again, and how many that counts.

        They were cut from the end of ``wait``, and are due behind all before that, and behind each other.

        ``is_steady``: the carrier takes so many a second for long, and the estimate can be relied on.
        """
        now = time.monotonic()
        self._behind = max(self._behind - per_second * (now - self._counted_at), 0.0)
        self._counted_at = now
        behind = self._behind
        # What is more than may stay there is put off itself, if it can go at all, and counts behind then.
        staying = min(wait.left + sum([one.left for one in self._before(wait)]), LINE_SECONDS * per_second)
        seconds = []
        for number in numbers:
            doubled = 2.0 ** min(number, DOUBLINGS_MAX)
            within = PUT_OFF_MAX_SECONDS
            if not is_steady:
                within = min(self._first_seconds * doubled, within)
            self._behind = min(self._behind + 1.0, within * per_second)
            spread = 0.5 + random.random() / 2  # noqa: S311 - spreads what comes back, keeps no secret
            place = min(EARLY_FACTOR * (staying + self._behind) / per_second, within * spread)
            least = spread * min(PUT_OFF_MIN_SECONDS * doubled, AGAIN_MAX_SECONDS)
            seconds.append(rest_seconds + max(place, least))
        return seconds, self._behind - behind

    def forget(self, number: float) -> None:
        """Note that so many of those that were counted did not have to be put off: they never come back."""
        self._behind = max(self._behind - number, 0.0)

    def away_seconds(self, asking: Sequence[tuple[int, float]]) -> list[float]:
        """Return in how many seconds each asks again for a carrier that is away.

        ``asking``: the dispatch number of each, and for how many seconds it is valid yet.
        """
        now = time.monotonic()
        if now - self._asked_at > BACK_SECONDS:
            self._asks_at = now
        self._asked_at = now
        return [self._away_seconds(now, number, left_seconds) for number, left_seconds in asking]

    def _away_seconds(self, now: float, number: int, left_seconds: float) -> float:
        spread = 0.5 + random.random() / 2  # noqa: S311 - spreads what comes back, keeps no secret
        patience = spread * patience_seconds(number, AWAY_SECONDS)
        if number == 1:
            return patience
        asks_at = min(max(self._asks_at, now) + 1.0 / AWAY_PER_SECOND, now + AWAY_MAX_SECONDS)
        seconds = max(asks_at - now, patience)
        # What its validity brings back before its place (put_off_work_v1) leaves that to the next one.
        if seconds <= max(left_seconds / 4, AWAY_SECONDS):
            self._asks_at = asks_at
        return seconds


class Lines:
    """The lines of all lanes."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[int, Line]] = defaultdict(dict)
        self._began_at = time.monotonic()

    def at(self, lane: str, carrier_id: int) -> Line:
        """The lane's line at this carrier."""
        lines = self._lanes[lane]
        if carrier_id not in lines:
            lines[carrier_id] = Line(FIRST_EXPRESS_SECONDS if lane == "express" else FIRST_SECONDS)
        return lines[carrier_id]

    def is_quick(self, lane: str) -> bool:
        """Return True when no work of the lane waits for long, nor did lately."""
        return all(line.is_quick() for line in self._lanes[lane].values())

    def note(self, lane: str, carrier_id: int) -> None:
        """Note that work of a carrier came into the lane, and will come by."""
        self.at(lane, carrier_id).counts_until = time.monotonic() + HEARD_SECONDS

    def is_alone(self, lane: str, carrier_id: int) -> bool:
        """Return True when no other carrier's work came by the lane lately, and none is known to come.

        In the express lane not before it is known: what waited there before we came is not for one carrier.
        """
        now = time.monotonic()
        if lane == "express" and now - self._began_at < OTHERS_SECONDS:
            return False
        return all(
            line.counts_until < now for other_id, line in self._lanes[lane].items() if other_id != carrier_id
        )
