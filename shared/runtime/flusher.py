"""How a batch gets its answers: in one flush, in the same flush again, or in halves (RULES 8)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

from shared.runtime import metrics, tracing
from shared.runtime.waiters import Waiter

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Judge = Callable[[BaseException], bool]

# A deadlock seldom strikes the same batch twice; after five the answer is an error, not patience.
FLUSH_TRIES_MAX: Final = 5

_log = structlog.get_logger(__name__)


class WrongAnswers(Exception):  # noqa: N818 - named for what happened
    """A flush returned another number of answers than it was given items: a bug in the flush."""


def never(_error: BaseException) -> bool:
    """Judge no error: neither bisectable nor retryable."""
    return False


class Flusher(Generic[Item, Answer]):
    """Calls ``flush`` for a batch and settles each of its waiters, whatever happens."""

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        name: str,
        is_bisectable: Judge,
        is_retryable: Judge,
    ) -> None:
        self._flush = flush
        self._name = name
        self._is_bisectable = is_bisectable
        self._is_retryable = is_retryable

    async def settle(self, batch: Sequence[Waiter[Item, Answer]]) -> None:
        """Answer every waiter of the batch. Never raises for an error of the flush.

        An error that is retryable sends the same batch again (``FLUSH_TRIES_MAX`` at most). One that
        is bisectable sends the first half and then the second, until the bad item stands alone. Either says
        that nothing was done, so who waits no more by then is left out: an item is flushed for the last time
        while its caller waits for it.
        """
        if tracing.is_on:
            works = (waiter.work for waiter in batch)
            failure = await tracing.flushed(self._name, works, self._try(batch))
        else:
            failure = await self._try(batch)
        if failure is None:
            return
        if len(batch) == 1 or not self._is_bisectable(failure):
            self._report(failure, len(batch), followed_by="answered")
            for waiter in batch:
                waiter.settle(failure)
            return
        self._report(failure, len(batch), followed_by="halves")
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if waiting := _still_waiting(half):
                await self.settle(waiting)

    async def _try(self, batch: Sequence[Waiter[Item, Answer]]) -> Exception | None:
        """Flush those who wait until it answers; return the error that stays."""
        tries = 1
        while True:
            try:
                self._answer(batch, await self._flush([waiter.item for waiter in batch]))
            except Exception as error:  # noqa: BLE001 - it becomes the waiters' answer, the lane lives
                if tries == FLUSH_TRIES_MAX or not self._is_retryable(error):
                    return error
                batch = _still_waiting(batch)
                if not batch:
                    return error
                self._report(error, len(batch), followed_by="again")
            else:
                return None
            tries += 1

    def _answer(self, batch: Sequence[Waiter[Item, Answer]], answers: Sequence[Answer | Exception]) -> None:
        if len(answers) != len(batch):
            raise WrongAnswers(f"{self._name}: {len(answers)} answers to {len(batch)} items")
        for waiter, answer in zip(batch, answers, strict=True):
            waiter.settle(answer)

    def _report(self, error: Exception, items: int, *, followed_by: str) -> None:
        metrics.BATCH_ERRORS.labels(self._name, followed_by).inc()
        _log.warning(
            "flush failed",
            batcher=self._name,
            error=type(error).__name__,
            sqlstate=getattr(error, "sqlstate", None),
            items=items,
            followed_by=followed_by,
        )


def _still_waiting(batch: Sequence[Waiter[Item, Answer]]) -> Sequence[Waiter[Item, Answer]]:
    return [waiter for waiter in batch if not waiter.answer.done()]
