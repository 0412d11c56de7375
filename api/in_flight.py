"""Requests under one idempotency key take turns: the second waits for the first one's commit.

PostgreSQL would decide between them all the same (RULES 10, 11). Here a client that repeats itself while
the database is slow is kept from filling the queue that everybody shares.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from api.problems import Refusal
from shared.domain.problems import ProblemCode

# A commit takes milliseconds. Beyond this the first one is in trouble, and the client may come back.
WAIT_SECONDS: Final = 2.0


class InFlight:
    """The idempotency keys that requests of this process are being decided under."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._turns: dict[tuple[int, str, str], asyncio.Future[None]] = {}

    @asynccontextmanager
    async def turn(self, client_id: int, route: str, key: str | None) -> AsyncIterator[None]:
        """Be the only one under a key; without a key there is nobody to wait for.

        Raises:
            Refusal: idempotency_conflict, when the first one is not decided in time.
        """
        if key is None:
            yield
            return
        name = (client_id, route, key)
        if name in self._turns:
            await self._wait(name)
        mine = self._turns[name] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._turns[name]
            mine.set_result(None)

    async def _wait(self, name: tuple[int, str, str]) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                while (other := self._turns.get(name)) is not None:
                    await asyncio.shield(other)
        except TimeoutError:
            raise Refusal(ProblemCode.IDEMPOTENCY_CONFLICT) from None
