"""dlr fetches no more for an endpoint than it has places for: else it fetches and sends back for ever."""

import asyncio

from dlr.turns import Lane, Limits, Place, Turns

LIMITS = Limits(total_max=10, slow_total_max=6, window_max=32, waiting_max=50, slow_waiting_max=4)


async def test_slow_endpoints_that_take_what_they_are_brought_in_turn_are_brought_no_more() -> None:
    turns = Turns(LIMITS, lambda: 0.0)
    lanes = [Lane(number, window=8, is_slow=True) for number in range(5)]
    asked: list[asyncio.Task[Place]] = []
    for _ in range(5):  # sweeps
        for lane in lanes:
            asked += [asyncio.create_task(turns.take(lane)) for _ in range(turns.room(lane))]
            await asyncio.sleep(0)
    assert not any(task.done() and task.result() is Place.NONE for task in asked)
    assert turns.in_flight == LIMITS.slow_total_max
    assert [turns.room(lane) for lane in lanes] == [0] * len(lanes)
    await _sent_away(turns, lanes, asked)


async def test_a_slow_endpoint_is_brought_as_many_as_may_wait_where_others_have_all_places() -> None:
    turns = Turns(LIMITS, lambda: 0.0)
    busy, slow = Lane(1, window=LIMITS.total_max), Lane(2, window=8, is_slow=True)
    asked = [asyncio.create_task(turns.take(busy)) for _ in range(LIMITS.total_max)]
    await asyncio.sleep(0)
    assert turns.room(slow) == LIMITS.slow_waiting_max
    turns.mark(busy, is_slow=True)  # more than the slow ones' share is under way now
    assert turns.room(slow) == LIMITS.slow_waiting_max
    asked += [asyncio.create_task(turns.take(slow)) for _ in range(turns.room(slow))]
    await asyncio.sleep(0)
    assert turns.room(slow) == 0
    await _sent_away(turns, [slow], asked)


async def _sent_away(turns: Turns, lanes: list[Lane], asked: list[asyncio.Task[Place]]) -> None:
    for lane in lanes:
        turns.send_away(lane)
    await asyncio.gather(*asked)
