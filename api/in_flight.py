"""Requests under one idempotency key take turns: the second waits for the first one's commit.

PostgreSQL would decide between them all the same (RULES 10, 11). Here a client that repeats itself while
the database is slow is kept from filling the queue that everybody shares.
"""

import asyncio
from typing import Final

from api.problems import Refusal
from shared.domain.problems import ProblemCode

# A commit takes milliseconds. Beyond this the first one is in trouble, and the client may come back.
WAIT_SECONDS: Final = 2.0

Name = tuple[int, str, str]
"""The client, the route and the key."""


class InFlight:
    """The idempotency keys that requests of this process are being decided under."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        # None until somebody waits: most turns are nobody's concern.
        self.turns: dict[Name, asyncio.Future[None] | None] = {}

    def turn(self, client_id: int, route: str, key: str | None) -> "Turn":
        """``async with``: be the only one under a key; without a key there is nobody to wait for."""
        return Turn(self, None if key is None else (client_id, route, key))

    async def wait(self, name: Name) -> None:
        """Wait until nobody has the turn.

        Raises:
            Refusal: idempotency_conflict, when the first one is not decided in time.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._wait(name)
        except TimeoutError:
            raise Refusal(ProblemCode.IDEMPOTENCY_CONFLICT) from None

    async def _wait(self, name: Name) -> None:
        while name in self.turns:
            end = self.turns[name]
            if end is None:
                end = self.turns[name] = asyncio.get_running_loop().create_future()
            await asyncio.shield(end)


class Turn:
    """One request's turn. A class and not a generator: every request has one."""

    __slots__ = ("_in_flight", "_name")

    def __init__(self, in_flight: InFlight, name: Name | None) -> None:
        self._in_flight = in_flight
        self._name = name

    async def __aenter__(self) -> None:
        """Begin, when nobody else is at it; see InFlight.wait."""
        name = self._name
        if name is not None:
            if name in self._in_flight.turns:
                await self._in_flight.wait(name)
            self._in_flight.turns[name] = None

    async def __aexit__(self, *_: object) -> None:
        """End, and let the next one in."""
        if self._name is not None:
            end = self._in_flight.turns.pop(self._name)
            if end is not None:
                end.set_result(None)
