"""Delivers callbacks: loads them in groups, posts each in its endpoint's turn, notes outcomes (DESIGN 6)."""

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from dlr import store
from dlr.bodies import body_of
from dlr.endpoint_book import EndpointBook
from dlr.endpoints import Endpoints
from dlr.poster import CallbackPoster, Delivery
from dlr.store import CallbackRecord, CallbackWork
from shared.domain.callbacks import DisableEndpoint, Done, GiveUp, Outcome, Posted, RetryIn, decide
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.loops import Stop
from shared.runtime.metrics import AGE_BUCKETS, SECONDS_BUCKETS, BulkHistogram
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.config import POLL_SECONDS

LINGER_SECONDS: Final = 0.02
FLUSH_MAX: Final = 500
QUEUE_MAX: Final = 20_000
# Callbacks of this process that are leased and not noted yet; more stay in PostgreSQL for a sweep.
HELD_MAX: Final = 10_000
# What a sweep takes, and of one endpoint: a dead endpoint's pile hides nobody's.
SWEEP_MAX: Final = 1_000
SWEEP_EACH: Final = 50
LEASE_SECONDS: Final = 60
ANSWER_KEPT_BYTES: Final = 1024
# An endpoint without a usable secret is looked at again when its operator has mended it.
NO_SECRET_SECONDS: Final = 300.0
# How long the news of an endpoint may take to every process, with much room: the poll is half a second.
NEWS_SECONDS: Final = 30.0

CALLBACKS: Final = Counter("tollwire_callbacks_total", "Tries of callbacks, by what came of them", ["result"])
DELAY: Final = Histogram(
    "tollwire_callback_delay_seconds", "From the event to the endpoint's 2xx", buckets=AGE_BUCKETS
)
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


class Deliver(WithParts):
    """The use case behind every callback. An open async context; leaving it finishes what is on its way."""

    def __init__(self, pool: Pool, poster: CallbackPoster, endpoints: Endpoints, clock: Clock) -> None:
        self._pool = pool
        self._poster = poster
        self._endpoints = endpoints
        self._clock = clock
        self._book: EndpointBook | None = None
        self._held: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._loads: Batcher[UUID, CallbackWork | None] = Batcher(
            self._load, name="callback_load", batch_max=FLUSH_MAX, queue_max=QUEUE_MAX,
            linger_seconds=LINGER_SECONDS, is_retryable=is_retryable,
        )  # fmt: skip
        self._records: Batcher[CallbackRecord, None] = Batcher(
            self._record, name="callback_record", batch_max=FLUSH_MAX, queue_max=QUEUE_MAX,
            linger_seconds=LINGER_SECONDS, is_bisectable=is_bisectable, is_retryable=is_retryable,
        )  # fmt: skip

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._records, self._loads]

    async def __aexit__(self, *_: object) -> None:
        self._endpoints.stop()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().__aexit__()

    async def stop_with(self, stop: Stop) -> None:
        """Begin no further post once the process is asked to stop: the last one may take its whole deadline.

        A loop. What is made from then on is due at once, for the sweep of another process.
        """
        await stop.wait()
        self._is_stopping = True
        self._endpoints.stop()

    @property
    def lease_seconds(self) -> int:
        """How long a callback that is made now is this process's alone; 0: not at all, it is stopping."""
        return 0 if self._is_stopping else LEASE_SECONDS

    def apply(self, book: EndpointBook) -> None:
        """Follow the configuration."""
        self._book = book

    def deliver_soon(self, callback_ids: Sequence[UUID]) -> None:
        """Take callbacks that are leased to this process; what does not fit is swept when its lease ends."""
        for callback_id in () if self._is_stopping else callback_ids:
            if callback_id in self._held or len(self._held) >= HELD_MAX:
                continue
            self._held.add(callback_id)
            task = asyncio.create_task(self._deliver(callback_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def sweep(self) -> None:
        """Lease what is due and nobody works on."""
        room = min(HELD_MAX - len(self._held), SWEEP_MAX)
        if room > 0:
            self.deliver_soon(await store.lease_callbacks(self._pool, room, SWEEP_EACH, LEASE_SECONDS))

    async def _deliver(self, callback_id: UUID) -> None:
        try:
            work = await self._loads.submit(callback_id)
            if work is None:
                return
            if work.skip is None:
                await self._post(work)
            elif work.skip in ("superseded", "disabled"):
                outcome = "superseded" if work.skip == "superseded" else "discarded"
                await self._records.submit(_ending(work, outcome))
                CALLBACKS.labels(outcome).inc()
        except (OutcomeUnknown, Busy) as error:
            # The lease ends and a sweep takes it up; an endpoint may get it twice, with the same webhook-id.
            _log.warning("callback left to a sweep", callback_id=str(callback_id), error=str(error))
        finally:
            self._held.discard(callback_id)

    async def _post(self, work: CallbackWork) -> None:
        secrets = self._book.secrets(work.endpoint_id, self._clock) if self._book else ()
        if not secrets or work.url is None:
            await self._records.submit(self._without_secret(work))
            return
        delivery = Delivery(work.callback_id, work.endpoint_id, work.url, secrets, body_of(work))
        crash_point("callback.before_post")
        outcome = await self._endpoints.post(self._poster, delivery)
        crash_point("callback.after_post")
        if outcome is None:
            return  # its endpoint's breaker is open or its queue full: a sweep comes back to it
        await self._records.submit(self._note(work, outcome))
        crash_point("callback.after_record")

    def _without_secret(self, work: CallbackWork) -> CallbackRecord:
        """An endpoint that was set a moment ago is not known here yet: that is no failed try."""
        if (self._clock.now() - work.created_at).total_seconds() < NEWS_SECONDS:
            return _again(work, work.attempts, None, POLL_SECONDS)
        return _again(work, work.attempts + 1, "no_secret", NO_SECRET_SECONDS)

    def _note(self, work: CallbackWork, outcome: Outcome) -> CallbackRecord:
        attempt_no = work.attempts + 1
        jitter = random.random()  # noqa: S311 - spreads retries, keeps no secret
        decision = decide(outcome, attempt_no, jitter, self._clock.now())
        ending: str | None = None
        retry_seconds = 0.0
        match decision:
            case Done():
                ending = "delivered"
                DELAY.observe(max((self._clock.now() - work.created_at).total_seconds(), 0.0))
            case RetryIn(seconds):
                retry_seconds = seconds
            case GiveUp():
                ending = "gave_up"
            case DisableEndpoint():
                ending = "discarded"
                self._endpoints.disable(work.endpoint_id, "the endpoint answered 410 Gone")
        CALLBACKS.labels(ending or "failed").inc()
        return self._as_record(work, outcome, attempt_no, ending, retry_seconds)

    def _as_record(
        self, work: CallbackWork, outcome: Outcome, attempt_no: int, ending: str | None, retry_seconds: float
    ) -> CallbackRecord:
        keeps = self._book is not None and self._book.keeps_answers(work.endpoint_id)
        status, head, error = None, None, None
        if isinstance(outcome, Posted):
            status = outcome.status
            head = outcome.answer_head[:ANSWER_KEPT_BYTES] if keeps else None
            error = None if ending == "delivered" else f"HTTP {outcome.status}"
        else:
            error = f"{outcome.reason.value}: {outcome.detail}"
        return CallbackRecord(
            callback_id=work.callback_id,
            attempt_no=attempt_no,
            outcome=ending,
            status=status,
            error=error,
            duration_ms=outcome.duration_ms,
            address=outcome.resolved_ip,
            answer_head=head,
            retry_seconds=retry_seconds,
        )

    async def _load(self, callback_ids: Sequence[UUID]) -> Sequence[CallbackWork | Exception | None]:
        loaded = await store.load_callbacks(self._pool, callback_ids)
        by_id = {work.callback_id: work for work in loaded}
        return [by_id.get(callback_id) for callback_id in callback_ids]

    async def _record(self, records: Sequence[CallbackRecord]) -> Sequence[Exception | None]:
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


def _ending(work: CallbackWork, outcome: str) -> CallbackRecord:
    return CallbackRecord(work.callback_id, work.attempts, outcome, None, None, None, None, None, 0.0)


def _again(work: CallbackWork, attempt_no: int, error: str | None, seconds: float) -> CallbackRecord:
    return CallbackRecord(work.callback_id, attempt_no, None, None, error, None, None, None, seconds)
