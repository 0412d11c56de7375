"""From a bundle of work to recorded outcomes: places, claim, submit, record (DESIGN 2, RULES 15 to 18)."""

import asyncio
import random
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Final

import structlog
from asyncpg.pgproto import pgproto
from prometheus_client import Counter

from shared.domain.alphabet import Encoding
from shared.domain.retry import ATTEMPTS_MAX, PATIENT_ATTEMPTS, backoff_seconds, patience_seconds
from shared.events.bundles import Bundle
from shared.runtime import tracing
from shared.runtime.batcher import Busy
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.loops import Stop
from shared.runtime.metrics import AGE_BUCKETS, BulkHistogram
from worker.carriers.base import Outcome, Refused, Submission, Submitted, Throttled, Uncertain
from worker.desk import Desk
from worker.desks import Desks
from worker.journal import Journal
from worker.store import Claimed
from worker.store import Outcome as Recording

# Messages claimed at once, a chunk: a flush of the journal carries several of these.
CLAIM_MAX: Final = 200
# Chunks of a lane that are claimed and not yet recorded. All lanes together fit into the journal's queue: an
# outcome that was turned away there would be forgotten.
UNRECORDED_MAX: Final = 100
# A carrier that is switched off, or down without another route: look again soon, using up no try.
CARRIER_AWAY_SECONDS: Final = 5.0
# What the carrier asks for is believed from this, also where it says nothing, up to that: each wait ends with
# a claim, and a message's counters hold those of its whole life.
RETRY_AFTER_MIN_SECONDS: Final = 1.0
RETRY_AFTER_MAX_SECONDS: Final = 300.0
UNCERTAIN_AGAIN_SECONDS: Final = 2.0
# Temporary: while keys are rotated a worker may not have the newest yet.
TEXT_UNREADABLE: Final = "text_unreadable"

REFUSED_CLAIMS: Final = Counter(
    "tollwire_claims_refused_total", "Claims that were not won, by reason", ["reason"]
)
ACCEPT_TO_SUBMIT: Final = BulkHistogram(
    "tollwire_accept_to_submit_seconds",
    "From acceptance, or the later time that the client or its pace had set, to the first claim",
    ["lane"],
    buckets=AGE_BUCKETS,
)

_LOST_TEXT: Final = Refused(
    TEXT_UNREADABLE, "the key that sealed the text is not in the keyring", permanent=False
)
_ENCODINGS: Final = {encoding.value: encoding for encoding in Encoding}

_log = structlog.get_logger(__name__)


class Submit:
    """The worker's use case. ``bundles`` returns when everything in them is recorded or was not ours."""

    def __init__(self, desks: Desks, journal: Journal, keyring: Keyring, clock: Clock) -> None:
        self._desks = desks
        self._journal = journal
        self._keyring = keyring
        self._clock = clock
        self._unrecorded: dict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(UNRECORDED_MAX)
        )

    async def bundles(self, lane: str, bundles: Sequence[Bundle], stop: Stop) -> None:
        """Do the work of a lane's bundles that arrived together.

        Raises:
            Busy: the process is asked to stop: what is not claimed yet is for another worker (RULES 16).
            OutcomeUnknown: the database did not answer; nothing may be acknowledged.
        """
        by_carrier: dict[int, list[tuple[str, int]]] = {}
        for bundle in bundles:
            by_carrier.setdefault(bundle.carrier_id, []).extend(bundle.work)
        await _all_of([self._carry(lane, carrier_id, work, stop) for carrier_id, work in by_carrier.items()])

    async def _carry(self, lane: str, carrier_id: int, work: Sequence[tuple[str, int]], stop: Stop) -> None:
        """Work off one carrier's messages, chunk by chunk, as many at a time as its window lets through."""
        chunks: list[asyncio.Task[None]] = []
        start = 0
        try:
            while start < len(work) and not any(map(_has_failed, chunks)):
                _refuse_when_stopping(stop)
                wanted = work[start : start + CLAIM_MAX]
                desk = self._desks.get(carrier_id)
                if desk is None or desk.is_down:
                    await self._send_elsewhere(carrier_id, wanted)
                    start += len(wanted)
                elif count := await self._take(desk, lane, len(wanted)):
                    # Without places the carrier's row has changed: another desk, or none, is there now.
                    chunks.append(asyncio.create_task(self._do(desk, lane, wanted[:count], stop)))
                    start += count
        except asyncio.CancelledError:
            for chunk in chunks:
                chunk.cancel()
            raise
        finally:
            await asyncio.gather(*chunks, return_exceptions=True)
        for chunk in chunks:
            chunk.result()

    async def _take(self, desk: Desk, lane: str, wanted: int) -> int:
        """Wait for places, the journal's first: what was submitted is always recorded. 0 at a closed desk."""
        await self._unrecorded[lane].acquire()
        count = 0
        try:
            count = await desk.take(lane, wanted)
        finally:
            if not count:
                self._unrecorded[lane].release()
        return count

    async def _do(self, desk: Desk, lane: str, work: Sequence[tuple[str, int]], stop: Stop) -> None:
        """Claim, submit and record a chunk whose places were taken; the carrier's are free by the record."""
        try:
            try:
                _refuse_when_stopping(stop)  # the carrier's pace may have made us wait
                won, outcomes = await self._claim_and_submit(desk, work)
            finally:
                desk.give(lane, len(work))
            if won:
                records = [self._recording(desk, *pair) for pair in zip(won, outcomes, strict=True)]
                await self._journal.record(desk.config, won, records)
        finally:
            self._unrecorded[lane].release()

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
        self, desk: Desk, work: Sequence[tuple[str, int]]
    ) -> tuple[list[Claimed], list[Outcome]]:
        """Return what was claimed, and what the carrier said of each."""
        deadline_seconds = desk.config.submit_deadline_seconds
        started_at = time.monotonic()
        won = await self._claim(desk.config.id, work, deadline_seconds)
        crash_point("claim.after_commit")
        seconds_left = deadline_seconds - (time.monotonic() - started_at)
        readable, submissions, unreadable = self._read(won, seconds_left)
        crash_point("submit.before_write")
        outcomes = await desk.submit(submissions) if submissions else []
        crash_point("submit.after_write")
        return [*readable, *unreadable], [*outcomes, *[_LOST_TEXT] * len(unreadable)]

    def _read(
        self, won: Sequence[Claimed], seconds_left: float
    ) -> tuple[list[Claimed], list[Submission], list[Claimed]]:
        """Open the texts: what can be submitted, the submissions, and what cannot."""
        readable, submissions, unreadable = [], [], []
        now_seconds = self._clock.now_ms() / 1000
        ages: dict[str, list[float]] = {}
        for claimed in won:
            claim = claimed.claim
            if claim.tries == 0:
                age_seconds = max(now_seconds - claim.due_since.timestamp(), 0.0)
                ages.setdefault(claim.lane, []).append(age_seconds)
            try:
                submissions.append(self._submission(claimed, seconds_left))
                readable.append(claimed)
            except SealBroken:
                _log.error("text cannot be opened", message_id=str(claimed.message_id))
                unreadable.append(claimed)
        for lane, seconds in ages.items():
            ACCEPT_TO_SUBMIT.labels(lane).observe_all(seconds, tracing.exemplar())
        return readable, submissions, unreadable

    async def _send_elsewhere(self, carrier_id: int, work: Sequence[tuple[str, int]]) -> None:
        """The carrier is off or down: claim, and give back with another carrier's name or a later time."""
        config = self._journal.carrier(carrier_id)
        if config is None:
            return  # the row is gone: its outbox lease ends, and the clockwork looks again
        records = []
        won = await self._claim(carrier_id, work, config.submit_deadline_seconds)
        for claimed in won:
            other = self._desks.another(claimed.claim.msisdn, carrier_id, is_test=claimed.claim.is_test)
            # Two workers may find each other's carrier away: at once a few times, then after waits.
            is_at_once = other is not None and claimed.claim.attempt_no <= PATIENT_ATTEMPTS
            records.append(
                Recording(
                    message_id=claimed.message_id,
                    attempt_no=claimed.claim.attempt_no,
                    part_no=1,
                    outcome="unclaimed" if is_at_once else "throttled",
                    reference=None,
                    error="carrier_away",
                    detail=None,
                    retry_seconds=patience_seconds(claimed.claim.attempt_no, CARRIER_AWAY_SECONDS),
                    next_carrier_id=other,
                )
            )
        if records:
            await self._journal.record(config, won, records)

    def _submission(self, claimed: Claimed, seconds_left: float) -> Submission:
        claim = claimed.claim
        return Submission(
            message_id=claimed.message_id,
            attempt_no=claim.attempt_no,
            part_no=1,
            msisdn=claim.msisdn,
            sender=claim.sender,
            text=self._keyring.unseal(claim.text_sealed, claimed.message_id.bytes).decode(),
            encoding=_ENCODINGS[claim.encoding],
            segments=claim.segments,
            valid_for_seconds=max(int(claim.valid_seconds), 1),
            deadline_seconds=seconds_left,
        )

    def _recording(self, desk: Desk, claimed: Claimed, outcome: Outcome) -> Recording:
        message_id, claim = claimed
        if isinstance(outcome, Submitted):
            return Recording(
                message_id, claim.attempt_no, 1, "submitted", outcome.reference, None, None, 0.0, None
            )
        word, error, detail, retry_seconds = _verdict(outcome, claim.tries + 1, claim.attempt_no)
        other = None
        if isinstance(outcome, Refused) and not outcome.permanent and outcome.code != TEXT_UNREADABLE:
            other = self._desks.another(claim.msisdn, desk.config.id, is_test=claim.is_test)
        return Recording(message_id, claim.attempt_no, 1, word, None, error, detail, retry_seconds, other)


def _refuse_when_stopping(stop: Stop) -> None:
    if stop.requested:
        raise Busy("the worker is stopping")


def _has_failed(chunk: asyncio.Task[None]) -> bool:
    return chunk.done() and (chunk.cancelled() or chunk.exception() is not None)


async def _all_of(works: Sequence[Coroutine[None, None, None]]) -> None:
    """Let all of them finish, then raise what the first of them met."""
    if len(works) == 1:
        await works[0]
        return
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _verdict(
    outcome: Refused | Throttled | Uncertain, tries: int, claims: int
) -> tuple[str, str, str | None, float]:
    """A carrier's answer in the journal's words: the outcome, its error and detail, and when to try again."""
    jitter = random.random()  # noqa: S311 - spreads retries, keeps no secret
    match outcome:
        case Refused(code, detail, permanent=True):
            return "refused_perm", code, detail, 0.0
        case Refused(code, detail):
            return "refused_temp", code, detail, backoff_seconds(min(tries, ATTEMPTS_MAX), jitter)
        case Throttled(retry_after_seconds):
            asked = min(max(retry_after_seconds or 0.0, RETRY_AFTER_MIN_SECONDS), RETRY_AFTER_MAX_SECONDS)
            wait = patience_seconds(claims, asked)
            return "throttled", "throttled", None, wait * (1 + jitter)
        case Uncertain(detail):
            return "uncertain", "outcome_unknown", detail, UNCERTAIN_AGAIN_SECONDS
