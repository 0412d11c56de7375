"""Notes in PostgreSQL what became of callbacks, many at once; nobody waits for it."""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from dlr import store
from dlr.store import CallbackRecord
from shared.runtime.batcher import Batcher
from shared.runtime.crash_points import crash_point
from shared.runtime.metrics import SECONDS_BUCKETS, BulkHistogram
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool, is_bisectable, is_retryable

# In no hurry at all: the answer is given, and a lease is thousand times as long.
GATHER_SECONDS: Final = 0.06
FLUSH_MAX: Final = 500

ATTEMPTS: Final = Counter(
    "tollwire_callback_attempts_total",
    "Posts of callbacks, by the answer's class (2xx to 5xx) or why there was none",
    ["outcome"],
)
ATTEMPT_SECONDS: Final = BulkHistogram(
    "tollwire_callback_attempt_seconds", "One post of a callback, its connection included",
    buckets=SECONDS_BUCKETS,
)  # fmt: skip

_log = structlog.get_logger(__name__)


class CallbackNotes(WithParts):
    """``add`` never waits; ``on_noted`` is told each callback whose note is made or given up.

    An open async context; leaving it writes what has gathered. A note that cannot be written is given up:
    the lease of its callback ends and a sweep posts it again, with the same webhook-id.
    """

    def __init__(self, pool: Pool, on_noted: Callable[[UUID], None]) -> None:
        self._pool = pool
        self._on_noted = on_noted
        self._waiting: list[CallbackRecord] = []
        self._writing: asyncio.Task[None] | None = None
        self._batcher: Batcher[CallbackRecord, None] = Batcher(
            self._flush,
            name="callback_record",
            batch_max=FLUSH_MAX,
            queue_max=FLUSH_MAX,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batcher."""
        return [self._batcher]

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._writing is not None:
                await self._writing
        finally:
            await super().__aexit__()

    def add(self, record: CallbackRecord) -> None:
        """Note it soon. How many wait is bounded by how many callbacks a process holds."""
        self._waiting.append(record)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < FLUSH_MAX:
                    await asyncio.sleep(GATHER_SECONDS)
                records, self._waiting = self._waiting[:FLUSH_MAX], self._waiting[FLUSH_MAX:]
                await self._note_logged(records)
        finally:
            self._writing = None

    async def _note_logged(self, records: Sequence[CallbackRecord]) -> None:
        try:
            await self._note(records)
        except Exception:  # noqa: BLE001 - those that come after them are written all the same
            _log.exception("callbacks left to a sweep", callbacks=len(records))

    async def _note(self, records: Sequence[CallbackRecord]) -> None:
        try:
            answers = await self._batcher.submit_each(records)
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed:
                _log.warning("callbacks left to a sweep", callbacks=len(failed), error=repr(failed[0]))
        finally:
            for record in records:
                self._tell_noted(record.callback_id)
        crash_point("callback.after_record")

    def _tell_noted(self, callback_id: UUID) -> None:
        try:
            self._on_noted(callback_id)
        except Exception:  # noqa: BLE001 - the others are told all the same
            _log.exception("nobody heard of a note", callback_id=str(callback_id))

    async def _flush(self, records: Sequence[CallbackRecord]) -> Sequence[Exception | None]:
        await store.record_callbacks(self._pool, records)
        _count(records)
        return [None] * len(records)


def _count(records: Sequence[CallbackRecord]) -> None:
    """Count posts, a flush at a time; what was ended without one is none."""
    posts = [record for record in records if record.duration_ms is not None]
    for outcome, count in Tally(map(_post_outcome, posts)).items():
        ATTEMPTS.labels(outcome).inc(count)
    if posts:
        ATTEMPT_SECONDS.observe_all([(record.duration_ms or 0) / 1000 for record in posts])


def _post_outcome(post: CallbackRecord) -> str:
    """The class of the answer's status, or the word for why there was none."""
    if post.status is not None:
        return f"{post.status // 100}xx"
    return (post.error or "").partition(":")[0]
