"""Ends what waits of a client whose sending was stopped, however long it would have waited (RULES 20, 38).

The clockwork ends a suspended client's messages when they are due. What is scheduled or paced may be due in
weeks, and would go out if the client were let go on before. So the outbox is walked once for each suspension;
it knows no clients, and holds no more than what waits.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from ledger import clockwork_store as store
from ledger.apart import apart, parts
from ledger.clockwork import FIRST_ID
from ledger.clockwork_store import Moved, Suspension
from shared.runtime.postgres import Pool

# Every process knows of it within a second; what one had in hand by then may be committed so much later.
ON_THEIR_WAY_SECONDS: Final = 30.0
# Rows looked at in one query, some 30 ms, and in one look.
ROWS_MAX: Final = 5_000
PAGES_MAX: Final = 10
# Messages ended in one call, and the rest after it: nothing of this is urgent, and others send meanwhile.
PART_MAX: Final = 100
PAUSE_SECONDS: Final = 0.05
# A stop is heard between looks, and has to be long before GRACE_SECONDS.
LOOK_SECONDS: Final = 5.0
# Messages of one part that fail alone before the part is left: each costs calls, and it ends when it is due.
UNWORKABLE_MAX: Final = 3

_log = structlog.get_logger(__name__)


class _GivenUp(Exception):  # noqa: N818 - named for what happened
    """Too many messages of a part cannot be worked on."""


class Suspended:
    """A walk over the outbox for those who are newly suspended, a few pages a look.

    Args:
        pool: the ledger role's.
        expire: ends those of the messages that may be ended, and returns these.
    """

    def __init__(self, pool: Pool, expire: Callable[[Sequence[UUID]], Awaitable[Sequence[Moved]]]) -> None:
        self._pool = pool
        self._expire = expire
        # Since when each suspension was seen, on the monotonic clock; and for which the walk is over.
        self._since: dict[Suspension, float] = {}
        self._walked: set[Suspension] = set()
        # For which a walk is under way, behind which message it goes on, what it has ended of each client.
        self._walks_for: list[Suspension] = []
        self._after = FIRST_ID
        self._ended: Counter[int] = Counter()
        self._left: set[int] = set()  # the clients some of whose messages it could not end

    async def run_once(self) -> None:
        """Begin a walk for who has become suspended, or go on with it, for about ``LOOK_SECONDS``."""
        now = time.monotonic()
        self._since = {one: self._since.get(one, now) for one in await store.suspensions(self._pool)}
        self._walked &= self._since.keys()
        if not self._walks_for:
            self._walks_for = [one for one in self._since if self._is_new(one, now)]
            self._after = FIRST_ID
            self._ended.clear()
            self._left.clear()
        for _ in range(PAGES_MAX):
            if not self._walks_for or time.monotonic() >= now + LOOK_SECONDS:
                return
            await self._walk(now + LOOK_SECONDS)

    def _is_new(self, one: Suspension, now: float) -> bool:
        return one not in self._walked and now - self._since[one] >= ON_THEIR_WAY_SECONDS

    async def _walk(self, until: float) -> None:
        """Look at one page, and end what it has of theirs; what time does not allow is the next page."""
        seen = await store.waiting_after(self._pool, self._after, ROWS_MAX)
        clients = [one.client_id for one in self._walks_for]
        theirs = await store.messages_of(self._pool, seen, clients) if seen else {}
        for part in parts(sorted(theirs), PART_MAX):
            await self._end(part, theirs)
            self._after = part[-1]
            await asyncio.sleep(PAUSE_SECONDS)
            if time.monotonic() >= until:
                return
        if seen:
            self._after = seen[-1]
        if len(seen) < ROWS_MAX:
            self._be_over()

    async def _end(self, part: Sequence[UUID], client_of: dict[UUID, int]) -> None:
        alone = 0
        done: set[UUID] = set()

        async def end(message_ids: Sequence[UUID]) -> None:
            nonlocal alone
            if alone == UNWORKABLE_MAX:
                raise _GivenUp
            try:
                moved = await self._expire(message_ids)
            except Exception:
                alone += len(message_ids) == 1
                raise
            done.update(message_ids)
            self._ended.update(client_of[one.message_id] for one in moved)

        try:
            await apart(end, part)
        except _GivenUp:
            _log.warning("the rest of a part is left until it is due", messages=len(part), first=str(part[0]))
        self._left.update(client_of[one] for one in part if one not in done)

    def _be_over(self) -> None:
        for one in self._walks_for:
            ended, has_left = self._ended[one.client_id], one.client_id in self._left
            _log.info("walk over", client=one.name, ended=ended, has_left=has_left)
        self._walked.update(self._walks_for)
        self._walks_for = []
