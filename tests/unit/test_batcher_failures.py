"""The batcher when a flush fails, and when the process stops (RULES 7, 8)."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.runtime.batcher import Batcher, DeadlinePassed, Stopped, WrongAnswers
from shared.runtime.flusher import FLUSH_TRIES_MAX


class BadRowError(Exception):
    """One item of the batch is at fault."""


class DeadlockError(Exception):
    """Nothing was done, the same batch may go again."""


class BrokenError(Exception):
    """Neither halves nor repeats can help."""


class Recorder:
    """A flush that fails as told, and notes every batch."""

    def __init__(self, bad: frozenset[int] = frozenset(), failures: Sequence[Exception] = ()) -> None:
        self.batches: list[list[int]] = []
        self.bad = bad
        self.failures = list(failures)

    async def flush(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        if self.failures:
            raise self.failures.pop(0)
        if self.bad & set(items):
            raise BadRowError
        return [item * 2 for item in items]


def batcher_of(recorder: Recorder) -> Batcher[int, int]:
    return Batcher(
        recorder.flush,
        name="test",
        batch_max=100,
        queue_max=100,
        is_bisectable=lambda error: isinstance(error, BadRowError),
        is_retryable=lambda error: isinstance(error, DeadlockError),
    )


async def test_an_error_answers_all_waiters_and_the_lane_lives() -> None:
    recorder = Recorder(failures=[BrokenError()])
    async with batcher_of(recorder) as batcher:
        outcomes = await batcher.submit_each([1, 2, 3])
        assert [type(outcome) for outcome in outcomes] == [BrokenError] * 3
        assert await batcher.submit(4) == 8
    assert recorder.batches == [[1, 2, 3], [4]]


async def test_a_bad_row_is_found_in_halves_and_fails_alone() -> None:
    recorder = Recorder(bad=frozenset({3}))
    async with batcher_of(recorder) as batcher:
        outcomes = await batcher.submit_each([1, 2, 3, 4])
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        2, 4, BadRowError, 8,
    ]  # fmt: skip
    assert recorder.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]


async def test_the_first_item_that_failed_is_raised_to_who_wants_all() -> None:
    async with batcher_of(Recorder(bad=frozenset({2}))) as batcher:
        with pytest.raises(BadRowError):
            await batcher.submit_many([1, 2, 3])


async def test_a_retryable_error_sends_the_same_batch_again_whole() -> None:
    recorder = Recorder(failures=[DeadlockError(), DeadlockError()])
    async with batcher_of(recorder) as batcher:
        assert await batcher.submit_many([1, 2]) == [2, 4]
    assert recorder.batches == [[1, 2]] * 3


async def test_a_retryable_error_is_not_repeated_for_ever() -> None:
    recorder = Recorder(failures=[DeadlockError() for _ in range(100)])
    async with batcher_of(recorder) as batcher:
        with pytest.raises(DeadlockError):
            await batcher.submit(1)
    assert len(recorder.batches) == FLUSH_TRIES_MAX


class Slow(Recorder):
    """A flush that takes so long."""

    def __init__(self, seconds: float, **fails: object) -> None:
        super().__init__(**fails)  # type: ignore[arg-type]  # a Recorder's own words
        self.seconds = seconds

    async def flush(self, items: Sequence[int]) -> list[int | Exception]:
        await asyncio.sleep(self.seconds)
        return await super().flush(items)


async def test_a_flush_is_made_again_without_those_who_wait_no_more() -> None:
    recorder = Slow(0.05, failures=[DeadlockError()])
    async with batcher_of(recorder) as batcher:
        impatient = asyncio.create_task(batcher.submit(1, deadline_seconds=0.02))
        patient = asyncio.create_task(batcher.submit(2))
        assert await patient == 4
        with pytest.raises(DeadlinePassed):
            await impatient
    assert recorder.batches == [[1, 2], [2]]


async def test_a_flush_that_nobody_waits_for_is_not_made_again() -> None:
    recorder = Slow(0.05, failures=[DeadlockError() for _ in range(100)])
    async with batcher_of(recorder) as batcher:
        with pytest.raises(DeadlinePassed):
            await batcher.submit(1, deadline_seconds=0.02)
    assert recorder.batches == [[1]]


async def test_halves_are_made_of_those_who_still_wait() -> None:
    """A good item alone is asked again: that its neighbours were bad is not its fault."""
    recorder = Slow(0.05, bad=frozenset({1}))
    async with batcher_of(recorder) as batcher:
        impatient = [asyncio.create_task(batcher.submit(item, deadline_seconds=0.02)) for item in (1, 3)]
        patient = asyncio.create_task(batcher.submit(2))
        assert await patient == 4
        for task in impatient:
            with pytest.raises(DeadlinePassed):
                await task
    assert recorder.batches == [[1, 3, 2], [2]]


async def test_an_exception_in_a_position_is_raised_to_that_caller_alone() -> None:
    async def flush(items: Sequence[int]) -> list[int | Exception]:
        return [BadRowError() if item == 2 else item for item in items]

    async with Batcher(flush, name="test", batch_max=10, queue_max=10) as batcher:
        outcomes = await batcher.submit_each([1, 2, 3])
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, BadRowError, 3)


async def test_another_number_of_answers_is_an_error_for_all() -> None:
    async def flush(items: Sequence[int]) -> list[int | Exception]:
        return [1]

    async with Batcher(flush, name="test", batch_max=10, queue_max=10) as batcher:
        outcomes = await batcher.submit_each([1, 2])
    assert [type(outcome) for outcome in outcomes] == [WrongAnswers, WrongAnswers]


class Held:
    """A flush that stays until the test releases it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()

    async def flush(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.entered.set()
        await self.leave.wait()
        return list(items)


async def open_held(held: Held, queue_max: int = 10) -> Batcher[int, int]:
    batcher: Batcher[int, int] = Batcher(held.flush, name="test", batch_max=10, queue_max=queue_max)
    return await batcher.__aenter__()


async def test_closing_answers_everything_that_was_queued() -> None:
    held = Held()
    batcher = await open_held(held)
    tasks = [asyncio.create_task(batcher.submit(1))]
    await held.entered.wait()
    tasks += [asyncio.create_task(batcher.submit(item)) for item in (2, 3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.__aexit__(None, None, None))
    await asyncio.sleep(0)
    with pytest.raises(Stopped):
        await batcher.submit(4)
    held.leave.set()
    await closing
    assert await asyncio.gather(*tasks) == [1, 2, 3]
    assert held.batches == [[1], [2, 3]]


async def test_closing_refuses_who_still_waits_for_a_place() -> None:
    held = Held()
    batcher = await open_held(held, queue_max=2)
    first = asyncio.create_task(batcher.submit(1))
    await held.entered.wait()
    second = asyncio.create_task(batcher.submit(2))
    many = asyncio.create_task(batcher.submit_many([3, 4]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.__aexit__(None, None, None))
    with pytest.raises(Stopped):
        await many
    held.leave.set()
    await asyncio.gather(closing, first, second)


async def test_a_firm_stop_says_what_is_unknown_and_what_was_not_done() -> None:
    held = Held()
    batcher = await open_held(held)
    flushed = asyncio.create_task(batcher.submit(1))
    await held.entered.wait()
    queued = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.__aexit__(None, None, None))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    with pytest.raises(DeadlinePassed) as caught:
        await flushed
    assert caught.value.was_flushed
    with pytest.raises(Stopped):
        await queued


async def test_something_cancelled_inside_a_flush_does_not_end_the_lane() -> None:
    calls: list[int] = []

    async def flush(items: Sequence[int]) -> list[int | Exception]:
        calls.append(len(items))
        if len(calls) == 1:
            raise asyncio.CancelledError
        return list(items)

    async with Batcher(flush, name="test", batch_max=10, queue_max=10) as batcher:
        with pytest.raises(DeadlinePassed):
            await batcher.submit(1)
        assert await batcher.submit(2) == 2
