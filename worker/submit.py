"""From a bundle of work to recorded outcomes: places, claim, submit, record (DESIGN 2, RULES 15 to 18)."""

import asyncio
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from asyncpg.pgproto import pgproto
from prometheus_client import Counter

from shared.domain.retry import PATIENT_ATTEMPTS, patience_seconds
from shared.runtime import tracing
from shared.runtime.batcher import Busy
from shared.runtime.clock import Clock, running_seconds
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.runtime.metrics import AGE_BUCKETS, BulkHistogram
from worker.carriers.base import (
    GIVEN_BACK,
    TOO_LATE,
    Outcome,
    Refused,
    Submitted,
    is_try,
)
from worker.chunk import Chunk
from worker.desk import Desk
from worker.desks import Desks
from worker.journal import Journal
from worker.lines import AWAY_SECONDS, Wait
from worker.places import Places
from worker.sealed_texts import NOT_FOR_TESTS, SHUT_DETAIL, SHUT_TEXT, TEXT_UNREADABLE, open_texts
from worker.store import Claimed
from worker.store import Outcome as Recording
from worker.window import Turn
from worker.words import verdict

# Messages claimed at once, a chunk: a flush of the journal carries several of these.
CLAIM_MAX: Final = 200
# Chunks of a lane that wait for the journal with their outcomes. All lanes together fit into its queue: an
# outcome that was turned away there would be forgotten. Those that a carrier has not answered yet do not
# count: one that hangs must not use up what the others need; its window bounds them.
RECORDING_MAX: Final = 100

REFUSED_CLAIMS: Final = Counter(
    "tollwire_claims_refused_total", "Claims that were not won, by reason", ["reason"]
)
ACCEPT_TO_SUBMIT: Final = BulkHistogram(
    "tollwire_accept_to_submit_seconds",
    "From acceptance, or the later time that the client or, unless it was turned away, its pace had set, "
    "to the claim of the first try",
    ["lane"],
    buckets=AGE_BUCKETS,
)

_log = structlog.get_logger(__name__)


class Submit:
    """The worker's use case. ``carry`` returns when all of it is recorded, put off, or was not ours."""

    def __init__(self, desks: Desks, journal: Journal, keyring: Keyring, clock: Clock) -> None:
        self._desks = desks
        self._journal = journal
        self._keyring = keyring
        self._clock = clock
        self._recording: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(RECORDING_MAX))
        self.places = Places(desks, journal)

    async def carry(
        self, lane: str, carrier_id: int, work: Sequence[tuple[str, int]], bundles: int, stop: Stop
    ) -> None:
        """Work off one carrier's messages, which came in so many bundles, chunk by chunk.

        As many go at a time as its window lets through; what it has no place for soon is put off
        (worker/lines.py).

        Raises:
            Busy: the process is asked to stop: what is not claimed yet is for another worker (RULES 16).
            OutcomeUnknown: the database did not answer; nothing may be acknowledged.
        """
        chunks: list[asyncio.Task[None]] = []
        try:
            with self.places.wait(lane, carrier_id, work, bundles) as wait:
                await self._take_all(lane, carrier_id, wait, stop, chunks)
        except asyncio.CancelledError:
            for chunk in chunks:
                chunk.cancel()
            raise
        finally:
            await asyncio.gather(*chunks, return_exceptions=True)
        for chunk in chunks:
            chunk.result()

    async def _take_all(
        self, lane: str, carrier_id: int, wait: Wait, stop: Stop, chunks: list[asyncio.Task[None]]
    ) -> None:
        """Begin a chunk whenever there are places, until nothing is left or a chunk has failed."""
        while wait.left and not any(map(_has_failed, chunks)):
            _refuse_when_stopping(stop)
            desk = self._desks.get(carrier_id)
            if desk is None or _is_away(desk, wait):
                wanted = wait.first(CLAIM_MAX)
                await self._send_elsewhere(lane, carrier_id, wanted)
                wait.advance(len(wanted))
            elif taken := await self._take(desk, lane, wait, stop):
                chunks.append(asyncio.create_task(self._do(desk, lane, taken, wait.first(taken), stop)))
                wait.advance(taken)
            else:
                await self.places.put_off_surplus(desk, lane, wait)

    async def _take(self, desk: Desk, lane: str, wait: Wait, stop: Stop) -> Turn:
        """Take places, the journal's first: what was submitted is always recorded."""
        async with self._recording[lane]:
            pass
        return await self.places.take(desk, lane, wait, min(wait.left, CLAIM_MAX), stop)

    async def _do(
        self, desk: Desk, lane: str, taken: Turn, work: Sequence[tuple[str, int]], stop: Stop
    ) -> None:
        """Claim, submit and record a chunk whose places were taken; the carrier's are free by the record."""
        chunk = Chunk(taken, partial(desk.give, lane), partial(self._record, desk, lane))
        try:
            try:
                _refuse_when_stopping(stop)  # the carrier's pace may have made us wait
                won, outcomes = await self._claim_and_submit(desk, lane, taken, work, chunk)
            finally:
                chunk.give_back()
            await chunk.record(won, outcomes)
        except asyncio.CancelledError:
            await chunk.cancel()
            raise

    async def _record(
        self, desk: Desk, lane: str, won: Sequence[Claimed], outcomes: Sequence[Outcome]
    ) -> None:
        records = [self._recording_of(desk, *pair) for pair in zip(won, outcomes, strict=True)]
        async with self._recording[lane]:
            await self._journal.record(desk.config, won, records)

    async def _claim(
        self, carrier_id: int, work: Sequence[tuple[str, int]], deadline_seconds: int
    ) -> list[Claimed]:
        claims = await self._journal.claim(carrier_id, work, deadline_seconds)
        # asyncpg's UUID is compiled: made, printed and turned into bytes in a tenth of the time.
        won = [
            Claimed(pgproto.UUID(id_), claim)
            for (id_, _), claim in zip(work, claims, strict=True)
            if claim.refusal is None
        ]
        if len(won) < len(claims):
            for refusal, count in Tally(claim.refusal for claim in claims if claim.refusal).items():
                REFUSED_CLAIMS.labels(refusal).inc(count)
        self._journal.tell_claimed(carrier_id, won)
        return won

    async def _claim_and_submit(
        self, desk: Desk, lane: str, taken: Turn, work: Sequence[tuple[str, int]], chunk: Chunk
    ) -> tuple[list[Claimed], list[Outcome]]:
        """Return what was claimed, and what the carrier said of each."""
        deadline_seconds = desk.config.submit_deadline_seconds
        asked_at = running_seconds()
        won = await self._claim(desk.config.id, work, deadline_seconds)
        crash_point("claim.after_commit")
        readable, submissions, kept = open_texts(self._keyring, desk.config, won, asked_at)
        desk.give_back_pace(taken, taken - len(submissions))
        chunk.note_claimed(won)
        chunk.kept(kept)
        crash_point("submit.before_write")
        claimed_at_seconds = self._clock.now_ms() / 1000
        outcomes: list[Outcome] = []
        if submissions:
            outcomes = await desk.submit(submissions, taken, lane=lane, answered=chunk.answered)
        _count_first_tries(readable, outcomes, claimed_at_seconds)
        crash_point("submit.after_write")
        return [*readable, *[claimed for claimed, _ in kept]], [*outcomes, *[why for _, why in kept]]

    async def _send_elsewhere(self, lane: str, carrier_id: int, work: Sequence[tuple[str, int]]) -> None:
        """The carrier is off or down: claim what another one carries, for that one, and put off all else."""
        config = self._journal.carrier(carrier_id)
        if config is None:
            return  # the row is gone: its outbox lease ends, and the clockwork looks again
        going: list[tuple[str, int]] = []
        staying: dict[tuple[str, int], float] = {}
        for pair, whom in zip(work, await self._journal.numbers(config, work), strict=True):
            other = self._desks.another(whom.msisdn, carrier_id, is_test=whom.is_test)
            if other is None or whom.is_bound:
                staying[pair] = whom.left_seconds
            else:
                going.append(pair)
        if staying:
            await self.places.put_off_away(lane, config, staying)
        won = await self._claim(carrier_id, going, config.submit_deadline_seconds) if going else []
        if won:
            given_back = [self._give_back(one, carrier_id) for one in won]
            # The journal writes it though nobody waits for it any more.
            await asyncio.shield(self._journal.record(config, won, given_back))

    def _give_back(self, claimed: Claimed, carrier_id: int) -> Recording:
        """What this carrier is not given: it goes to another one, or waits."""
        message_id, claim = claimed
        other = self._desks.another(claim.msisdn, carrier_id, is_test=claim.is_test)
        # Two workers may find each other's carrier away: at once a few times, then after waits.
        is_at_once = other is not None and claim.claims_without_try <= PATIENT_ATTEMPTS
        wait_seconds = patience_seconds(claim.claims_without_try, AWAY_SECONDS)
        word = "unclaimed" if is_at_once else "throttled"
        return Recording(
            message_id, claim.attempt_no, 1, word, None, "carrier_away", None, wait_seconds, other
        )

    def _recording_of(self, desk: Desk, claimed: Claimed, outcome: Outcome) -> Recording:
        message_id, claim = claimed
        if isinstance(outcome, Submitted):
            return Recording(
                message_id, claim.attempt_no, 1, "submitted", outcome.reference, None, None, 0.0, None
            )
        if outcome is NOT_FOR_TESTS:
            return self._give_back(claimed, desk.config.id)
        age_seconds = self._clock.now_ms() / 1000 - claim.due_since.timestamp()
        word, error, detail, retry_seconds = verdict(
            outcome, claim.tries + 1, claim.claims_without_try, age_seconds
        )
        if outcome is SHUT_TEXT:
            error, detail = TEXT_UNREADABLE, SHUT_DETAIL
        other = None
        if isinstance(outcome, Refused) and not outcome.permanent and outcome not in (TOO_LATE, GIVEN_BACK):
            other = self._desks.another(claim.msisdn, desk.config.id, is_test=claim.is_test)
        return Recording(message_id, claim.attempt_no, 1, word, None, error, detail, retry_seconds, other)


def _count_first_tries(
    won: Sequence[Claimed], outcomes: Sequence[Outcome], claimed_at_seconds: float
) -> None:
    """Count each message once: not when it is claimed, which it is again whenever it was turned away."""
    ages: dict[str, list[float]] = {}
    for (_, claim), outcome in zip(won, outcomes, strict=True):
        if claim.tries == 0 and is_try(outcome):
            age_seconds = max(claimed_at_seconds - claim.due_since.timestamp(), 0.0)
            ages.setdefault(claim.lane, []).append(age_seconds)
    for lane, seconds in ages.items():
        ACCEPT_TO_SUBMIT.labels(lane).observe_all(seconds, tracing.exemplar())


def _is_away(desk: Desk, wait: Wait) -> bool:
    """Return True when none of this work may go. Before a probe, what tells most comes first."""
    if desk.is_down or not desk.is_broken():
        return desk.is_down
    wait.bring_forward(lambda one: not desk.is_odd(UUID(one[0])))
    ((first, _),) = wait.first(1)
    return desk.has_odd_probe and desk.is_odd(UUID(first))


def _refuse_when_stopping(stop: Stop) -> None:
    if stop.requested:
        raise Busy("the worker is stopping")


def _has_failed(chunk: asyncio.Task[None]) -> bool:
    return chunk.done() and (chunk.cancelled() or chunk.exception() is not None)
