"""Claims and records in group commits, and what follows a record (DESIGN "Group commit")."""

import asyncio
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter

from shared.domain.retry import ATTEMPTS_MAX
from shared.events.facts import Fact
from shared.events.receipts import BUNDLE_MAX, ReceiptBundle
from shared.events.receipts import encode as encode_receipts
from shared.runtime.batcher import Batcher
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.halves import in_halves
from shared.runtime.jetstream import JetStream, PublishFailed
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool
from shared.runtime.server_calls import PartitionMissing, kind_of
from shared.storage.config import CarrierConfig
from shared.storage.facts import FactPublisher
from shared.storage.finals import FINALS
from worker import store
from worker.apart import each_apart, grouped
from worker.claim_apart import claim_apart
from worker.lost_claims import LostClaims, won_of
from worker.store import UNRECORDABLE, Claim, Claimed, Outcome, Recorded, Whom

# Only accept is in a hurry: outcomes gather this long when there is traffic. What is to be claimed has
# gathered before it was fetched.
LINGER_SECONDS: Final = 0.02
# Chunks in a flush and waiting; a chunk has up to CLAIM_MAX messages.
CHUNKS_MAX: Final = 5
CHUNKS_WAITING_MAX: Final = 1_000
FLUSHES_IN_FLIGHT: Final = 2

# The states of a message that will be submitted again.
_WAITING: Final = ("FAILED_TEMP", "QUEUED")

RETRIES: Final = Counter(
    "tollwire_submit_retries_total", "Submits that are to be made again, by why", ["carrier", "reason"]
)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _ClaimChunk:
    carrier_id: int
    deadline_seconds: int
    work: Sequence[tuple[str, int]]
    claims: list[Claim] | None = None
    is_left: bool = False


class _RecordChunk(NamedTuple):
    carrier: CarrierConfig
    outcomes: Sequence[Outcome]


class Journal(WithParts):
    """The attempt journal. An open async context; leaving it writes what is queued."""

    def __init__(self, pool: Pool, jetstream: JetStream, facts: FactPublisher, clock: Clock) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._facts = facts
        self._clock = clock
        self._carriers: Mapping[int, CarrierConfig] = {}
        self._claims: Batcher[_ClaimChunk, list[Claim]] = Batcher(
            self._flush_claims,
            name="claim",
            batch_max=CHUNKS_MAX,
            queue_max=CHUNKS_WAITING_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
        )
        self._records: Batcher[_RecordChunk, list[Recorded]] = Batcher(
            self._flush_records,
            name="record",
            batch_max=CHUNKS_MAX,
            queue_max=CHUNKS_WAITING_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            linger_seconds=LINGER_SECONDS,
        )
        self._lost_claims = LostClaims(pool, self.carrier, self.record)
        self._claim_apart = partial(claim_apart, pool, clock, self._lost_claims)

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers, and what became of the claims that they lost."""
        return [self._records, self._lost_claims, self._claims]

    def apply(self, carriers: Mapping[int, CarrierConfig]) -> None:
        """Follow the configuration."""
        self._carriers = carriers

    def carrier(self, carrier_id: int) -> CarrierConfig | None:
        """The row of a carrier, switched on or not."""
        return self._carriers.get(carrier_id)

    async def claim(
        self, carrier_id: int, work: Sequence[tuple[str, int]], deadline_seconds: int
    ) -> list[Claim]:
        """Claim work; an answer for each position.

        Raises:
            OutcomeUnknown: the database did not answer; what was claimed is given back when it does.
        """
        chunk = _ClaimChunk(carrier_id, deadline_seconds, work)
        try:
            return await self._claims.submit(chunk)
        except asyncio.CancelledError:
            # What a flush wins, or has just won, nobody submits: the later of the two gives it back.
            chunk.is_left = True
            self._give_back_left(chunk)
            raise

    def tell_claimed(self, carrier_id: int, claimed: Sequence[Claimed]) -> None:
        """Tell that messages are being sent."""
        now = self._clock.now()
        self._facts.add_all([_fact(*one, "SENDING", now, carrier_id, None) for one in claimed])

    async def record(
        self, carrier: CarrierConfig, claimed: Sequence[Claimed], outcomes: Sequence[Outcome]
    ) -> list[Recorded]:
        """Record what became of claims; an answer for each position. What has to be told is told.

        Raises:
            OutcomeUnknown: the database did not answer; the claims' deadline recovers the messages.
        """
        crash_point("record.before_commit")
        recorded = await self._records.submit(_RecordChunk(carrier, outcomes))
        crash_point("record.after_commit")
        self._add_facts(carrier, claimed, outcomes, recorded)
        _count(carrier.name, outcomes, recorded)
        await self._tell(carrier, recorded)
        return recorded

    async def put_off(self, work: Sequence[tuple[str, int]], seconds: Sequence[float]) -> int:
        """Give (message id, dispatch number) pairs back to the outbox, each due in so many seconds.

        Returns how many; what is claimed, ended or dispatched anew by now is left alone.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        return await store.put_off_work(self._pool, work, seconds)

    async def numbers(self, carrier: CarrierConfig, work: Sequence[tuple[str, int]]) -> list[Whom]:
        """Tell whom a carrier's (message id, dispatch number) pairs are for; an answer for each position.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        return await store.read_numbers(self._pool, work, carrier.id, may_ask_again=carrier.may_ask_again)

    async def _flush_claims(self, chunks: Sequence[_ClaimChunk]) -> Sequence[list[Claim] | Exception]:
        async def claim(indices: Sequence[int]) -> list[Claim]:
            work = [pair for index in indices for pair in chunks[index].work]
            return await self._claim_apart(work, *_claimed_as(chunks[indices[0]]))

        groups = grouped(map(_claimed_as, chunks))
        answers = await each_apart("claim", [len(chunk.work) for chunk in chunks], groups, claim)
        for chunk, claims in zip(chunks, answers, strict=True):
            if not isinstance(claims, Exception):
                chunk.claims = claims
                self._give_back_left(chunk)
        return answers

    def _give_back_left(self, chunk: _ClaimChunk) -> None:
        if chunk.is_left and chunk.claims is not None:
            self._lost_claims.give_back(chunk.carrier_id, won_of(chunk.work, chunk.claims))

    async def _flush_records(self, chunks: Sequence[_RecordChunk]) -> Sequence[list[Recorded] | Exception]:
        async def record(indices: Sequence[int]) -> list[Recorded]:
            outcomes = [outcome for index in indices for outcome in chunks[index].outcomes]
            return await self._record_apart(chunks[indices[0]].carrier, outcomes)

        groups = grouped(chunk.carrier.id for chunk in chunks)
        return await each_apart("record", [len(chunk.outcomes) for chunk in chunks], groups, record)

    async def _record_apart(self, carrier: CarrierConfig, outcomes: Sequence[Outcome]) -> list[Recorded]:
        """Record in one call, or in halves around an outcome that cannot be recorded."""
        record = partial(
            _record_in_its_day,
            self._pool,
            carrier_id=carrier.id,
            may_ask_again=carrier.may_ask_again,
            tries_max=ATTEMPTS_MAX,
            receipt_wait_seconds=carrier.receipt_wait_seconds,
        )
        records: list[Recorded] = []
        for outcome, recorded in zip(outcomes, await in_halves(record, outcomes), strict=True):
            if isinstance(recorded, Exception):
                _log.error(
                    "outcome cannot be recorded",
                    message_id=str(outcome.message_id),
                    attempt_no=outcome.attempt_no,
                    outcome=outcome.outcome,
                    error=kind_of(recorded),
                )
            records.append(UNRECORDABLE if isinstance(recorded, Exception) else recorded)
        return records

    async def _tell(self, carrier: CarrierConfig, recorded: Sequence[Recorded]) -> None:
        waiting = [id_.hex for record in recorded for id_ in record.receipt_ids or ()]
        try:
            await self._wake_dlr(carrier, waiting)
        except PublishFailed as error:
            # dlr's own sweep finds the receipts.
            _log.warning("not told", receipts=len(waiting), error=str(error))

    def _add_facts(
        self,
        carrier: CarrierConfig,
        claimed: Sequence[Claimed],
        outcomes: Sequence[Outcome],
        recorded: Sequence[Recorded],
    ) -> None:
        now = self._clock.now()
        self._facts.add_all(
            [
                # What a receipt has proved to be sent has no error, whatever the answer was.
                _fact(*one, record.state, now, carrier.id, None if record.state == "SENT" else outcome.error)
                for one, outcome, record in zip(claimed, outcomes, recorded, strict=True)
                if record.moved and record.state is not None
            ]
        )

    async def _wake_dlr(self, carrier: CarrierConfig, receipt_ids: Sequence[str]) -> None:
        for start in range(0, len(receipt_ids), BUNDLE_MAX):
            bundle = ReceiptBundle(
                carrier_id=carrier.id, receipt_ids=list(receipt_ids[start : start + BUNDLE_MAX])
            )
            await self._jetstream.publish(
                f"sms.receipt.{carrier.name}",
                encode_receipts(bundle),
                message_id=f"{bundle.receipt_ids[0]}.{len(bundle.receipt_ids)}",
                headers={},
            )


async def _record_in_its_day(pool: Pool, outcomes: Sequence[Outcome], **how: Any) -> list[Recorded]:
    """Record as soon as the day has its partitions: only this process knows what the carrier answered."""
    while True:
        try:
            return await store.record_batch(pool, outcomes, **how)
        except PartitionMissing as error:
            _log.warning("outcomes wait", outcomes=len(outcomes), error=str(error))


def _claimed_as(chunk: _ClaimChunk) -> tuple[int, int]:
    """What the chunks of one call have in common: the carrier, and the seconds of the deadline."""
    return chunk.carrier_id, chunk.deadline_seconds


def _count(carrier: str, outcomes: Sequence[Outcome], recorded: Sequence[Recorded]) -> None:
    """Count what did not go out."""
    pairs = zip(outcomes, recorded, strict=True)
    fates = Tally(
        (outcome.outcome, record.state)
        for outcome, record in pairs
        if record.moved and outcome.outcome != "submitted"
    )
    for (reason, state), count in fates.items():
        if state == "FAILED_PERM":
            FINALS.labels(carrier, state).inc(count)
        elif state in _WAITING:
            RETRIES.labels(carrier, reason).inc(count)


def _fact(
    message_id: UUID, claim: Claim, status: str, at: datetime, carrier_id: int, error: str | None
) -> Fact:
    return Fact(
        message_id=message_id.hex,
        client_id=claim.client_id,
        status=status,
        at=at,
        region=claim.region,
        lane=claim.lane,
        segments=claim.segments,
        amount_micros=claim.price_micros,
        currency=claim.currency,
        carrier_id=carrier_id,
        attempt_no=claim.attempt_no,
        error=error,
    )
