"""Cancelling messages: what one client cancels at the same time goes in one commit (DESIGN "Group commit").

Each client has one commit at a time, in one of its places for reads, which it keeps for some of them at
once. So a client that cancels a thousand messages takes a few commits and one connection, and nobody else's
wait for the row of its account.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from api import store
from api.places import Places
from api.problems import Refusal
from api.store import CancelAnswer
from shared.runtime import metrics
from shared.runtime.batcher import Busy, Stopped
from shared.runtime.flusher import Flusher
from shared.runtime.loops import emptied
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.runtime.waiters import Deadlines, Waiter, expire_all
from shared.storage.facts import FACTS_DROPPED, FactPublisher, load_facts

# A flush has the row of its account for some 20 ms then, and whoever sends for it waits so long.
FLUSH_MAX: Final = 100
# Two bursts of a client at once; a second of work.
QUEUE_MAX: Final = 2_000
# A place is kept so long while more wait, then the client's reads have their turn: it may be its only one.
PLACE_SECONDS: Final = 0.5
# Cancellations that one query makes facts of, some 20 ms, and that wait for it: more are told by a replay.
TELL_MAX: Final = 2_000
UNTOLD_MAX: Final = 20_000
# After the stop no query for facts begins later than this: with a query's 15 s it is within GRACE_SECONDS.
TELL_AFTER_STOP_SECONDS: Final = 5.0
# Longer than the database's own deadline, so that its word comes first.
ANSWER_DEADLINE_SECONDS: Final = 12.0

NOT_FOUND: Final = CancelAnswer("not_found", None)

NAME: Final = "cancel"
_size = metrics.BATCH_SIZE.labels(NAME)
_wait = metrics.BATCH_WAIT.labels(NAME)
_flush_seconds = metrics.BATCH_FLUSH.labels(NAME)

_log = structlog.get_logger(__name__)


class Want(NamedTuple):
    """Which message of which client; ``is_test_only``: a test key asks, and finds test messages alone."""

    client_id: int
    message_id: UUID
    is_test_only: bool


_Line: TypeAlias = deque[Waiter[Want, CancelAnswer]]


class Cancels:
    """The use case behind DELETE /v1/messages/{id}. An open async context."""

    def __init__(self, pool: Pool, facts: FactPublisher, reads: Places) -> None:
        self._pool = pool
        self._facts = facts
        self._reads = reads
        self._lines: dict[int, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._untold: deque[UUID] = deque()
        self._is_telling = False
        self._tell_until = math.inf  # on the monotonic clock
        self._deadlines = Deadlines()
        self._is_open = False

    async def __aenter__(self) -> Self:
        lines = self._lines
        metrics.BATCH_QUEUE.labels(NAME).set_function(lambda: sum(map(len, lines.values())))
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer everything that waits, and tell what time allows; when cancelled here, give the rest up."""
        self._is_open = False
        self._tell_until = time.monotonic() + TELL_AFTER_STOP_SECONDS
        try:
            await emptied(self._tasks)
        finally:
            self._deadlines.close()

    async def one(self, want: Want) -> CancelAnswer:
        """Cancel a message and return what became of it.

        Raises:
            Busy: too many of the client wait; nothing was done.
            DeadlinePassed: no answer within ``ANSWER_DEADLINE_SECONDS``.
            Refusal: too_many_requests, when the client's reads left it no place.
            OutcomeUnknown: as ``store.cancel_batch``.
        """
        if not self._is_open:
            raise Stopped("cancel is not running")
        line = self._lines.get(want.client_id)
        if line is None:
            line = self._lines[want.client_id] = deque()
            self._start(self._carry(want.client_id, line))
        if len(line) >= QUEUE_MAX:
            metrics.BATCH_REFUSED.labels(NAME).inc()
            raise Busy(f"{len(line)} cancels of a client wait")
        waiter: Waiter[Want, CancelAnswer] = Waiter(want, asyncio.get_running_loop().create_future())
        line.append(waiter)
        self._deadlines.watch(waiter, ANSWER_DEADLINE_SECONDS)
        return await waiter.answer

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # In no request's context: it outlives the one that began it, and works for others, too.
        task = asyncio.create_task(work, name="cancel", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, client_id: int, line: _Line) -> None:
        """Flush what a client cancels, one after the other, until nothing waits."""
        end: Exception = Stopped("cancel has stopped")
        try:
            while line:
                async with self._reads.place(client_id):
                    await self._flush_some(line)
        except Refusal as refusal:
            end = refusal
        finally:
            del self._lines[client_id]
            for waiter in line:
                waiter.settle(end)

    async def _flush_some(self, line: _Line) -> None:
        """Not one for each place: each would wait behind all of the client's own reads."""
        until = time.monotonic() + PLACE_SECONDS
        while line and time.monotonic() < until:
            await self._flush_next(line)

    async def _flush_next(self, line: _Line) -> None:
        """Answer those in front."""
        batch: list[Waiter[Want, CancelAnswer]] = []
        while line and len(batch) < FLUSH_MAX:
            waiter = line.popleft()
            if not waiter.answer.done():
                waiter.is_flushed = True
                batch.append(waiter)
        if not batch:
            return
        cancelled: list[UUID] = []
        flusher = Flusher(
            partial(self._flush, cancelled),
            name=NAME,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )
        started_at = time.monotonic()
        _size.observe(len(batch))
        _wait.observe(started_at - batch[0].queued_at)
        try:
            await flusher.settle(batch)
        finally:
            expire_all(batch)  # all are answered, unless this was cancelled
            _flush_seconds.observe(time.monotonic() - started_at)
        self._tell_soon(cancelled)

    async def _flush(
        self, cancelled: list[UUID], wants: Sequence[Want]
    ) -> Sequence[CancelAnswer | Exception]:
        """Cancel in one commit; add to ``cancelled`` what is cancelled by it."""
        asked = await self._theirs(wants)
        if not asked:
            return [NOT_FOUND] * len(wants)
        found = await store.cancel_batch(self._pool, [(one.client_id, one.message_id) for one in asked])
        answers = dict(zip(asked, found, strict=True))
        cancelled += [want.message_id for want, one in answers.items() if one.outcome == "cancelled"]
        return [answers.get(want, NOT_FOUND) for want in wants]

    async def _theirs(self, wants: Sequence[Want]) -> list[Want]:
        """Each that may be cancelled once, without what a test key does not find."""
        of_tests = [want.message_id for want in wants if want.is_test_only]
        tests = await store.test_messages(self._pool, of_tests) if of_tests else ()
        return [want for want in dict.fromkeys(wants) if not want.is_test_only or want.message_id in tests]

    def _tell_soon(self, cancelled: Sequence[UUID]) -> None:
        """Let reporting hear of cancellations; no answer waits for that, and no other cancel."""
        taken = cancelled[: UNTOLD_MAX - len(self._untold)]
        if len(taken) < len(cancelled):
            _lose(len(cancelled) - len(taken), "too many wait")
        self._untold.extend(taken)
        if self._untold and not self._is_telling:
            self._is_telling = True
            self._start(self._tell_all())

    async def _tell_all(self) -> None:
        # One query at a time for all clients: a slow one has one connection, and no client's place.
        try:
            while self._untold:
                if time.monotonic() >= self._tell_until:
                    _lose(len(self._untold), "stopped")
                    self._untold.clear()
                    return
                count = min(len(self._untold), TELL_MAX)
                await self._tell([self._untold.popleft() for _ in range(count)])
        finally:
            self._is_telling = False

    async def _tell(self, cancelled: Sequence[UUID]) -> None:
        """Tell reporting of cancellations; they stand also when that is not possible."""
        try:
            self._facts.add_all(await load_facts(self._pool, cancelled))
        except (OutcomeUnknown, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _lose(len(cancelled), str(error))


def _lose(count: int, error: str) -> None:
    FACTS_DROPPED.inc(count)
    _log.warning("facts were lost", count=count, error=error)
