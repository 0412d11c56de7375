"""Batches take turns: however many one client brings, another one's waits for a piece of work and no more.

A turn is the right to have one piece of a batch accepted. Turns go round by client, not by batch; within a
client the batch that began first goes on first. Single messages need no turn and have a flush of their own.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from shared.runtime.waiters import Busy

# While two pieces are at the database the next one is made ready. More at once would only wait there,
# beside the single messages.
TURNS_MAX: Final = 3
# What a client may have of them: its pieces lock one account, and when that is slow the others go on.
CLIENT_TURNS_MAX: Final = 2
# Batches in hand, as requests read into memory: about 1 MB each, and some seconds of work.
BATCHES_MAX: Final = 100


class Turns:
    """Who may have a piece of a batch accepted now."""

    def __init__(self) -> None:
        self._places: Counter[int] = Counter()
        self._free = TURNS_MAX
        self._in_hand: dict[int, int] = {}
        self._lines: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()

    def has_turn(self, client_id: int) -> bool:
        """Whether a piece of this client is being accepted, and its account may be locked for it."""
        return client_id in self._in_hand

    @contextmanager
    def place(self, client_id: int) -> Iterator[None]:
        """Have a place for one batch. A client may have as many as are left: a lone one half of them.

        Raises:
            Busy: it has enough, or all are taken.
        """
        if self._places[client_id] >= BATCHES_MAX - self._places.total():
            raise Busy(f"{self._places.total()} batches are in hand")
        self._places[client_id] += 1
        try:
            yield
        finally:
            self._places[client_id] -= 1
            if not self._places[client_id]:
                del self._places[client_id]

    @asynccontextmanager
    async def turn(self, client_id: int, *, wait_seconds: float, is_begun: bool) -> AsyncIterator[None]:
        """Wait for a turn and have it; a batch that has begun goes before its client's others.

        Raises:
            Busy: none came in time.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(client_id, deque())
        (line.appendleft if is_begun else line.append)(turn)
        self._hand_out()
        try:
            await _wait(turn, wait_seconds)
            yield
        finally:
            # Handed out, maybe in the moment in which the wait for it was given up.
            if not turn.cancel() and not turn.cancelled():
                self._end(client_id)

    def _end(self, client_id: int) -> None:
        self._free += 1
        self._in_hand[client_id] -= 1
        if not self._in_hand[client_id]:
            del self._in_hand[client_id]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (client_id := self._next()) is not None:
            line = self._lines[client_id]
            turn = line.popleft()
            if line:
                self._lines.move_to_end(client_id)
            else:
                del self._lines[client_id]
            if not turn.done():
                self._free -= 1
                self._in_hand[client_id] = self._in_hand.get(client_id, 0) + 1
                turn.set_result(None)

    def _next(self) -> int | None:
        return next((one for one in self._lines if self._in_hand.get(one, 0) < CLIENT_TURNS_MAX), None)


async def _wait(turn: asyncio.Future[None], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await turn
    except TimeoutError:
        raise Busy("no turn came in time") from None
