"""The callers of a batcher: what each waits for, and the ways in which that wait ends."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from shared.runtime import tracing

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Busy(Exception):  # noqa: N818 - named for what happened
    """The queue is full. Nothing was done; try again a little later."""


class Stopped(Busy):
    """This process is stopping and takes no more work. Nothing was done; try again elsewhere."""


class DeadlinePassed(Exception):  # noqa: N818 - named for what happened
    """No answer came in time.

    ``was_flushed`` is False when the item was still waiting: it is withdrawn and nothing was done.
    It is True when a flush had taken the item: what became of it is not known.
    """

    def __init__(self, *, was_flushed: bool) -> None:
        super().__init__("the flush did not answer in time" if was_flushed else "the queue was too long")
        self.was_flushed = was_flushed


class Waiter(Generic[Item, Answer]):
    """One item and the future that its caller awaits."""

    __slots__ = ("answer", "is_flushed", "item", "queued_at", "work")

    def __init__(self, item: Item, answer: asyncio.Future[Answer]) -> None:
        self.item = item
        self.answer = answer
        self.is_flushed = False
        self.queued_at = time.monotonic()
        self.work = tracing.current() if tracing.is_on else None

    def settle(self, answer: Answer | Exception) -> None:
        """Answer the caller, unless it is gone or was told that its deadline passed."""
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)

    def expire(self) -> None:
        """Tell the caller that its deadline passed; an item that still waits is withdrawn."""
        self.settle(DeadlinePassed(was_flushed=self.is_flushed))

    async def outcome(self) -> Answer | Exception:
        """Await the answer; an exception that belongs to the item is returned, not raised."""
        try:
            return await self.answer
        except Exception as error:  # noqa: BLE001 - it is the item's answer, the caller judges it
            return error

    def withdraw(self) -> None:
        """Let go of the answer: an item that still waits is not flushed, a stray error is not reported."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


class Deadlines:
    """Tells waiters that their deadline passed. One timer serves all that wait equally long."""

    __slots__ = ("_by_patience",)

    def __init__(self) -> None:
        self._by_patience: dict[float, _Patience] = {}

    def watch(self, waiter: Waiter[Item, Answer], seconds: float) -> None:
        """Expire the waiter so long after it was queued, if it has no answer by then."""
        patience = self._by_patience.get(seconds)
        if patience is None:
            patience = self._by_patience[seconds] = _Patience(seconds)
        patience.watch(waiter)

    def close(self) -> None:
        """Stop the timers."""
        for patience in self._by_patience.values():
            patience.close()


class _Patience:
    __slots__ = ("_seconds", "_timer", "_waiters")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiters: deque[Waiter[Any, Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, waiter: Waiter[Any, Any]) -> None:
        waiters = self._waiters
        while waiters and waiters[0].answer.done():
            waiters.popleft()
        waiters.append(waiter)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiters:
            waiter = self._waiters[0]
            left_seconds = waiter.queued_at + self._seconds - now
            if left_seconds > 0 and not waiter.answer.done():
                self._timer = asyncio.get_running_loop().call_later(left_seconds, self._expire)
                return
            self._waiters.popleft()
            waiter.expire()


def expire_all(waiters: Iterable[Waiter[Item, Answer]]) -> None:
    """Tell several callers that their deadline passed."""
    for waiter in waiters:
        waiter.expire()


class Place(Generic[Item, Answer]):
    """Neighbours that wait until the queue has room for all of them."""

    __slots__ = ("is_granted", "waiters")

    def __init__(self, waiters: Sequence[Waiter[Item, Answer]], is_granted: asyncio.Future[None]) -> None:
        self.waiters = waiters
        self.is_granted = is_granted

    def refuse(self, error: Busy) -> None:
        """Tell the neighbours that none of them got in."""
        if not self.is_granted.done():
            self.is_granted.set_exception(error)
