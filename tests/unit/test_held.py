"""The room for callbacks in memory: whoever fills it leaves places to the others."""

from uuid import UUID, uuid4

import pytest

from dlr.held import RESERVE, Held

ROOM = 900


def fill(held: Held, endpoint_id: int) -> list[UUID]:
    """All that an endpoint may hold."""
    found: list[UUID] = []
    while held.take(made := uuid4(), endpoint_id):
        found.append(made)
    return found


def test_one_endpoint_gets_half_of_the_room() -> None:
    held = Held(ROOM)
    assert len(fill(held, 1)) == held.free == ROOM // 2


@pytest.mark.parametrize("greedy", [2, 8, 40])
def test_however_many_take_all_they_can_there_is_room_for_one_more(greedy: int) -> None:
    held = Held(ROOM)
    is_growing = True
    while is_growing:
        taken = [held.take(uuid4(), number) for number in range(1, greedy + 1)]
        is_growing = any(taken)
    assert held.free >= ROOM // (greedy + 1)
    assert held.take(uuid4(), greedy + 1)


def test_what_is_let_go_makes_room_once() -> None:
    held = Held(ROOM)
    (first, *_) = fill(held, 1)
    held.let_go(first)
    held.let_go(first)
    assert held.free == ROOM // 2 + 1
    assert held.take(first, 1)


def test_nothing_is_held_twice() -> None:
    held = Held(ROOM)
    callback_id = uuid4()
    assert held.take(callback_id, 1)
    assert not held.take(callback_id, 1)
    assert not held.take(callback_id)


def test_what_is_loaded_counts_for_its_endpoint_once_that_is_known() -> None:
    held = Held(ROOM)
    loading = [uuid4() for _ in range(ROOM)]
    assert all(held.take(callback_id) for callback_id in loading)
    assert held.free == 0
    kept = [callback_id for callback_id in loading if held.learn(callback_id, 1)]
    assert len(kept) == held.free == ROOM // 2


def test_what_is_given_back_is_held_beside_and_leaves_a_reserve() -> None:
    held = Held(ROOM)
    fill(held, 1)
    first = uuid4()
    assert held.take_aside(first)
    assert not held.take_aside(first), "it is held already"
    aside = [first, *(made for made in (uuid4() for _ in range(ROOM)) if held.take_aside(made))]
    assert held.free == ROOM // RESERVE
    assert held.take(uuid4(), 2)
    held.let_go_all(aside)
    assert held.free == ROOM // 2 - 1
