"""Settles kept receipts in group commits and hands out the callbacks they caused (DESIGN 2, RULES 24)."""

import asyncio
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from prometheus_client import Counter

from dlr import store
from dlr.store import Settled
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.crash_points import crash_point
from shared.runtime.metrics import DAYS_BUCKETS, BulkHistogram
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.facts import FactPublisher, load_facts
from shared.storage.finals import carrier_name, count_finals

# Not in a hurry: receipts gather this long when there is traffic.
LINGER_SECONDS: Final = 0.02
FLUSH_MAX: Final = 500
QUEUE_MAX: Final = 20_000
FLUSHES_IN_FLIGHT: Final = 2

RECEIPTS: Final = Counter("tollwire_receipts_settled_total", "Receipts by what they did", ["outcome"])
DELIVERY: Final = BulkHistogram(
    "tollwire_accept_to_final_seconds",
    "From acceptance to the final status by a receipt",
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

    @property
    def lease_seconds(self) -> int:
        """How long a callback that is made now is this process's alone; 0: not at all, it is stopping."""
        ...

    def deliver_soon(self, callback_ids: Sequence[UUID]) -> None:
        """Take them; never waits. What cannot be taken is swept when its lease ends."""
        ...


class Settle(WithParts):
    """The use case behind every receipt. An open async context; leaving it settles what is queued."""

    def __init__(self, pool: Pool, facts: FactPublisher, deliver: Deliver) -> None:
        self._pool = pool
        self._facts = facts
        self._deliver = deliver
        self._tasks: set[asyncio.Task[None]] = set()
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

    def settle_soon(self, receipt_ids: Sequence[UUID]) -> None:
        """Settle receipts that are leased to this process; never waits. The sweep heals what fails."""
        task = asyncio.create_task(self._settle_logged(receipt_ids))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, receipt_ids: Sequence[UUID]) -> list[Settled]:
        """Settle receipts; an answer for each position.

        Raises:
            OutcomeUnknown: the database did not answer; their leases end and the sweep goes on.
            Busy: too many wait already.
        """
        return await self._batcher.submit_many(receipt_ids)

    async def sweep(self) -> None:
        """Take over receipts that are due again: a settler died, or a reference was not known yet."""
        while receipt_ids := await store.lease_receipts(self._pool, FLUSH_MAX):
            answers = await self._batcher.submit_each(receipt_ids)
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed:
                # They keep their lease and come again; the others are settled.
                _log.error("receipts not settled", receipts=len(failed), error=repr(failed[0]))
            if len(receipt_ids) < FLUSH_MAX:
                return

    async def _settle_logged(self, receipt_ids: Sequence[UUID]) -> None:
        try:
            await self.settle(receipt_ids)
        except (OutcomeUnknown, Busy) as error:
            _log.warning("receipts not settled yet", receipts=len(receipt_ids), error=str(error))
        except Exception:  # noqa: BLE001 - logged; a bug must not be silent until the sweep
            # They keep their lease, and the sweep tries again; a bug must not be silent until then.
            _log.exception("receipts not settled", receipts=len(receipt_ids))

    async def _flush(self, receipt_ids: Sequence[UUID]) -> Sequence[Settled | Exception]:
        crash_point("settle.before_commit")
        settled = await store.settle_batch(self._pool, receipt_ids, self._deliver.lease_seconds)
        crash_point("settle.after_commit")
        _count(settled)
        self._deliver.deliver_soon([answer.callback_id for answer in settled if answer.callback_id])
        moved = [answer.message_id for answer in settled if answer.outcome == "moved" and answer.message_id]
        for fact in await load_facts(self._pool, moved) if moved else ():
            self._facts.add(fact)
        return settled


def _count(settled: Sequence[Settled]) -> None:
    """Count ends and money, a flush at a time."""
    captured: Tally[str] = Tally()
    released: Tally[str] = Tally()
    seconds: dict[int | None, list[float]] = {}
    moved = [answer for answer in settled if answer.outcome == "moved"]
    for outcome, count in Tally(answer.outcome for answer in settled).items():
        RECEIPTS.labels(outcome).inc(count)
        if outcome == "ambiguous":
            _log.warning("receipts fit several messages, kept for an operator", receipts=count)
    for answer in moved:
        told = answer.told
        if told.currency is not None and told.price_micros is not None:
            (captured if told.is_charged else released)[told.currency] += told.price_micros
        if told.final_at is not None and told.message_created_at is not None:
            age = (told.final_at - told.message_created_at).total_seconds()
            seconds.setdefault(answer.carrier_id, []).append(max(age, 0.0))
    count_finals([(answer.carrier_id, answer.state or "") for answer in moved])
    for currency, micros in captured.items():
        CAPTURED.labels(currency).inc(micros)
    for currency, micros in released.items():
        RELEASED.labels(currency).inc(micros)
    for carrier_id, ages in seconds.items():
        DELIVERY.labels(carrier_name(carrier_id)).observe_all(ages)
