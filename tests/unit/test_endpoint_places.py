"""dlr fetches no more for an endpoint than it has places for: else it fetches and sends back for ever."""

import asyncio

from dlr.turns import Lane, Limits, Place, Turns

LIMITS = Limits(total_max=100, slow_total_max=6, window_max=32, waiting_max=50, slow_waiting_max=4)


async def test_no_slow_endpoint_is_brought_more_than_it_has_places_for() -> None:
    turns = Turns(LIMITS, lambda: 0.0)
    lanes = [Lane(number, window=8, is_slow=True) for number in range(5)]
    asked: list[asyncio.Task[Place]] = []
    for _ in range(30):  # sweeps
        brought = [(lane, turns.room(lane)) for lane in lanes]
        for lane, room in brought:
            asked += [asyncio.create_task(turns.take(lane)) for _ in range(min(room, 2))]
            await asyncio.sleep(0)
            assert not any(task.done() and task.result() is Place.NONE for task in asked)
    assert turns.in_flight == LIMITS.slow_total_max
    assert [turns.room(lane) for lane in lanes] == [0] * len(lanes)
    for lane in lanes:
        turns.send_away(lane)
    await asyncio.gather(*asked)
