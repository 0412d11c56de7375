"""Ends what waits of a client whose sending was stopped, however long it would have waited (RULES 20, 38).

The clockwork ends a suspended client's messages when they are due. What is scheduled or paced may be due in
weeks, and would go out if the client were let go on before. So the outbox is walked once for each suspension;
it knows no clients, and holds no more than what waits.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from ledger import clockwork_store as store
from ledger.apart import apart, parts
from ledger.clockwork import END_MAX, FIRST_ID
from shared.runtime.postgres import Pool

# Every process knows of it within a second; what one had in hand by then may be committed so much later.
ON_THEIR_WAY_SECONDS: Final = 30.0
# Rows looked at in one query, some 30 ms, and in one look.
ROWS_MAX: Final = 5_000
PAGES_MAX: Final = 10

_log = structlog.get_logger(__name__)


class Suspended:
    """A walk over the outbox for those who are newly suspended, a few pages a look."""

    def __init__(self, pool: Pool, expire: Callable[[Sequence[UUID]], Awaitable[None]]) -> None:
        self._pool = pool
        self._expire = expire
        # Since when each was seen suspended, on the monotonic clock; and for whom the walk is over.
        self._since: dict[int, float] = {}
        self._walked: set[int] = set()
        # For whom a walk is under way, and behind which message it goes on.
        self._walks_for: list[int] = []
        self._after = FIRST_ID

    async def run_once(self) -> None:
        """Begin a walk for who has become suspended, or go on with it."""
        now = time.monotonic()
        self._since = {
            client: self._since.get(client, now) for client in await store.suspended_clients(self._pool)
        }
        self._walked &= self._since.keys()
        if not self._walks_for:
            self._walks_for = [client for client in self._since if self._is_new(client, now)]
            self._after = FIRST_ID
        for _ in range(PAGES_MAX):
            if not self._walks_for:
                return
            await self._walk()

    def _is_new(self, client: int, now: float) -> bool:
        return client not in self._walked and now - self._since[client] >= ON_THEIR_WAY_SECONDS

    async def _walk(self) -> None:
        """Look at one page."""
        seen = await store.waiting_after(self._pool, self._after, ROWS_MAX)
        theirs = await store.messages_of(self._pool, seen, self._walks_for) if seen else []
        for part in parts(theirs, END_MAX):
            await apart(self._expire, part)
        if theirs:
            _log.info("messages of suspended clients ended", messages=len(theirs))
        if len(seen) < ROWS_MAX:
            self._walked.update(self._walks_for)
            self._walks_for = []
        else:
            self._after = seen[-1]
