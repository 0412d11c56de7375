"""What sweeps lease of deep piles, over a model of lease_callbacks_v1's order and limits."""

from collections import Counter

import pytest

from dlr.piles import SWEEP_EACH, SWEEP_FIRST, SWEEP_LONE, SWEEP_MAX, Piles

SWEEPS = 30
PILE = 100_000


def lease(due: Counter[int], piles: Piles, limit: int, rooms: dict[int, int]) -> list[int]:
    """The owners of what a sweep gets: by their ids, from after the last one on, and round again to it."""
    owners: list[int] = []
    for endpoint_id in sorted(due, key=lambda one: (one <= piles.after, one)):
        number = min(rooms.get(endpoint_id, SWEEP_FIRST), due[endpoint_id], limit - len(owners))
        due[endpoint_id] -= number
        owners += [endpoint_id] * number
    return owners


def sweep(due: Counter[int], piles: Piles, room: int = SWEEP_EACH, limit: int = SWEEP_MAX) -> Counter[int]:
    """What a sweep takes of each, where every endpoint has the same room."""
    rooms = {endpoint_id: min(each, room) for endpoint_id, each in piles.deep().items()}
    owners = lease(due, piles, limit, rooms)
    piles.learn(owners, limit, rooms)
    return Counter(owners)


@pytest.mark.parametrize("endpoints", [5, 6, 12, 51, 60, 100, 400])
def test_sweeps_of_deep_piles_are_full_and_get_to_everybody(endpoints: int) -> None:
    due, piles = Counter(dict.fromkeys(range(1, endpoints + 1), PILE)), Piles()
    taken = [sweep(due, piles) for _ in range(SWEEPS)]
    totals = [one.total() for one in taken]
    assert totals[1:] == [SWEEP_MAX] * (SWEEPS - 1)
    of_each = [PILE - due[endpoint_id] for endpoint_id in due]
    # Some have had one turn more; and who was the last of a sweep may have got part of a turn.
    assert min(of_each) > max(of_each) - 3 * SWEEP_EACH
    assert min(of_each) >= SWEEP_FIRST


def test_of_an_endpoint_that_nobody_has_tried_few_are_taken() -> None:
    due, piles = Counter({1: PILE}), Piles()
    assert sweep(due, piles) == {1: SWEEP_FIRST}
    assert sweep(due, piles) == {1: SWEEP_EACH}


def test_deep_piles_share_what_a_sweep_takes() -> None:
    due, piles = Counter(dict.fromkeys((1, 2, 3), PILE)), Piles()
    sweep(due, piles, room=SWEEP_MAX)
    assert set(sweep(due, piles, room=SWEEP_MAX).values()) == {SWEEP_MAX // 3}


def test_a_lone_deep_pile_leaves_half_of_a_sweep_to_others() -> None:
    due, piles = Counter({1: PILE}), Piles()
    sweep(due, piles, room=SWEEP_MAX)
    due.update(dict.fromkeys(range(2, 20), 1))
    assert sweep(due, piles, room=SWEEP_MAX) == {1: SWEEP_LONE, **dict.fromkeys(range(2, 20), 1)}


def test_a_pile_that_gave_less_than_asked_is_deep_no_more() -> None:
    due, piles = Counter({1: SWEEP_FIRST + 5, 2: PILE}), Piles()
    for _ in range(2):
        sweep(due, piles)
    due[1] = PILE
    assert sweep(due, piles) == {1: SWEEP_FIRST, 2: SWEEP_EACH}


def test_an_endpoint_that_took_nothing_is_brought_few_again() -> None:
    due, piles = Counter({1: PILE}), Piles()
    sweep(due, piles)
    assert sweep(due, piles, room=0).total() == 0
    assert sweep(due, piles) == {1: SWEEP_FIRST}


def test_a_small_room_says_nothing_of_the_pile() -> None:
    due, piles = Counter({1: PILE}), Piles()
    sweep(due, piles)
    assert sweep(due, piles, room=5) == {1: 5}
    assert sweep(due, piles) == {1: SWEEP_EACH}


def test_a_sweep_with_little_room_forgets_nobody_behind_its_end() -> None:
    due, piles = Counter({1: PILE, 2: PILE, 3: PILE}), Piles()
    sweep(due, piles)
    assert sweep(due, piles, limit=1) == {1: 1}
    assert sweep(due, piles) == {2: SWEEP_EACH, 3: SWEEP_EACH, 1: SWEEP_EACH}


def test_an_endpoint_that_is_gone_is_not_remembered() -> None:
    due, piles = Counter({7: PILE}), Piles()
    sweep(due, piles)
    del due[7]
    sweep(due, piles)
    assert piles.deep() == {}
