"""Invariant: places never exceed their limits, and nobody waits for a place that is free."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from dlr.turns import Lane, Limits, Place, Turns

LIMITS = Limits(total_max=4, slow_total_max=2, window_max=3, waiting_max=6, slow_waiting_max=2)
LANES = 4
OTHERS = ["cancel", "race", "slow", "fast", "widen", "narrow", "away"]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take"] * 6 + ["give"] * 3 + OTHERS),
        st.integers(0, LANES - 1),
    ),
    min_size=30,
    max_size=80,
)


@dataclass
class Model:
    """The turns, and who holds or waits for what."""

    turns: Turns = field(default_factory=lambda: Turns(LIMITS, lambda: 0.0))
    lanes: list[Lane] = field(default_factory=lambda: [Lane(number, window=3) for number in range(LANES)])
    waiting: list[tuple[Lane, asyncio.Task[Place]]] = field(default_factory=list)
    held: list[Lane] = field(default_factory=list)

    async def settle(self) -> None:
        """Let woken waiters run, and see what they got."""
        for _ in range(3):
            await asyncio.sleep(0)
        for lane, task in [entry for entry in self.waiting if entry[1].done()]:
            self.waiting.remove((lane, task))
            if not task.cancelled() and task.result() is not Place.NONE:
                self.held.append(lane)

    async def act(self, action: str, lane: Lane) -> None:
        match action:
            case "take":
                self.waiting.append((lane, asyncio.create_task(self.turns.take(lane))))
            case "give" if lane in self.held:
                self.held.remove(lane)
                self.turns.give_back(lane)
            case "cancel":
                self.cancel(lane)
            case "race" if self.held:
                self.turns.give_back(self.held.pop())
                self.cancel(lane)  # in the moment in which a turn may have come
            case "slow" | "fast":
                self.turns.mark(lane, is_slow=action == "slow")
            case "widen" if lane in self.held:
                self.turns.widen(lane)  # a success, and what follows it at once
                self.held.remove(lane)
                self.turns.give_back(lane)
            case "narrow":
                self.turns.narrow(lane)
            case "away":
                self.turns.send_away(lane)
        await self.settle()

    def cancel(self, lane: Lane) -> None:
        for waiter, task in self.waiting:
            if waiter is lane:
                task.cancel()

    def check(self) -> None:
        assert self.turns.in_flight == len(self.held) <= LIMITS.total_max
        for lane in self.lanes:
            assert lane.in_flight == self.held.count(lane)
            assert len(lane.waiting) <= LIMITS.waiting_max
        free = self.turns.in_flight < LIMITS.total_max
        slow_free = sum(lane.in_flight for lane in self.lanes if lane.is_slow) < LIMITS.slow_total_max
        for lane, _ in self.waiting:
            has_window = lane.in_flight < lane.window
            assert not (free and has_window and (slow_free or not lane.is_slow)), "a free place stays empty"


async def play(actions: list[tuple[str, int]]) -> None:
    model = Model()
    for action, number in actions:
        await model.act(action, model.lanes[number])
        model.check()
    while model.held:
        await model.act("give", model.held[0])
        model.check()
    assert model.waiting == [], "when all places have been given back, everybody had a turn"
    assert model.turns.in_flight == 0


@settings(max_examples=300)
@given(ACTIONS)
def test_places_keep_their_limits_and_no_turn_is_lost(actions: list[tuple[str, int]]) -> None:
    asyncio.run(play(actions))
