"""Sends the batches of a run: several at once, each until it is answered for good, each answer remembered."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from api.problems import FieldError, Problem
from api.schemas import BatchAnswer, BatchResult
from cli.api_client import NOTHING_DONE, PERHAPS_DONE, Api
from cli.csv_messages import CsvMessage
from cli.failures import Failure, Refused
from cli.send_batches import PROBES, SendBatch, batch_key, client_ref
from cli.send_progress import Accepted, Done, Progress, Rejected
from shared.domain.money import parse_micros

BATCH_PATH: Final = "/v1/messages/batch"
# While one batch commits the next is on its way; more would only wait in the API's queue.
CONCURRENCY: Final = 4
# A restart of the API or a failover of its database takes seconds; a longer absence is for a person.
PATIENCE_SECONDS: Final = 600.0
# Items that could not be decided, of a batch that was otherwise answered.
ITEM_PAUSE_SECONDS: Final = 1.0
MISMATCH: Final = "idempotency_mismatch"

UNDECIDED: Final = NOTHING_DONE | PERHAPS_DONE
# What an item of a batch may be refused for that says nothing of the item.
OF_THE_SENDER: Final = frozenset({"unauthorized", "forbidden", "address_not_allowed", "client_suspended"})

OnDone = Callable[[Done], None]


class Sender:
    """Sends what a run still lacks.

    Args:
        api: patient for ``PATIENCE_SECONDS``.
        progress: open; it knows which batches are done.
        options: fields that every message gets beside its own.
        batch_size: what the batches were cut to.
        on_done: hears of every batch that is answered.
    """

    def __init__(
        self, api: Api, progress: Progress, options: Mapping[str, Any], batch_size: int, on_done: OnDone
    ) -> None:
        self._api = api
        self._progress = progress
        self._run = progress.run.run
        self._options = dict(options)
        self._batch_size = batch_size
        self._on_done = on_done

    async def send(self, batches: Sequence[SendBatch]) -> None:
        """Send every batch that is not done yet: the probes one by one, then ``CONCURRENCY`` at a time.

        After a failure no further batch begins; those in flight are finished first.

        Raises:
            Failure, OSError: the first that came; what was answered until then is remembered.
        """
        missing = [batch for batch in batches if batch.index not in self._progress.done]
        for probe in (batch for batch in missing if batch.index < PROBES):
            await self._send_one(probe)
        waiting = iter([batch for batch in missing if batch.index >= PROBES])
        failures: list[Failure | OSError] = []
        await asyncio.gather(*(self._send_each(waiting, failures) for _ in range(CONCURRENCY)))
        if failures:
            raise failures[0]

    async def _send_each(self, waiting: Iterator[SendBatch], failures: list[Failure | OSError]) -> None:
        for batch in waiting:
            try:
                await self._send_one(batch)
            except (Failure, OSError) as failure:
                failures.append(failure)
            if failures:
                return

    async def _send_one(self, batch: SendBatch) -> None:
        was_asked = batch.index in self._progress.asked_at_ms
        self._progress.ask(batch.index, time.time_ns() // 1_000_000)
        try:
            done = read_answer(batch, await self._answered(batch))
        except Failure as failure:
            if not failure.may_be_done and not was_asked:
                self._progress.withdraw(batch.index)
            raise
        self._progress.finish(done)
        self._on_done(done)

    async def _answered(self, batch: SendBatch) -> BatchAnswer:
        """Return the answer once every item of it is decided."""
        body = {"messages": [self._message(row) for row in batch.messages]}
        key = batch_key(self._run, batch.index)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        is_answered_in_part = False
        while True:
            try:
                raw = await self._api.request("POST", BATCH_PATH, body, idempotency_key=key)
                answer = raw.read(BatchAnswer)
            except Failure as failure:
                # What an earlier answer accepted stands, whatever becomes of the request for the rest.
                failure.may_be_done |= is_answered_in_part
                if isinstance(failure, Refused):
                    _name_options(failure, self._options)
                raise
            problems = list(_problems(answer))
            if of_us := next((problem for problem in problems if problem.code in OF_THE_SENDER), None):
                # Shut out between two parts of the batch: the rest of it comes again later.
                shut_out = Refused(of_us)
                shut_out.may_be_done = True
                raise shut_out
            undecided = [problem for problem in problems if problem.code in UNDECIDED]
            if not undecided:
                return answer
            if time.monotonic() > give_up_at:
                late = Refused(undecided[0], what=f"{len(undecided)} messages of a batch")
                late.may_be_done = late.is_passing = True
                raise late
            is_answered_in_part = True
            await asyncio.sleep(ITEM_PAUSE_SECONDS + random.random())  # noqa: S311 - spreads load

    def _message(self, row: CsvMessage) -> dict[str, Any]:
        own = {
            "to": row.to,
            "text": row.text,
            "client_ref": client_ref(self._run, self._batch_size, row.line),
        }
        return self._options | own


def _name_options(refused: Refused, options: Mapping[str, Any]) -> None:
    """Tell the faults of options, which every message of a batch has, once and not for each message."""
    faults = [FieldError(fault.field.partition("].")[2], fault.detail) for fault in refused.fields()]
    if faults and all(fault.field in options for fault in faults):
        once = list(dict.fromkeys(faults))
        refused.detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in once)
        refused.problem = msgspec.structs.replace(refused.problem, detail=refused.detail, errors=once)


def _problems(answer: BatchAnswer) -> Iterator[Problem]:
    for result in answer.results:
        if result.problem is not UNSET:
            yield result.problem


def read_answer(batch: SendBatch, answer: BatchAnswer) -> Done:
    """Return what a batch's answer says about each row.

    Raises:
        Failure: the keys stand for other messages, or an item has no answer.
    """
    if {result.index for result in answer.results} != set(range(len(batch.messages))):
        raise _not_understood("It does not answer each message once.")
    accepted, rejected = [], []
    for result in answer.results:
        place = batch.first + result.index
        if result.problem is UNSET:
            accepted.append(_accepted(place, result))
        elif result.problem.code == MISMATCH:
            failure = _other_messages(batch.messages[result.index].line)
            failure.may_be_done = len(batch.messages) > 1
            raise failure
        else:
            rejected.append(
                Rejected(place, result.problem.code.value, result.problem.title, result.problem.detail)
            )
    return Done(batch.index, accepted, rejected)


def _accepted(place: int, result: BatchResult) -> Accepted:
    message = result.message
    if message is UNSET:
        raise _not_understood("A message is neither accepted nor refused.")
    return Accepted(
        place, str(message.id), message.segments, parse_micros(message.price.amount), result.replayed is True
    )


def _not_understood(detail: str) -> Failure:
    failure = Failure("The API's answer is not understood.", detail=detail)
    failure.may_be_done = True
    return failure


def _other_messages(line: int) -> Failure:
    return Failure(
        "This file was begun in another way, so it is not gone on with.",
        detail=f"Under the idempotency key of line {line} another message was sent in the last 72 hours: "
        "with another --batch-size or other options, from another machine or another home.",
        hint="Use the options of then to go on, or --run NAME to send the whole file once more.",
    )
