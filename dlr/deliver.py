"""Delivers callbacks: posts each in its endpoint's turn and notes what became of it (DESIGN 6)."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from dlr import records, store, traces
from dlr.behind import Behind
from dlr.endpoint_book import EndpointBook, LatestBook
from dlr.endpoints import SENT_BACK, Endpoints
from dlr.held import Held, Lease
from dlr.notes import CallbackNotes
from dlr.permits import NotPermitted, Permit, own_host
from dlr.piles import SWEEP_FIRST, SWEEP_MAX, Piles
from dlr.poster import CallbackPoster
from dlr.put_offs import PutOffs
from dlr.store import CallbackRecord, CallbackWork
from shared.domain.callback_events import EventType
from shared.domain.callbacks import (
    DisableEndpoint,
    GiveUp,
    Outcome,
    Posted,
    Rejected,
    RejectReason,
    RetryIn,
    decide,
    is_success,
)
from shared.runtime import tracing
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.loops import Stop, emptied
from shared.runtime.metrics import AGE_BUCKETS
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool

# Callbacks loaded at once; a sweep may bring more.
LOAD_MAX: Final = 500
# Callbacks of this process that are leased and not noted yet; more stay in PostgreSQL for a sweep.
HELD_MAX: Final = 10_000
LEASE_SECONDS: Final = 60
# What could not end within its lease is not begun: it may be another process's then. Loading takes of it too.
LEASE_ROOM_SECONDS: Final = 5.0
# What found too many of its endpoint's here is due again after this; sweeps fetch it once there is room.
CROWDED_SECONDS: Final = 1.0
# Messages of which this process remembers that it tells their end: of some seconds at full load, longer than
# a load that read them before can take.
ENDED_MAX: Final = 20_000

CALLBACKS: Final = Counter("tollwire_callbacks_total", "Tries of callbacks, by what came of them", ["result"])
DELAY: Final = Histogram(
    "tollwire_callback_delay_seconds", "From the event to the endpoint's 2xx", buckets=AGE_BUCKETS
)
# Looked up once: nearly every callback has it.
_DELIVERED: Final = CALLBACKS.labels("delivered")

_log = structlog.get_logger(__name__)


class Deliver(WithParts):
    """The use case behind every callback. An open async context; leaving it finishes what is on its way."""

    def __init__(
        self,
        pool: Pool,
        poster: CallbackPoster,
        endpoints: Endpoints,
        clock: Clock,
        held_max: int = HELD_MAX,
    ) -> None:
        self._pool = pool
        self._poster = poster
        self._endpoints = endpoints
        self._clock = clock
        self._latest = LatestBook()
        self._held = Held(held_max)
        self._piles = Piles()
        self._ended: OrderedDict[UUID | None, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._notes = CallbackNotes(pool, self._held.let_go)
        self._put_offs = PutOffs(pool, clock, self._held.let_go)
        self._behind = Behind(pool, clock, self._deliver_later, self._send_back)

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """What is noted and put off, and what waits behind others: closed first, it is put off then."""
        return [self._notes, self._put_offs, self._behind]

    async def __aexit__(self, *_: object) -> None:
        self._begin_no_more()
        try:
            await emptied(self._tasks)
        finally:
            await super().__aexit__()

    async def stop_with(self, stop: Stop) -> None:
        """Begin no further post once the process is asked to stop: the last one may take its whole deadline.

        A loop. What is made from then on is due at once, for the sweep of another process; what was being
        leased to this one is due again as soon as it is here.
        """
        await stop.wait()
        self._is_stopping = True
        self._begin_no_more()

    def _begin_no_more(self) -> None:
        self._endpoints.stop()
        self._behind.release_all()
        self._latest.close()

    def lease(self) -> Lease:
        """How long a callback that is made from now on is this process's alone; not at all if it stops."""
        return Lease(0 if self._is_stopping else LEASE_SECONDS, self._clock.monotonic())

    def apply(self, book: EndpointBook, true_at: float) -> None:
        """Follow the configuration; ``true_at``: a time of the clock since which it was read, or found so."""
        self._latest.put(book, true_at)

    def deliver_soon(self, works: Iterable[CallbackWork], leased_at: float | None = None) -> None:
        """Take callbacks that are leased to this process, since a time of the clock; or since now.

        What does not fit is due again soon.
        """
        leased_at = self._clock.monotonic() if leased_at is None else leased_at
        for work in works:
            has_room = self._held.take(work.callback_id, work.endpoint_id)
            (self._deliver_later if has_room else self._give_back)(work, leased_at)

    def load_soon(self, callback_ids: Iterable[UUID], leased_at: float | None = None) -> None:
        """The same for callbacks of which only the ids are known."""
        leased_at = self._clock.monotonic() if leased_at is None else leased_at
        held = [callback_id for callback_id in callback_ids if self._held.take(callback_id)]
        for start in range(0, len(held), LOAD_MAX):
            self._run(self._load(held[start : start + LOAD_MAX], leased_at))

    async def sweep(self) -> None:
        """Lease what is due and nobody works on."""
        room = min(self._held.free, SWEEP_MAX)
        if room > 0 and not self._is_stopping:
            leased_at = self._clock.monotonic()
            rooms = self._endpoints.rooms(SWEEP_FIRST, self._piles.deep())
            leased = await store.lease_callbacks(
                self._pool, room, SWEEP_FIRST, LEASE_SECONDS, rooms, self._piles.after
            )
            self._piles.learn([endpoint_id for _, endpoint_id in leased], room, rooms)
            self.load_soon([callback_id for callback_id, _ in leased], leased_at)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, callback_ids: Sequence[UUID], leased_at: float) -> None:
        missing = set(callback_ids)
        try:
            works = await store.load_callbacks(self._pool, callback_ids)
            have_room = [self._held.learn(work.callback_id, work.endpoint_id) for work in works]
            for work, has_room in zip(works, have_room, strict=True):
                missing.discard(work.callback_id)
                (self._deliver_later if has_room else self._give_back)(work, leased_at)
        except Exception as error:  # noqa: BLE001 - their leases end, and a sweep takes them up again
            _log.warning("callbacks not loaded yet", callbacks=len(missing), error=repr(error))
        finally:
            self._held.let_go_all(missing)

    def _give_back(self, work: CallbackWork, leased_at: float) -> None:
        """What has no room among its endpoint's is due soon; where memory is short, when its lease ends."""
        if self._held.take_aside(work.callback_id):
            SENT_BACK.inc()
            note = self._sent_back(work, own_host(work), leased_at, CROWDED_SECONDS)
            self._note_or_let_go(work, note, leased_at)

    def _deliver_later(self, work: CallbackWork, leased_at: float) -> None:
        self._run(self._deliver(work, leased_at))

    async def _deliver(self, work: CallbackWork, leased_at: float) -> None:
        """Post it in its endpoint's turn, and note what became of it; without a note a sweep comes back."""
        if self._is_overtaken(work):
            work = work._replace(skip="superseded")
        if work.skip == "behind":
            self._behind.add(work, leased_at)
            return
        note = None
        try:
            if work.skip is None:
                note = await self._post(work, leased_at)
            elif work.skip in ("superseded", "disabled", "gone"):
                outcome = "superseded" if work.skip == "superseded" else "discarded"
                CALLBACKS.labels(outcome).inc()
                note = records.ended(work, outcome)
            elif work.skip == "open" and self._is_stopping:
                note = self._sent_back(work, "", leased_at)
        finally:
            self._note_or_let_go(work, note, leased_at)

    def _is_overtaken(self, work: CallbackWork) -> bool:
        """True for a "sent" that was read before its message ended, when that end is already being told."""
        if work.event_type == EventType.MESSAGE_SENT:
            return work.message_id in self._ended
        if work.final_at is not None:
            self._ended[work.message_id] = None
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)
        return False

    async def _post(self, work: CallbackWork, leased_at: float) -> CallbackRecord | None:
        now = self._clock.monotonic()
        until = leased_at + LEASE_SECONDS - self._poster.deadline_seconds - LEASE_ROOM_SECONDS
        permit = Permit(self._latest, self._clock, work, now)
        if permit.needs_news and not await self._latest.wait_for_news(now, until - now):
            return self._sent_back(work, permit.host, leased_at)  # whether it may be posted is not known here
        try:
            delivery = permit.delivery()
            crash_point("callback.before_post")
            outcome = await self._endpoints.post(self._poster, delivery, until=until, renewed=permit.delivery)
        except NotPermitted as refused:
            if refused.record.outcome is not None:
                CALLBACKS.labels(refused.record.outcome).inc()
            return refused.record
        crash_point("callback.after_post")
        if outcome is None:
            return self._sent_back(work, permit.host, leased_at, CROWDED_SECONDS)
        if isinstance(outcome, Rejected) and outcome.reason is RejectReason.NO_CONNECTION_FREE:
            SENT_BACK.inc()
            return records.without_connection(work)
        if tracing.is_on:
            traces.called_back(work, outcome)
        is_gone = not permit.host and isinstance(outcome, Posted) and outcome.status == HTTPStatus.GONE
        if is_gone and await self._may_have_left(work, until):
            return records.moved(work, outcome)
        return self._note(work, outcome, is_endpoint=not permit.host)

    def _send_back(self, work: CallbackWork, leased_at: float) -> None:
        # Unless the process stops or a breaker opened, when its lease ends: what it is behind may take hours.
        self._note_or_let_go(work, self._sent_back(work, own_host(work), leased_at), leased_at)

    def _note_or_let_go(self, work: CallbackWork, note: CallbackRecord | None, leased_at: float) -> None:
        if note is None:
            self._held.let_go(work.callback_id)
        elif note.is_put_off:
            self._put_offs.add(note, leased_at + LEASE_SECONDS)
        else:
            self._notes.add(note)

    def _sent_back(
        self, work: CallbackWork, host: str, leased_at: float, crowded_seconds: float | None = None
    ) -> CallbackRecord | None:
        """What the endpoint had no turn for is due when it may have one; None: when its lease ends.

        ``crowded_seconds``: when that is, where neither its breaker nor a stop says it.
        """
        seconds = self._endpoints.again_in(work.endpoint_id, host)
        seconds = crowded_seconds if seconds is None else seconds
        left_seconds = leased_at + LEASE_SECONDS - self._clock.monotonic()
        return None if seconds is None or seconds > left_seconds else records.sent_back(work, seconds)

    async def _may_have_left(self, work: CallbackWork, until: float) -> bool:
        """Whether the endpoint has left the URL that is gone; yes, too, while that is not known here."""
        now = self._clock.monotonic()
        is_news = await self._latest.wait_for_news(now, max(until - now, 0.0))
        book = self._latest.book
        return not is_news or book is None or book.has_left(work.endpoint_id, work.url or "")

    def _age_seconds(self, moment: datetime) -> float:
        return max(self._clock.now_ms() / 1000 - moment.timestamp(), 0.0)

    def _note(self, work: CallbackWork, outcome: Outcome, *, is_endpoint: bool) -> CallbackRecord:
        book = self._latest.book
        keeps = book is not None and book.keeps_answers(work.endpoint_id)
        if is_success(outcome):
            DELAY.observe(self._age_seconds(work.created_at))
            _DELIVERED.inc()
            return records.tried(work, outcome, "delivered", 0.0, keeps_answer=keeps)
        jitter = random.random()  # noqa: S311 - spreads retries, keeps no secret
        ending: str | None = None
        retry_seconds = 0.0
        match decide(outcome, records.next_attempt(work), jitter, self._clock.now()):
            case RetryIn(seconds):
                retry_seconds = seconds
            case DisableEndpoint() if is_endpoint:
                ending = "discarded"
                self._endpoints.disable(work.endpoint_id, "the endpoint answered 410 Gone", work.url or "")
            case GiveUp() | DisableEndpoint():
                ending = "gave_up"
        CALLBACKS.labels(ending or "failed").inc()
        return records.tried(work, outcome, ending, retry_seconds, keeps_answer=keeps)
