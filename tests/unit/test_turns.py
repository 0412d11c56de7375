"""Batches take turns: by client, the begun one first, and never all turns for one client."""

import asyncio
from contextlib import ExitStack

import pytest

from api import turns as module
from api.turns import BATCHES_MAX, CLIENT_TURNS_MAX, TURNS_MAX, Turns
from shared.runtime.waiters import Busy

LONG_SECONDS = 60.0


class Pieces:
    """Pieces of batches that have their turn until they are let go, noted in the order of their turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, name: str, client_id: int, *, is_begun: bool = False) -> asyncio.Task[None]:
        self._ends[name] = asyncio.Event()
        task = asyncio.create_task(self._have(name, client_id, is_begun))
        self._tasks.append(task)
        await settled()
        return task

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settled()

    async def end_all(self) -> None:
        for event in self._ends.values():
            event.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _have(self, name: str, client_id: int, is_begun: bool) -> None:
        async with self.turns.turn(client_id, wait_seconds=LONG_SECONDS, is_begun=is_begun):
            self.begun.append(name)
            await self._ends[name].wait()


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_client_never_has_all_turns() -> None:
    pieces = Pieces()
    for number in range(TURNS_MAX):
        await pieces.ask(f"a{number}", 1)
    assert pieces.begun == [f"a{number}" for number in range(CLIENT_TURNS_MAX)]
    await pieces.ask("b", 2)
    assert pieces.begun[-1] == "b"
    await pieces.end_all()


async def test_turns_go_round_by_client_however_many_batches_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURNS_MAX", 1)
    pieces = Pieces()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await pieces.ask(name, ord(name[0]))
    for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
        await pieces.end(name)
    assert pieces.begun == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    await pieces.end_all()


async def test_a_batch_that_began_goes_on_before_its_clients_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURNS_MAX", 1)
    pieces = Pieces()
    await pieces.ask("first", 1)
    await pieces.ask("second", 1)
    await pieces.ask("first goes on", 1, is_begun=True)
    await pieces.end("first")
    assert pieces.begun == ["first", "first goes on"]
    await pieces.end_all()


async def test_who_gives_up_or_is_refused_keeps_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURNS_MAX", 1)
    pieces = Pieces()
    await pieces.ask("first", 1)
    gone = await pieces.ask("gone", 2)
    gone.cancel()
    with pytest.raises(Busy):
        async with pieces.turns.turn(3, wait_seconds=0.0, is_begun=False):
            pieces.begun.append("late")
    # Handed out in the very moment in which its caller is cancelled.
    handed = await pieces.ask("handed", 4)
    pieces._ends["first"].set()
    await asyncio.sleep(0)
    handed.cancel()
    await settled()
    await pieces.ask("last", 5)
    assert pieces.begun == ["first", "last"]
    assert pieces.turns.has_turn(5)
    assert not pieces.turns.has_turn(4)
    await pieces.end_all()
    assert not pieces.turns.has_turn(5)


def test_one_clients_batches_leave_places_to_others() -> None:
    turns = Turns()
    with ExitStack() as held:
        for _ in range(BATCHES_MAX // 2):
            held.enter_context(turns.place(1))
        with pytest.raises(Busy):
            held.enter_context(turns.place(1))
        held.enter_context(turns.place(2))
    with turns.place(1):
        assert turns._places == {1: 1}
