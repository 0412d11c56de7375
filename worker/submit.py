"""From a bundle of work to recorded outcomes: places, claim, submit, record (DESIGN 2, RULES 15 to 18)."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from shared.domain.alphabet import Encoding
from shared.domain.retry import ATTEMPTS_MAX, backoff_seconds
from shared.events.bundles import Bundle
from shared.runtime.batcher import Busy
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.loops import Stop
from shared.runtime.metrics import AGE_BUCKETS
from worker.carriers.base import Outcome, Refused, Submission, Submitted, Throttled, Uncertain
from worker.desk import Desk
from worker.desks import Desks
from worker.journal import Journal
from worker.store import Claimed
from worker.store import Outcome as Recording

# Messages claimed at once: a flush of the journal carries several of these.
CLAIM_MAX: Final = 200
# A carrier that is switched off, or down without another route: look again soon, using up no try.
CARRIER_AWAY_SECONDS: Final = 5.0
# What the carrier asks for is believed up to this.
RETRY_AFTER_MAX_SECONDS: Final = 300.0
UNCERTAIN_AGAIN_SECONDS: Final = 2.0
# Temporary: while keys are rotated a worker may not have the newest yet.
TEXT_UNREADABLE: Final = "text_unreadable"

REFUSED_CLAIMS: Final = Counter(
    "tollwire_claims_refused_total", "Claims that were not won, by reason", ["reason"]
)
ACCEPT_TO_SUBMIT: Final = Histogram(
    "tollwire_accept_to_submit_seconds",
    "From acceptance to the first claim, by lane",
    ["lane"],
    buckets=AGE_BUCKETS,
)

_log = structlog.get_logger(__name__)


class Submit:
    """The worker's use case. ``bundles`` returns when everything in them is recorded or was not ours."""

    def __init__(self, desks: Desks, journal: Journal, keyring: Keyring, clock: Clock) -> None:
        self._desks = desks
        self._journal = journal
        self._keyring = keyring
        self._clock = clock

    async def bundles(self, bundles: Sequence[Bundle], stop: Stop) -> None:
        """Do the work of bundles that arrived together.

        Raises:
            Busy: the process is asked to stop: what is not claimed yet is for another worker (RULES 16).
            OutcomeUnknown: the database did not answer; nothing may be acknowledged.
        """
        by_carrier: dict[int, list[tuple[str, int]]] = {}
        for bundle in bundles:
            by_carrier.setdefault(bundle.carrier_id, []).extend(bundle.work)
        for carrier_id, work in by_carrier.items():
            await self._carry(carrier_id, work, stop)

    async def _carry(self, carrier_id: int, work: Sequence[tuple[str, int]], stop: Stop) -> None:
        start = 0
        while start < len(work):
            _refuse_when_stopping(stop)
            desk = self._desks.get(carrier_id)
            count = min(CLAIM_MAX, desk.batch_max if desk else CLAIM_MAX)
            chunk = work[start : start + count]
            start += len(chunk)
            if desk is None or desk.is_down:
                await self._send_elsewhere(carrier_id, chunk)
            else:
                async with desk.places(len(chunk)):
                    _refuse_when_stopping(stop)  # the carrier's pace may have made us wait
                    await self._claim_and_submit(desk, chunk)

    async def _claim(
        self, carrier_id: int, work: Sequence[tuple[str, int]], deadline_seconds: int
    ) -> list[Claimed]:
        claims = await self._journal.claim(carrier_id, work, deadline_seconds)
        won = []
        for (message_id, _), claim in zip(work, claims, strict=True):
            if claim.refusal is None:
                won.append(Claimed(UUID(message_id), claim))
            else:
                REFUSED_CLAIMS.labels(claim.refusal).inc()
        self._journal.tell_claimed(carrier_id, won)
        return won

    async def _claim_and_submit(self, desk: Desk, work: Sequence[tuple[str, int]]) -> None:
        deadline_seconds = desk.config.submit_deadline_seconds
        started_at = time.monotonic()
        won = await self._claim(desk.config.id, work, deadline_seconds)
        crash_point("claim.after_commit")
        if not won:
            return
        submissions = []
        readable = []
        unreadable = []
        for claimed in won:
            try:
                submissions.append(
                    self._submission(claimed, deadline_seconds - (time.monotonic() - started_at))
                )
                readable.append(claimed)
            except SealBroken:
                _log.error("text cannot be opened", message_id=str(claimed.message_id))
                unreadable.append(claimed)
        crash_point("submit.before_write")
        outcomes = await desk.submit(submissions) if submissions else []
        crash_point("submit.after_write")
        records = [self._recording(desk, *pair) for pair in zip(readable, outcomes, strict=True)]
        lost_text = Refused(
            TEXT_UNREADABLE, "the key that sealed the text is not in the keyring", permanent=False
        )
        records += [self._recording(desk, claimed, lost_text) for claimed in unreadable]
        await self._journal.record(desk.config, [*readable, *unreadable], records)

    async def _send_elsewhere(self, carrier_id: int, work: Sequence[tuple[str, int]]) -> None:
        """The carrier is off or down: claim, and give back with another carrier's name or a later time."""
        config = self._journal.carrier(carrier_id)
        if config is None:
            return  # the row is gone: its outbox lease ends, and the clockwork looks again
        records = []
        won = await self._claim(carrier_id, work, config.submit_deadline_seconds)
        for claimed in won:
            other = self._desks.another(claimed.claim.msisdn, carrier_id, is_test=claimed.claim.is_test)
            records.append(
                Recording(
                    message_id=claimed.message_id,
                    attempt_no=claimed.claim.attempt_no,
                    part_no=1,
                    outcome="unclaimed" if other is not None else "throttled",
                    reference=None,
                    error="carrier_away",
                    detail=None,
                    retry_seconds=CARRIER_AWAY_SECONDS,
                    next_carrier_id=other,
                )
            )
        if records:
            await self._journal.record(config, won, records)

    def _submission(self, claimed: Claimed, seconds_left: float) -> Submission:
        claim = claimed.claim
        if claim.tries == 0:
            age_seconds = self._clock.now_ms() / 1000 - claim.created_at.timestamp()
            ACCEPT_TO_SUBMIT.labels(claim.lane).observe(max(age_seconds, 0.0))
        return Submission(
            message_id=claimed.message_id,
            attempt_no=claim.attempt_no,
            part_no=1,
            msisdn=claim.msisdn,
            sender=claim.sender,
            text=self._keyring.unseal(claim.text_sealed, claimed.message_id.bytes).decode(),
            encoding=Encoding(claim.encoding),
            segments=claim.segments,
            valid_for_seconds=max(int(claim.valid_seconds), 1),
            deadline_seconds=seconds_left,
        )

    def _recording(self, desk: Desk, claimed: Claimed, outcome: Outcome) -> Recording:
        claim = claimed.claim
        verdict = _verdict(outcome, claim.tries + 1)
        other = None
        if isinstance(outcome, Refused) and not outcome.permanent and outcome.code != TEXT_UNREADABLE:
            other = self._desks.another(claim.msisdn, desk.config.id, is_test=claim.is_test)
        return Recording(
            message_id=claimed.message_id,
            attempt_no=claim.attempt_no,
            part_no=1,
            outcome=verdict.outcome,
            reference=verdict.reference,
            error=verdict.error,
            detail=verdict.detail,
            retry_seconds=verdict.retry_seconds,
            next_carrier_id=other,
        )


def _refuse_when_stopping(stop: Stop) -> None:
    if stop.requested:
        raise Busy("the worker is stopping")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A carrier's answer in the journal's words."""

    outcome: str
    reference: str | None = None
    error: str | None = None
    detail: str | None = None
    retry_seconds: float = 0.0


def _verdict(outcome: Outcome, attempt_no: int) -> Verdict:
    jitter = random.random()  # noqa: S311 - spreads retries, keeps no secret
    match outcome:
        case Submitted(reference):
            return Verdict("submitted", reference=reference)
        case Refused(code, detail, permanent=True):
            return Verdict("refused_perm", error=code, detail=detail)
        case Refused(code, detail):
            retry = backoff_seconds(min(attempt_no, ATTEMPTS_MAX), jitter)
            return Verdict("refused_temp", error=code, detail=detail, retry_seconds=retry)
        case Throttled(retry_after_seconds):
            wait = min(retry_after_seconds or 1.0, RETRY_AFTER_MAX_SECONDS)
            return Verdict("throttled", error="throttled", retry_seconds=wait * (1 + jitter))
        case Uncertain(detail):
            return Verdict(
                "uncertain", error="outcome_unknown", detail=detail, retry_seconds=UNCERTAIN_AGAIN_SECONDS
            )
