"""The batcher: who goes together, who is refused, who is answered (RULES 7, 12)."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from shared.runtime import batcher as module
from shared.runtime.batcher import Batcher, Busy, DeadlinePassed, Stopped

LINGER_SECONDS = 0.02


class Gate:
    """A flush that answers each item with its double, once the test lets it."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Semaphore(0)
        self.leave = asyncio.Event()
        if is_open:
            self.leave.set()

    async def flush(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.entered.release()
        await self.leave.wait()
        return [item * 2 for item in items]


def batcher_of(gate: Gate, name: str = "test", **limits: float) -> Batcher[int, int]:
    wanted = {"batch_max": 10, "queue_max": 100} | limits
    return Batcher(gate.flush, name=name, **wanted)  # type: ignore[arg-type]  # the numbers are ints


def refused(name: str) -> float:
    """How many items this batcher has counted as refused."""
    return REGISTRY.get_sample_value("tollwire_batch_refused_total", {"batcher": name}) or 0


async def in_flight(batcher: Batcher[int, int], gate: Gate, item: int = 0) -> asyncio.Task[int]:
    """Submit an item and return when its flush has begun."""
    task = asyncio.create_task(batcher.submit(item))
    await gate.entered.acquire()
    return task


async def queued(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submit items and return when all of them wait."""
    before = batcher.queue_length
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await asyncio.sleep(0)  # each task runs as far as its answer
    assert batcher.queue_length == before + len(items)
    return tasks


async def test_a_lone_item_goes_at_once() -> None:
    gate = Gate(is_open=True)
    async with batcher_of(gate) as batcher:
        assert await batcher.submit(21) == 42
    assert gate.batches == [[21]]


async def test_items_that_arrive_during_a_flush_go_together_in_the_next() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1, 2, 3)
        gate.leave.set()
        assert await asyncio.gather(first, *rest) == [0, 2, 4, 6]
    assert gate.batches == [[0], [1, 2, 3]]


async def test_a_flush_holds_no_more_than_batch_max_in_order_of_arrival() -> None:
    gate = Gate()
    async with batcher_of(gate, batch_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1, 2, 3, 4, 5)
        gate.leave.set()
        await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [1, 2], [3, 4], [5]]


async def test_a_flush_holds_items_of_batch_max_together_where_they_have_a_size() -> None:
    gate = Gate()
    async with Batcher(gate.flush, name="test", batch_max=10, queue_max=100, size_of=abs) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 4, 4, 4, 30, 9, 1)
        gate.leave.set()
        await asyncio.gather(first, *rest)
    # As long as it is not full another one goes with it, whole.
    assert gate.batches == [[0], [4, 4, 4], [30], [9, 1]]


async def test_a_full_queue_refuses_at_once() -> None:
    gate = Gate()
    async with batcher_of(gate, queue_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1, 2)
        with pytest.raises(Busy):
            await batcher.submit(3)
        gate.leave.set()
        await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [1, 2]]


async def test_a_cancelled_waiter_withdraws_its_item_and_leaves_its_neighbours_alone() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        one, two, three = await queued(batcher, 1, 2, 3)
        two.cancel()
        gate.leave.set()
        assert list(await asyncio.gather(first, one, three)) == [0, 2, 6]
        assert two.cancelled()
    assert gate.batches == [[0], [1, 3]]


async def test_a_waiter_cancelled_in_flight_touches_neither_the_flush_nor_the_lane() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        first.cancel()
        second = (await queued(batcher, 1))[0]
        gate.leave.set()
        assert await second == 2
    assert gate.batches == [[0], [1]]


async def test_an_item_whose_deadline_passes_in_the_queue_is_withdrawn() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        with pytest.raises(DeadlinePassed) as caught:
            await batcher.submit(1, deadline_seconds=0.001)
        assert not caught.value.was_flushed
        gate.leave.set()
        await first
    assert gate.batches == [[0]]


async def test_an_item_whose_deadline_passes_in_a_flush_is_told_that_nothing_is_known() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        with pytest.raises(DeadlinePassed) as caught:
            await batcher.submit(1, deadline_seconds=0.001)
        assert caught.value.was_flushed
        gate.leave.set()
    assert gate.batches == [[1]]


async def test_an_answer_in_time_leaves_no_timer_behind() -> None:
    gate = Gate(is_open=True)
    async with batcher_of(gate) as batcher:
        assert await batcher.submit(1, deadline_seconds=60.0) == 2


async def test_several_lanes_flush_side_by_side() -> None:
    gate = Gate()
    async with batcher_of(gate, concurrency=2) as batcher:
        first = await in_flight(batcher, gate, 1)
        second = await in_flight(batcher, gate, 2)
        rest = await queued(batcher, 3, 4)
        gate.leave.set()
        assert await asyncio.gather(first, second, *rest) == [2, 4, 6, 8]
    assert gate.batches == [[1], [2], [3, 4]]


async def test_a_further_lane_starts_only_when_enough_has_gathered() -> None:
    gate = Gate()
    async with batcher_of(gate, concurrency=2, gather_min=3) as batcher:
        first = await in_flight(batcher, gate, 1)
        rest = await queued(batcher, 2, 3)
        assert gate.batches == [[1]]
        rest += [asyncio.create_task(batcher.submit(4))]
        await gate.entered.acquire()
        assert gate.batches == [[1], [2, 3, 4]]
        gate.leave.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]


async def test_a_further_lane_starts_only_when_it_is_as_large_as_the_first() -> None:
    gate = Gate()
    async with batcher_of(gate, concurrency=2, gather_min=2) as batcher:
        first = asyncio.create_task(batcher.submit_many([1, 2, 3]))
        await gate.entered.acquire()
        rest = await queued(batcher, 4, 5)
        assert gate.batches == [[1, 2, 3]]
        rest += [asyncio.create_task(batcher.submit(6))]
        await gate.entered.acquire()
        assert gate.batches == [[1, 2, 3], [4, 5, 6]]
        gate.leave.set()
        await asyncio.gather(first, *rest)


@pytest.mark.parametrize(
    ("crowd", "flushes"),
    [(range(4), [[0, 1], [2, 3]]), (range(7), [[0, 1, 2], [3, 4, 5, 6]]), (range(3), [[0, 1, 2]])],
    ids=["in halves", "the odd one with the second half", "too few for two"],
)
async def test_a_crowd_that_finds_nothing_in_flight_goes_in_halves(
    crowd: Sequence[int], flushes: list[list[int]]
) -> None:
    gate = Gate()
    async with batcher_of(gate, concurrency=2, gather_min=2) as batcher:
        answers = asyncio.create_task(batcher.submit_many(crowd))
        for _ in flushes:
            await gate.entered.acquire()
        gate.leave.set()
        assert await answers == [2 * item for item in crowd]
    assert gate.batches == flushes


async def test_a_crowd_goes_whole_where_lanes_wait_for_nothing() -> None:
    gate = Gate(is_open=True)
    async with batcher_of(gate, concurrency=2) as batcher:
        await batcher.submit_many(range(8))
    assert gate.batches == [list(range(8))]


async def test_the_end_of_one_flush_takes_what_was_too_little_for_a_further_one() -> None:
    gate = Gate()
    async with batcher_of(gate, concurrency=2, gather_min=5) as batcher:
        first = await in_flight(batcher, gate, 1)
        rest = await queued(batcher, 2, 3)
        gate.leave.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6]
    assert gate.batches == [[1], [2, 3]]


async def test_a_flush_that_stalls_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.001)
    gate = Gate()
    async with batcher_of(gate, concurrency=2, gather_min=5) as batcher:
        first = await in_flight(batcher, gate, 1)
        second = asyncio.create_task(batcher.submit(2))
        await gate.entered.acquire()
        assert gate.batches == [[1], [2]]
        gate.leave.set()
        assert list(await asyncio.gather(first, second)) == [2, 4]


async def test_deadlines_pass_in_their_order_whoever_was_answered_meanwhile() -> None:
    gate = Gate()
    async with batcher_of(gate, batch_max=1) as batcher:
        tasks = [asyncio.create_task(batcher.submit(item, deadline_seconds=0.005)) for item in range(3)]
        tasks[1].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [DeadlinePassed, asyncio.CancelledError, DeadlinePassed]
        gate.leave.set()


async def test_a_lane_that_lingers_gathers_what_comes_meanwhile() -> None:
    gate = Gate(is_open=True)
    async with batcher_of(gate, linger_seconds=LINGER_SECONDS) as batcher:
        first = asyncio.create_task(batcher.submit(1))
        second = asyncio.create_task(batcher.submit(2))
        assert list(await asyncio.gather(first, second)) == [2, 4]
    assert gate.batches == [[1, 2]]


async def test_many_items_may_span_flushes_and_keep_their_order() -> None:
    gate = Gate(is_open=True)
    async with batcher_of(gate, batch_max=4) as batcher:
        assert await batcher.submit_many(range(10)) == [item * 2 for item in range(10)]
        assert await batcher.submit_many([]) == []
    assert gate.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_many_items_wait_for_a_place_as_a_whole() -> None:
    gate = Gate()
    async with batcher_of(gate, queue_max=4, batch_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1, 2, 3)
        many = asyncio.create_task(batcher.submit_many([10, 11]))
        await asyncio.sleep(0)
        assert batcher.queue_length == 3
        gate.leave.set()
        assert await many == [20, 22]
        await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [1, 2], [3, 10], [11]]


async def test_nobody_takes_the_place_that_others_wait_for() -> None:
    gate = Gate()
    async with batcher_of(gate, queue_max=4) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1, 2, 3)
        many = asyncio.create_task(batcher.submit_many([10, 11]))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.submit(4)
        gate.leave.set()
        assert await many == [20, 22]
        await asyncio.gather(first, *rest)


async def test_many_items_without_a_place_are_refused_before_any() -> None:
    gate = Gate()
    async with batcher_of(gate, queue_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1)
        with pytest.raises(Busy):
            await batcher.submit_many([10, 11], deadline_seconds=0.001)
        assert await asyncio.wait_for(queued(batcher, 2), 1)
        gate.leave.set()
        await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [1, 2]]


async def test_items_are_counted_as_refused_when_they_are_and_not_when_they_wait() -> None:
    gate = Gate()
    async with batcher_of(gate, name="counted", queue_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1)
        many = asyncio.create_task(batcher.submit_many([10, 11]))
        await asyncio.sleep(0)
        assert refused("counted") == 0
        with pytest.raises(Busy):
            await batcher.submit_many([20, 21], deadline_seconds=0.001)
        assert refused("counted") == 2
        gate.leave.set()
        await asyncio.gather(first, many, *rest)
    assert refused("counted") == 2


async def test_the_deadline_of_many_items_counts_from_their_submission() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        outcomes = await batcher.submit_each([1, 2], deadline_seconds=0.001)
        assert [type(outcome) for outcome in outcomes] == [DeadlinePassed, DeadlinePassed]
        gate.leave.set()
        await first
    assert gate.batches == [[0]]


async def test_a_cancelled_caller_of_many_items_withdraws_all_of_them() -> None:
    gate = Gate()
    async with batcher_of(gate) as batcher:
        first = await in_flight(batcher, gate)
        many = asyncio.create_task(batcher.submit_many([10, 11]))
        await asyncio.sleep(0)
        many.cancel()
        await asyncio.wait([many])
        gate.leave.set()
        await first
    assert gate.batches == [[0]]


async def test_a_cancelled_wait_for_a_place_lets_the_next_in() -> None:
    gate = Gate()
    async with batcher_of(gate, queue_max=3) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1)
        large = asyncio.create_task(batcher.submit_many([10, 11, 12]))
        small = asyncio.create_task(batcher.submit_many([20, 21]))
        await asyncio.sleep(0)
        assert batcher.queue_length == 1
        large.cancel()
        await asyncio.wait([large])
        assert batcher.queue_length == 3
        gate.leave.set()
        assert await small == [40, 42]
        await asyncio.gather(first, *rest)


async def test_too_many_callers_waiting_for_a_place_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PLACES_MAX", 1)
    gate = Gate()
    async with batcher_of(gate, queue_max=2) as batcher:
        first = await in_flight(batcher, gate)
        rest = await queued(batcher, 1)
        waiting = asyncio.create_task(batcher.submit_many([10, 11]))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.submit_many([20, 21])
        gate.leave.set()
        await asyncio.gather(first, waiting, *rest)


async def test_more_items_than_the_queue_can_ever_hold_are_a_mistake() -> None:
    async with batcher_of(Gate(), queue_max=2) as batcher:
        with pytest.raises(ValueError, match="never fit"):
            await batcher.submit_many([1, 2, 3])


async def test_a_closed_batcher_takes_nothing() -> None:
    batcher = batcher_of(Gate(is_open=True))
    async with batcher:
        pass
    with pytest.raises(Stopped):
        await batcher.submit(1)
    with pytest.raises(Stopped):
        await batcher.submit_many([1])


def test_limits_below_one_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        batcher_of(Gate(), batch_max=0)
