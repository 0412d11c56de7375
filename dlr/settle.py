"""Settles kept receipts in group commits and hands out the callbacks they caused (DESIGN 2, RULES 24)."""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, Protocol, cast
from uuid import UUID

import structlog
from prometheus_client import Counter

from dlr import store, traces
from dlr.held import Lease
from dlr.store import CallbackWork, ReceivedReceipt, Settled
from shared.events.facts import Fact
from shared.runtime import tracing
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.crash_points import crash_point
from shared.runtime.loops import Stop, every
from shared.runtime.metrics import DAYS_BUCKETS, BulkHistogram
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.facts import FactPublisher, fact_of
from shared.storage.finals import carrier_name, count_finals

# Not in a hurry: receipts gather this long when there is traffic.
LINGER_SECONDS: Final = 0.02
FLUSH_MAX: Final = 500
QUEUE_MAX: Final = 20_000
FLUSHES_IN_FLIGHT: Final = 2
# A carrier may be faster than our own note of its answer: a receipt whose reference is not known is looked at
# again after this, before the sweep's longer waits begin.
EARLY_SECONDS: Final = 0.2

RECEIPTS: Final = Counter("tollwire_receipts_settled_total", "Receipts by what they did", ["outcome"])
DELIVERY: Final = BulkHistogram(
    "tollwire_accept_to_final_seconds",
    "From acceptance to the final status by a receipt",
    ["carrier"],
    buckets=DAYS_BUCKETS,
)
RECEIPT_DELAY: Final = BulkHistogram(
    "tollwire_submit_to_receipt_seconds",
    "From the last submit to the receipt that ended the message",
    ["carrier"],
    buckets=DAYS_BUCKETS,
)
CAPTURED: Final = Counter(
    "tollwire_credit_captured_micros_total",
    "Credit charged for messages that ended by a receipt",
    ["currency"],
)
RELEASED: Final = Counter(
    "tollwire_credit_released_micros_total",
    "Credit given back for messages that ended by a receipt",
    ["currency"],
)

_log = structlog.get_logger(__name__)


class Deliver(Protocol):
    """Who takes callbacks that are leased to this process."""

    def lease(self) -> Lease:
        """How long a callback that is made from now on is this process's alone; not at all if it stops."""
        ...

    def deliver_soon(self, works: Iterable[CallbackWork], leased_at: float) -> None:
        """Take them; never waits. What cannot be taken is given back, or swept when its lease ends."""
        ...

    def load_soon(self, callback_ids: Iterable[UUID], leased_at: float) -> None:
        """Take those of which only the ids are known."""
        ...


class Settle(WithParts):
    """The use case behind every receipt. An open async context; leaving it settles what is queued."""

    def __init__(self, pool: Pool, facts: FactPublisher, deliver: Deliver) -> None:
        self._pool = pool
        self._facts = facts
        self._deliver = deliver
        self._tasks: set[asyncio.Task[None]] = set()
        # Receipts that a call may have settled whose answer was lost, until they are settled again.
        self._doubtful: set[UUID] = set()
        self._batcher: Batcher[UUID, Settled] = Batcher(
            self._flush,
            name="settle",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            linger_seconds=LINGER_SECONDS,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._batcher]

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._tasks)
        await super().__aexit__()

    def settle_soon(self, receipt_ids: Sequence[UUID], *, is_doubtful: bool = False) -> None:
        """Settle receipts that are leased to this process; never waits. The sweep heals what fails.

        ``is_doubtful``: ``take`` may have settled them, but its outcome is not known.
        """
        self._run(self._settle_doubtful(receipt_ids) if is_doubtful else self._settle_logged(receipt_ids))

    async def settle(self, receipt_ids: Sequence[UUID]) -> list[Settled]:
        """Settle receipts; an answer for each position.

        Raises:
            OutcomeUnknown: the database did not answer; their leases end and the sweep goes on.
            Busy: too many wait already.
        """
        return await self._batcher.submit_many(receipt_ids)

    async def run_sweeps(self, stop: Stop, interval_seconds: float) -> None:
        """Sweep now and again. A loop."""
        await every(stop, interval_seconds, partial(self.sweep, stop))

    async def sweep(self, stop: Stop) -> None:
        """Take over receipts that are due again: a settler died, or a reference was not known yet.

        All of them, unless the stop comes: a backlog takes longer than a process has to stop, and any other
        goes on with it.
        """
        while not stop.requested:
            receipt_ids = await store.lease_receipts(self._pool, FLUSH_MAX)
            answers = await self._batcher.submit_each(receipt_ids) if receipt_ids else []
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed:
                # They keep their lease and come again; the others are settled.
                _log.error("receipts not settled", receipts=len(failed), error=repr(failed[0]))
            if len(receipt_ids) < FLUSH_MAX:
                return

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_doubtful(self, receipt_ids: Sequence[UUID]) -> None:
        self._doubtful.update(receipt_ids)
        try:
            await self._settle_logged(receipt_ids)
        finally:
            self._doubtful.difference_update(receipt_ids)

    async def _settle_logged(self, receipt_ids: Sequence[UUID], *, wait_seconds: float = 0.0) -> None:
        await asyncio.sleep(wait_seconds)
        try:
            await self.settle(receipt_ids)
        except (OutcomeUnknown, Busy) as error:
            _log.warning("receipts not settled yet", receipts=len(receipt_ids), error=str(error))
        except Exception:  # noqa: BLE001 - logged; a bug must not be silent until the sweep
            # They keep their lease, and the sweep tries again; a bug must not be silent until then.
            _log.exception("receipts not settled", receipts=len(receipt_ids))

    async def take(self, receipts: Sequence[ReceivedReceipt]) -> None:
        """Keep receipts and settle them in one transaction: afterwards the carrier may hear "received".

        Raises:
            OutcomeUnknown: the database did not answer in time; they may be kept.
            Exception: nothing was done; one of them cannot be settled now.
        """
        settled = await self._commit(partial(store.take_receipts, self._pool, receipts))
        early = [
            receipt.receipt_id
            for receipt, answer in zip(receipts, settled, strict=True)
            if answer.outcome == "waiting"
        ]
        if early:
            self._run(self._settle_logged(early, wait_seconds=EARLY_SECONDS))

    async def _flush(self, receipt_ids: Sequence[UUID]) -> Sequence[Settled | Exception]:
        return await self._commit(
            partial(store.settle_batch, self._pool, receipt_ids, doubtful=self._doubtful)
        )

    async def _commit(self, call: Callable[[int], Awaitable[list[Settled]]]) -> list[Settled]:
        """Make a call, with the lease of the callbacks that it makes, and hand on what it did."""
        lease = self._deliver.lease()
        crash_point("settle.before_commit")
        start_ns = time.time_ns()
        settled = await call(lease.seconds)
        crash_point("settle.after_commit")
        if tracing.is_on:
            traces.settled(settled, start_ns)
        self._tell(settled, lease)
        return settled

    def _tell(self, settled: Sequence[Settled], lease: Lease) -> None:
        """Hand on what was done: callbacks, unless they may be another process's by now; facts, counts."""
        if lease.seconds > 0:
            callbacks = [answer.told for answer in settled if answer.callback_id is not None]
            known = [work for work in callbacks if work.event_type is not None]
            self._deliver.deliver_soon(known, lease.since)
            unknown = [work.callback_id for work in callbacks if work.event_type is None]
            self._deliver.load_soon(unknown, lease.since)
        self._facts.add_all([_fact(answer) for answer in settled if answer.state is not None])
        _count(settled)


def _fact(settled: Settled) -> Fact:
    """Tell that a message has reached its end, or is SENT; everything of it is there."""
    told = settled.told
    return fact_of(
        cast("UUID", told.message_id),
        cast("int", settled.client_id),
        cast("str", told.state),
        told.created_at,
        cast("str", settled.region),
        cast("str", settled.lane),
        cast("int", told.segments),
        cast("int", told.price_micros),
        cast("str", told.currency),
        settled.carrier_id,
        cast("int", told.message_attempts),
        told.error_code,
    )


def _count(settled: Sequence[Settled]) -> None:
    """Count ends and money, a flush at a time."""
    captured: Tally[str] = Tally()
    released: Tally[str] = Tally()
    moved = [answer for answer in settled if answer.outcome == "moved"]
    for outcome, count in Tally(answer.outcome for answer in settled).items():
        RECEIPTS.labels(outcome).inc(count)
        if outcome == "ambiguous":
            _log.warning("receipts fit several messages, kept for an operator", receipts=count)
    for answer in moved:
        told = answer.told
        if told.currency is not None and told.price_micros is not None:
            (captured if told.is_charged else released)[told.currency] += told.price_micros
    count_finals([(answer.carrier_id, answer.state or "") for answer in moved])
    for currency, micros in captured.items():
        CAPTURED.labels(currency).inc(micros)
    for currency, micros in released.items():
        RELEASED.labels(currency).inc(micros)
    _observe(moved)


def _observe(moved: Sequence[Settled]) -> None:
    """Measure how long messages took to their end: from their acceptance, and from their last submit."""
    taken: dict[int | None, tuple[list[float], list[float]]] = {}
    for answer in moved:
        told = answer.told
        ages, delays = taken.setdefault(answer.carrier_id, ([], []))
        if told.final_at is None:
            continue
        if told.message_created_at is not None:
            ages.append(max((told.final_at - told.message_created_at).total_seconds(), 0.0))
        if answer.submitted_at is not None:
            delays.append(max((told.final_at - answer.submitted_at).total_seconds(), 0.0))
    for carrier_id, (ages, delays) in taken.items():
        DELIVERY.labels(carrier_name(carrier_id)).observe_all(ages)
        RECEIPT_DELAY.labels(carrier_name(carrier_id)).observe_all(delays)
