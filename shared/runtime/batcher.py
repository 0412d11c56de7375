"""Group commit: many waiters, one flush (DESIGN "Group commit", RULES 7 and 8).

Items that arrive while a flush is in flight wait in memory and go together in the next one: no timer
and no fixed size, so a lone item waits for nothing and a flood is carried in batches of hundreds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from shared.runtime import metrics
from shared.runtime.flusher import Flusher, Judge, WrongAnswers, never
from shared.runtime.loops import is_cancelled
from shared.runtime.waiters import Busy, DeadlinePassed, Deadlines, Place, Stopped, Waiter, expire_all

__all__ = ["Batcher", "Busy", "DeadlinePassed", "Stopped", "WrongAnswers"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# How long many items may wait for their place when the caller names no deadline.
PLACE_WAIT_SECONDS: Final = 5.0
# A flush takes milliseconds; one that takes this long keeps nobody else from starting.
STALL_SECONDS: Final = 0.05
# Where so many gathered in one linger a crowd is coming, and it is waited for: fewer and larger flushes cost
# less a message, up to this size. A flush waits so many lingers at most.
CROWD_MIN: Final = 32
CROWD_ENOUGH: Final = 250
LINGERS_MAX: Final = 3
# How many callers may wait for a place; more of them is a flood, and a flood is refused at once.
PLACES_MAX: Final = 100


def _one(_item: object) -> int:
    return 1


class Batcher(Generic[Item, Answer]):
    """Carries items to ``flush`` in batches and each answer back to its caller.

    ``flush`` gets items in the order of their arrival, until those ahead count for ``batch_max`` (each for
    ``size_of`` it), and returns one answer for each position; an exception in a position is raised to that
    caller alone. A flush that raises is tried again whole while ``is_retryable`` says so, in halves while
    ``is_bisectable`` does, and else answers all its callers with its error.

    ``concurrency`` flushes may be in flight; with ``gather_min`` a further one starts when so many wait and
    no fewer than are in flight already, or when those have not answered for ``STALL_SECONDS``; a crowd that
    finds none in flight goes in halves, which take turns from then on. With ``linger_seconds`` a flush that
    is about to start waits so long and then takes all there is, the lone item after an idle time too; in a
    crowd ``LINGERS_MAX`` times as long. For stages in no hurry.

    A caller that is cancelled or whose deadline passes withdraws an item that no flush has taken; later it
    loses the answer, and its place where the flush is made again. Neither touches its neighbours.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        name: str,
        batch_max: int,
        queue_max: int,
        concurrency: int = 1,
        gather_min: int = 1,
        linger_seconds: float = 0.0,
        size_of: Callable[[Item], int] = _one,
        is_bisectable: Judge = never,
        is_retryable: Judge = never,
    ) -> None:
        if min(batch_max, queue_max, concurrency, gather_min) < 1 or linger_seconds < 0:
            raise ValueError(f"batcher {name}: its numbers are at least 1, its linger at least 0")
        self.name = name
        self._flusher = Flusher(flush, name=name, is_bisectable=is_bisectable, is_retryable=is_retryable)
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._concurrency = concurrency
        self._gather_min = gather_min
        self._linger_seconds = linger_seconds
        self._size_of = size_of
        self._queue: deque[Waiter[Item, Answer]] = deque()
        self._places: deque[Place[Item, Answer]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._awake = 0  # lanes that will take from the queue without being woken again
        self._swift: dict[Waiter[Item, Answer], int] = {}  # sizes of the flushes in flight, unless overdue
        self._deadlines = Deadlines()
        self._is_open = False
        self._size_metric = metrics.BATCH_SIZE.labels(name)
        self._wait_metric = metrics.BATCH_WAIT.labels(name)
        self._flush_metric = metrics.BATCH_FLUSH.labels(name)

    async def __aenter__(self) -> Self:
        queue = self._queue
        metrics.BATCH_QUEUE.labels(self.name).set_function(lambda: len(queue))
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        names = [f"{self.name}-{number}" for number in range(self._concurrency)]
        self._lanes = [asyncio.create_task(self._run_lane(), name=name) for name in names]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer everything that was queued, then stop; when cancelled here, give the rest up."""
        self._is_open = False
        for place in self._places:
            place.refuse(Stopped(f"{self.name} is stopping"))
        while self._idle:
            self._wake_one()
        try:
            await asyncio.gather(*self._lanes)
        finally:
            for waiter in self._queue:
                waiter.settle(Stopped(f"{self.name} has stopped"))
            self._queue.clear()
            self._deadlines.close()

    @property
    def queue_length(self) -> int:
        """How many items wait for a flush."""
        return len(self._queue)

    async def submit(self, item: Item, *, deadline_seconds: float | None = None) -> Answer:
        """Give one item to a flush and return its own answer.

        Raises:
            Busy: the queue is full; at once, and nothing was done.
            DeadlinePassed: no answer within ``deadline_seconds``.
            Exception: the item's own, or the one that the whole flush met.
        """
        promised = len(self._places[0].waiters) if self._places else 0
        if not self._is_open or len(self._queue) + promised >= self._queue_max:
            raise self._refusal()
        waiter: Waiter[Item, Answer] = Waiter(item, self._loop.create_future())
        self._queue.append(waiter)
        self._wake()
        if deadline_seconds is not None:
            self._deadlines.watch(waiter, deadline_seconds)
        return await waiter.answer

    async def submit_many(
        self, items: Sequence[Item], *, deadline_seconds: float | None = None
    ) -> list[Answer]:
        """Give many items as neighbours; return their answers, or raise the first item's exception.

        Raises what :meth:`submit_each` does; use that where each item has an outcome of its own.
        """
        outcomes = await self.submit_each(items, deadline_seconds=deadline_seconds)
        answers: list[Answer] = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            answers.append(outcome)
        return answers

    async def submit_each(
        self, items: Sequence[Item], *, deadline_seconds: float | None = None
    ) -> list[Answer | Exception]:
        """Give many items as neighbours; return the answer or the exception of each position.

        They may need several flushes. Waits for a place for all, first come first served, until the
        deadline (or ``PLACE_WAIT_SECONDS``).

        Raises:
            Busy: there was no place for all of them. None was queued, nothing was done.
            ValueError: more items than the queue can ever hold.
        """
        if len(items) > self._queue_max:
            raise ValueError(f"{len(items)} items never fit into a queue of {self._queue_max}")
        if not self._is_open:
            raise self._refusal()
        waiters: list[Waiter[Item, Answer]] = [Waiter(item, self._loop.create_future()) for item in items]
        timer = None
        if deadline_seconds is not None:
            timer = self._loop.call_later(deadline_seconds, expire_all, waiters)
        try:
            await self._queue_all(waiters, deadline_seconds)
            return [await waiter.outcome() for waiter in waiters]
        finally:
            if timer is not None:
                timer.cancel()
            for waiter in waiters:
                waiter.withdraw()

    async def _queue_all(
        self, waiters: Sequence[Waiter[Item, Answer]], deadline_seconds: float | None
    ) -> None:
        if not self._places and len(self._queue) + len(waiters) <= self._queue_max:
            self._queue.extend(waiters)
            self._wake()
            return
        if len(self._places) >= PLACES_MAX:
            raise self._refusal(len(waiters))
        place = Place(waiters, self._loop.create_future())
        self._places.append(place)
        patience_seconds = PLACE_WAIT_SECONDS if deadline_seconds is None else deadline_seconds
        timer = self._loop.call_later(patience_seconds, self._refuse, place)
        try:
            await place.is_granted
        finally:
            timer.cancel()
            if place in self._places:
                self._places.remove(place)
                self._grant_places()

    def _grant_places(self) -> None:
        """Let the neighbours in that fit now; those behind them wait, so that none is overtaken."""
        while self._places and len(self._queue) + len(self._places[0].waiters) <= self._queue_max:
            place = self._places.popleft()
            if not place.is_granted.done():
                self._queue.extend(place.waiters)
                place.is_granted.set_result(None)

    def _refuse(self, place: Place[Item, Answer]) -> None:
        if not place.is_granted.done():
            place.refuse(self._refusal(len(place.waiters)))

    def _refusal(self, items: int = 1) -> Busy:
        if not self._is_open:
            return Stopped(f"{self.name} is not running")
        metrics.BATCH_REFUSED.labels(self.name).inc(items)
        return Busy(f"{self.name} has {len(self._queue)} of {self._queue_max} places taken")

    def _wake(self) -> None:
        if self._idle and len(self._queue) > self._awake * self._batch_max and self._may_start():
            self._wake_one()

    def _may_start(self) -> bool:
        if not self._swift or not self._is_open or self._gather_min == 1:
            return True
        return len(self._queue) >= max(self._gather_min, *self._swift.values())

    def _wake_one(self) -> None:
        idle = self._idle.pop()
        if not idle.done():
            idle.set_result(None)
            self._awake += 1

    async def _run_lane(self) -> None:
        while self._is_open or self._queue:
            if self._queue and self._may_start():
                self._awake += 1
            else:
                idle = self._loop.create_future()
                self._idle.append(idle)
                await idle
            if self._linger_seconds and self._is_open:
                await self._linger()
            batch = self._take()
            self._awake -= 1
            self._wake()
            if batch:
                await self._carry(batch)

    async def _linger(self) -> None:
        """Wait for company; for longer while a crowd is coming."""
        for _ in range(LINGERS_MAX):
            await asyncio.sleep(self._linger_seconds)
            gathered = sum([self._size_of(waiter.item) for waiter in self._queue])
            if not (CROWD_MIN <= gathered < CROWD_ENOUGH and self._is_open):
                return

    def _take(self) -> list[Waiter[Item, Answer]]:
        batch: list[Waiter[Item, Answer]] = []
        queue, room, size_of = self._queue, self._batch_max, self._size_of
        if 1 < self._gather_min <= len(queue) // 2 and self._idle and not self._swift:
            room = min(room, len(queue) // 2)
        while queue and room > 0:
            waiter = queue.popleft()
            if not waiter.answer.done():
                waiter.is_flushed = True
                batch.append(waiter)
                room -= 1 if size_of is _one else size_of(waiter.item)  # most count for one
        self._grant_places()
        return batch

    async def _carry(self, batch: list[Waiter[Item, Answer]]) -> None:
        started_at = time.monotonic()
        self._size_metric.observe(len(batch))
        self._wait_metric.observe(started_at - batch[0].queued_at)
        self._swift[batch[0]] = len(batch)
        stall = self._loop.call_later(STALL_SECONDS, self._on_stall, batch[0])
        try:
            await self._flusher.settle(batch)
        except asyncio.CancelledError:
            # The flush may have committed: whoever waits is told that the outcome is not known.
            expire_all(batch)
            if is_cancelled():
                raise
        finally:
            stall.cancel()
            self._swift.pop(batch[0], None)
        self._flush_metric.observe(time.monotonic() - started_at)

    def _on_stall(self, flush: Waiter[Item, Answer]) -> None:
        """Wait no longer for a flush that takes its time: what has gathered goes in another one."""
        self._swift.pop(flush, None)
        self._wake()
