"""The HTTP carrier: JSON out, JSON in, by the mapping in its settings; single submits or bulks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from types import TracebackType
from typing import Self

import msgspec

from shared.domain.body_template import compile_template
from shared.domain.carrier_headers import fill_headers
from shared.domain.carrier_secrets import named_secret
from shared.domain.dotted_path import look_up, reader
from shared.domain.http_settings import BulkSettings, HttpSettings
from shared.domain.receipt_fields import plain_text
from shared.runtime.clock import running_seconds
from worker.carriers.base import (
    AWAY,
    BUSY,
    FREELY,
    GIVEN_BACK,
    TOO_LATE,
    Handover,
    Outcome,
    Refused,
    Submission,
    Submitted,
    Uncertain,
)
from worker.carriers.http_exchange import HttpExchange, Lost, NotSent, Turn
from worker.carriers.verdicts import Answer, compile_judge, retry_after_seconds

_STATUS_MIN, _STATUS_MAX = 100, 999


class HttpCarrier:
    """A carrier that takes a JSON POST. Enter it to open its connections."""

    def __init__(self, name: str, settings: HttpSettings, secret: bytes | None) -> None:
        """Take the settings of the row, and what its sealed secret opened to.

        Raises:
            ValueError: a header or the body asks for a secret that there is not; a header cannot be sent.
        """
        self.name = name
        self._settings = settings
        self._fill = compile_template(settings.body, partial(named_secret, secret))
        self._judge = compile_judge(settings)
        bulk = settings.bulk
        self._read_status = reader(bulk.status) if bulk and bulk.status is not None else None
        self._read_wait = reader(bulk.retry_after) if bulk and bulk.retry_after is not None else None
        self._exchange = HttpExchange(name, settings, fill_headers(settings.headers, secret))

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, object], secret: bytes | None) -> Self:
        """Make the carrier of a row; ValueError names the setting that is wrong."""
        return cls(name, msgspec.convert(settings, HttpSettings), secret)

    async def __aenter__(self) -> Self:
        """Make ready; connections open with the first submit."""
        await self._exchange.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._exchange.__aexit__(kind, error, trace)

    @property
    def at_once_max(self) -> int:
        """How many messages it can have unanswered: a bulk on each connection, or one message."""
        return self._settings.connections_max * self._batch_max

    @property
    def _batch_max(self) -> int:
        return self._settings.bulk.batch_max if self._settings.bulk else 1

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        """Submit all, and answer for each position (see Carrier)."""
        size = self._batch_max
        groups = [submissions[begin : begin + size] for begin in range(0, len(submissions), size)]
        answered = await asyncio.gather(*(self._submit_group(group, handover) for group in groups))
        return [outcome for outcomes in answered for outcome in outcomes]

    def turn_away(self) -> None:
        """Answer at once for what waits to be written and is refused by its handover."""
        self._exchange.turn_away()

    async def _submit_group(self, group: Sequence[Submission], handover: Handover) -> list[Outcome]:
        if self._settings.bulk is None or len(group) <= 1:
            return [await self._submit_one(submission, handover) for submission in group]
        return await self._submit_bulk(self._settings.bulk, group, handover)

    async def _submit_one(self, submission: Submission, handover: Handover) -> Outcome:
        outcome = await self._ask_for(submission, handover)
        handover.answered([submission], [outcome])
        return outcome

    async def _ask_for(self, submission: Submission, handover: Handover) -> Outcome:
        def turn(waited_seconds: float) -> Turn:
            one = submission.later(waited_seconds)
            return Turn(msgspec.json.encode(self._fill(one)), one.write_within_seconds, one.half_seconds)

        came = await self._exchange.post(
            self._settings.url,
            turn,
            submission.asked_at,
            submission.write_within_seconds,
            submission.deadline_seconds,
            handover,
        )
        if isinstance(came, Answer):
            return self._judge(came, submission.message_id)
        return _unanswered(came, submission.later(running_seconds() - submission.asked_at))

    async def _submit_bulk(
        self, bulk: BulkSettings, group: Sequence[Submission], handover: Handover
    ) -> list[Outcome]:
        """Submit those that may still be written when the bulk's turn has come; the others hold up nobody."""
        asked_at = group[0].asked_at  # they were claimed together
        going = [True] * len(group)

        def turn(waited_seconds: float) -> Turn:
            nonlocal going
            waited = [submission.later(waited_seconds) for submission in group]
            going = [submission.write_within_seconds > 0 for submission in waited]
            goers = list(compress(waited, going))
            items = [self._fill(submission) for submission in goers]
            return Turn(
                msgspec.json.encode(items if bulk.items is None else {bulk.items: items}),
                min([one.write_within_seconds for one in goers], default=0.0),
                min([one.half_seconds for one in goers], default=0.0),
            )

        deadline_seconds = min([submission.deadline_seconds for submission in group])
        wait_seconds = max([submission.write_within_seconds for submission in group])
        came = await self._exchange.post(bulk.url, turn, asked_at, wait_seconds, deadline_seconds, handover)
        gone_seconds = running_seconds() - asked_at
        if isinstance(came, NotSent) and came.code == BUSY:
            # One's validity may have ended while the connection was made: the others ask once more.
            now = [submission.later(gone_seconds) for submission in group]
            going = [submission.write_within_seconds > 0 for submission in now]
            answered = await self._submit_group(list(compress(now, going)), handover)
        else:
            asked = [one.later(gone_seconds) for one in compress(group, going)]
            answered = await self._judge_bulk(bulk, came, asked, handover)
        late = [one.later(gone_seconds) for one, goes in zip(group, going, strict=True) if not goes]
        left_out = [_left_out(one) for one in late]
        if late:
            handover.answered(late, left_out)
        outcomes, others = iter(answered), iter(left_out)
        return [next(outcomes if goes else others) for goes in going]

    async def _judge_bulk(
        self,
        bulk: BulkSettings,
        came: Answer | NotSent | Lost | Refused,
        group: Sequence[Submission],
        handover: Handover,
    ) -> list[Outcome]:
        """Return what a bulk's answer means for each of the group, as it is by now; tell the handover."""
        outcomes = self._outcomes(bulk, came, group)
        if isinstance(outcomes, Refused):
            # The whole was refused for the fault of one: nothing was taken, so ask for each alone.
            alone = (self._submit_alone(one, outcomes, handover) for one in group)
            return list(await asyncio.gather(*alone))
        handover.answered(group, outcomes)
        return outcomes

    def _outcomes(
        self, bulk: BulkSettings, came: Answer | NotSent | Lost | Refused, group: Sequence[Submission]
    ) -> list[Outcome] | Refused:
        """Return the outcome at each position, or that of the whole when it was refused for good."""
        if not isinstance(came, Answer):
            return [_unanswered(came, submission) for submission in group]
        answers = look_up(came.document, bulk.answers)
        if isinstance(answers, list) and len(answers) == len(group):
            pairs = zip(group, answers, strict=True)
            return [self._judge_position(came, answer, submission) for submission, answer in pairs]
        outcome = self._judge(came, group[0].message_id)
        if isinstance(outcome, Refused) and outcome.permanent:
            return outcome
        return [_of_the_whole(outcome)] * len(group)

    async def _submit_alone(
        self, submission: Submission, of_the_whole: Refused, handover: Handover
    ) -> Outcome:
        """Submit one of a bulk that was refused as a whole; too late for that, the refusal stands for now."""
        outcome = await self._ask_for(submission, handover)
        if isinstance(outcome, Refused) and outcome.is_busy and outcome not in (AWAY, GIVEN_BACK):
            outcome = replace(of_the_whole, permanent=False)
        handover.answered([submission], [outcome])
        return outcome

    def _judge_position(self, whole: Answer, answer: object, submission: Submission) -> Outcome:
        if not isinstance(answer, dict):
            return Uncertain("the carrier's list of answers has none at this position")
        status: int | None = whole.status
        if self._read_status is not None:
            status = _status(self._read_status(answer), whole.status)
        if status is None:
            return Uncertain("the carrier's answer at this position has a status that is no HTTP status")
        wait = None if self._read_wait is None else self._read_wait(answer)
        wait_seconds = None if wait is None else retry_after_seconds(wait, datetime.now(UTC))
        return self._judge(Answer(status, answer, wait_seconds), submission.message_id)


def _unanswered(came: NotSent | Lost | Refused, submission: Submission) -> Outcome:
    """Return what that means for a submission, as it is by now."""
    if isinstance(came, Lost):
        return Uncertain(came.why)
    if came.code == BUSY and submission.is_over:
        return TOO_LATE
    if isinstance(came, Refused):
        return came
    return Refused(came.code, came.why, permanent=False, is_ours=True)


def _left_out(submission: Submission) -> Outcome:
    return _unanswered(NotSent(BUSY, "it was too late to write it"), submission)


def _of_the_whole(outcome: Outcome) -> Outcome:
    """Return what the answer to a bulk means for each position, when it has no list of answers."""
    if isinstance(outcome, Submitted):
        return Uncertain("the carrier answered the bulk without an answer for each position")
    return outcome


def _status(value: object | None, of_the_whole: int) -> int | None:
    if value is None:
        return of_the_whole
    if type(value) is int:
        return value if _STATUS_MIN <= value <= _STATUS_MAX else None
    text = plain_text(value) or ""
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else None
