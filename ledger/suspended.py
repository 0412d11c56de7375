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
from ledger.clockwork_store import FIRST_ID, Moved, Suspension
from shared.runtime import metrics
from shared.runtime.postgres import Pool

# Every process knows of it within a second; what one had let in by then may be committed so much later, since
# it waits for its turn under its key and for its flush; tests/unit/test_suspending_is_final.py adds that up.
ON_THEIR_WAY_SECONDS: Final = 60.0
# Rows looked at in one query, some 30 ms, and in one look of a walk.
ROWS_MAX: Final = 5_000
PAGES_MAX: Final = 10
# Walks under way, which share the time of a look; who is suspended then waits until one is over.
WALKS_MAX: Final = 10
# Messages ended in one call, and the rest after it: nothing of this is urgent, and others send meanwhile.
PART_MAX: Final = 100
PAUSE_SECONDS: Final = 0.05
# A stop is heard between looks, and has to be long before GRACE_SECONDS.
LOOK_SECONDS: Final = 5.0
# Messages of one part that fail alone before the part is left: each costs calls, and it ends when it is due.
UNWORKABLE_MAX: Final = 3
# As what a walk that fails is counted, beside the loops.
WALK: Final = "walk_for_suspended"

_log = structlog.get_logger(__name__)


class _GivenUp(Exception):  # noqa: N818 - named for what happened
    """Too many messages of a part cannot be worked on."""


class _Walk:
    """One way through the outbox, for those who were newly suspended together."""

    def __init__(self, suspensions: Sequence[Suspension]) -> None:
        self.suspensions = suspensions
        self.after = FIRST_ID  # behind which message it goes on
        self.is_over = False
        self.ended: Counter[int] = Counter()  # messages, by client
        self.left: set[int] = set()  # the clients some of whose messages it could not end


class Suspended:
    """Walks over the outbox for those who are newly suspended, a few pages a look.

    Who is suspended while a walk is under way has one of its own: another's million messages take long.

    Args:
        pool: the ledger role's.
        expire: ends those of the messages that may be ended, and returns these.
    """

    def __init__(self, pool: Pool, expire: Callable[[Sequence[UUID]], Awaitable[Sequence[Moved]]]) -> None:
        self._pool = pool
        self._expire = expire
        # Since when each suspension was seen, on the monotonic clock; and for which a walk is over.
        self._since: dict[Suspension, float] = {}
        self._walked: set[Suspension] = set()
        self._walks: list[_Walk] = []

    async def run_once(self) -> None:
        """Begin a walk for who has become suspended, and go on with all, for about ``LOOK_SECONDS``."""
        now = time.monotonic()
        self._since = {one: self._since.get(one, now) for one in await store.suspensions(self._pool)}
        self._begin(now)
        # The newest first: what it does not need of its share of the time is the older ones'.
        failed = []
        for number, walk in enumerate(reversed(self._walks), start=1):
            if not await self._has_gone_on(walk, now + LOOK_SECONDS * number / len(self._walks)):
                failed.append(walk)
        # What fails may take everybody's time until it does: the others come before it in the next look.
        self._walks = failed + [walk for walk in self._walks if not walk.is_over and walk not in failed]

    def _begin(self, now: float) -> None:
        """Forget whose sending goes on, and begin a walk for those who are new."""
        self._walked &= self._since.keys()
        clients = {one.client_id for one in self._since}
        for walk in self._walks:
            # Any change of a client looks like a new suspension, so who is still suspended keeps the walk.
            walk.suspensions = [one for one in walk.suspensions if one.client_id in clients]
        self._walks = [walk for walk in self._walks if walk.suspensions]
        under_way = {one.client_id for walk in self._walks for one in walk.suspensions}
        ready = [one for one, at in self._since.items() if now - at >= ON_THEIR_WAY_SECONDS]
        # The walk for what may be a new suspension begins when the client's earlier one is over.
        new = [one for one in ready if one not in self._walked and one.client_id not in under_way]
        if new and len(self._walks) < WALKS_MAX:
            self._walks.append(_Walk(new))

    async def _has_gone_on(self, walk: _Walk, until: float) -> bool:
        """Go on with a walk; where that fails it is logged, and stops nobody else's."""
        try:
            await self._go_on(walk, until)
        except Exception:  # noqa: BLE001 - as a loop, a walk outlives whatever its work raises; logged and counted
            metrics.LOOP_FAILURES.labels(WALK).inc()
            _log.exception("walk failed, will try again", clients=[one.name for one in walk.suspensions])
            return False
        return True

    async def _go_on(self, walk: _Walk, until: float) -> None:
        for _ in range(PAGES_MAX):
            if walk.is_over or time.monotonic() >= until:
                return
            await self._look_at_page(walk, until)

    async def _look_at_page(self, walk: _Walk, until: float) -> None:
        """Look at one page, and end what it has of theirs; what time does not allow is the next page."""
        seen = await store.waiting_after(self._pool, walk.after, ROWS_MAX)
        clients = [one.client_id for one in walk.suspensions]
        theirs = await store.messages_of(self._pool, seen, clients) if seen else {}
        for part in parts(sorted(theirs), PART_MAX):
            await self._end(walk, part, theirs)
            walk.after = part[-1]
            await asyncio.sleep(PAUSE_SECONDS)
            if time.monotonic() >= until:
                return
        if seen:
            walk.after = seen[-1]
        if len(seen) < ROWS_MAX:
            self._be_over(walk)

    async def _end(self, walk: _Walk, part: Sequence[UUID], client_of: dict[UUID, int]) -> None:
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
            walk.ended.update(client_of[one.message_id] for one in moved)

        try:
            await apart(end, part)
        except _GivenUp:
            _log.warning("the rest of a part is left until it is due", messages=len(part), first=str(part[0]))
        walk.left.update(client_of[one] for one in part if one not in done)

    def _be_over(self, walk: _Walk) -> None:
        for one in walk.suspensions:
            ended, has_left = walk.ended[one.client_id], one.client_id in walk.left
            _log.info("walk over", client=one.name, ended=ended, has_left=has_left)
        self._walked.update(walk.suspensions)
        walk.is_over = True
