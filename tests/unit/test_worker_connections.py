"""A carrier's connections: turns, and who is turned away."""

import asyncio

import pytest

from worker.carriers.base import FREELY, GIVEN_BACK, Handover, Refused
from worker.carriers.connections import Connections


class Refusing(Handover):
    """Refuses what it is told to."""

    def __init__(self, refused: Refused | None = GIVEN_BACK) -> None:
        self.refused = refused

    def refusal(self) -> Refused | None:
        return self.refused


class Urgent(Handover):
    """Goes first."""

    is_urgent = True


async def waiting(
    connections: Connections, number: int, handover: Handover = FREELY
) -> list[asyncio.Task[Refused | None]]:
    """So many who wait."""
    tasks = [asyncio.create_task(connections.take(handover)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_gets_a_connection_in_its_turn():
    connections = Connections(1)
    assert await connections.take(FREELY) is None
    first, second = await waiting(connections, 2)
    connections.give()
    assert await first is None
    assert not second.done()
    connections.give()
    assert await second is None
    connections.give()
    assert await connections.take(FREELY) is None


async def test_who_may_not_be_written_takes_no_connection():
    connections = Connections(1)
    assert await connections.take(Refusing()) is GIVEN_BACK
    assert await connections.take(FREELY) is None


@pytest.mark.parametrize("has_been_granted", [False, True])
async def test_a_turn_passes_on_when_its_owner_is_cancelled(has_been_granted):
    connections = Connections(1)
    await connections.take(FREELY)
    first, second = await waiting(connections, 2)
    if has_been_granted:
        connections.give()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    if not has_been_granted:
        connections.give()
    assert await second is None
    last = asyncio.create_task(connections.take(FREELY))
    await asyncio.sleep(0)
    assert not last.done(), "there is one connection, and no more"
    connections.give()
    assert await last is None


@pytest.mark.parametrize("by_a_free_one", [False, True])
async def test_who_waits_in_vain_is_turned_away_and_the_others_keep_their_turns(by_a_free_one):
    connections = Connections(1)
    await connections.take(FREELY)
    handover = Refusing(None)
    (in_vain,) = await waiting(connections, 1, handover)
    (other,) = await waiting(connections, 1)
    handover.refused = GIVEN_BACK
    if by_a_free_one:
        connections.give()
        assert await other is None
    else:
        connections.turn_away()
        await asyncio.sleep(0)
        assert not other.done()
    assert await in_vain is GIVEN_BACK
    if not by_a_free_one:
        connections.give()
        assert await other is None


async def test_who_is_urgent_goes_first_and_every_other_turn_is_for_the_others():
    connections = Connections(1)
    await connections.take(FREELY)
    others = await waiting(connections, 3)
    urgent = await waiting(connections, 3, Urgent())
    order = []
    for _ in range(6):
        connections.give()
        done, _ = await asyncio.wait([*others, *urgent], return_when=asyncio.FIRST_COMPLETED)
        (granted,) = done
        order.append("urgent" if granted in urgent else "other")
        (urgent if granted in urgent else others).remove(granted)
    assert order == ["urgent", "other"] * 3
