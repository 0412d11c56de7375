"""Accepting messages: quote, seal, one group commit, answer, publish (DESIGN 2).

The answer is given when the commit is durable. Publishing comes after it, never before, and nobody
waits for it: what is not published is dispatched by the clockwork when its lease ends.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import structlog

from api import store
from api.counted import HOLDS, count_flush
from api.faults import is_away
from api.first_answers import FirstAnswers, Turned
from api.orders import Orders, Sending
from api.problems import Refusal
from api.publish import AWAY_LEASE_SECONDS, Publisher
from api.quote import Quote
from api.schemas import Available, MessageAccepted, MessageRequest, Money, time_text
from api.store import PUBLISH_LEASE_SECONDS, AcceptAnswer, AcceptItem
from shared.domain.money import format_micros
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Batcher, Busy, DeadlinePassed
from shared.runtime.crash_points import crash_point
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable

# One flush: enough to carry a flood, small enough that its locks are held for milliseconds.
FLUSH_MAX: Final = 500
# A second or two of the greatest flood; beyond it waiting is worse than being told to come back.
QUEUE_MAX: Final = 5_000
# While one flush commits the next one is on its way when it is as large: so both halves of a crowd take
# turns, and the database works while answers are written. Fewer are not worth a second round trip.
FLUSHES_IN_FLIGHT: Final = 2
GATHER_MIN: Final = 24
# Longer than the database's own deadline, so that its word comes first.
ANSWER_DEADLINE_SECONDS: Final = 12.0
ROUTE_ONE: Final = "/v1/messages"
ROUTE_BATCH: Final = "/v1/messages/batch"

# What was accepted before, by its id; or why that could not be read, for each whose answer it is.
Known: TypeAlias = Mapping[UUID, store.Accepted] | Exception

_log = structlog.get_logger(__name__)


class Decision(NamedTuple):
    """An accepted message; ``is_replay`` when an earlier request with this key had it accepted."""

    answer: MessageAccepted
    is_replay: bool


class Accept(WithParts):
    """The use case behind POST /v1/messages and /v1/messages/batch. An open async context."""

    def __init__(self, pool: Pool, orders: Orders, publisher: Publisher) -> None:
        self._pool = pool
        self._orders = orders
        self._publisher = publisher
        self._first_answers = FirstAnswers(pool)
        self._batcher: Batcher[AcceptItem, AcceptAnswer] = Batcher(
            self._flush,
            name="accept",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            gather_min=GATHER_MIN,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._batcher, self._first_answers]

    async def one(self, sending: Sending, request: MessageRequest) -> Decision:
        """Accept one message.

        Raises:
            Refusal: why it was not accepted, or that the outcome is not known.
        """
        try:
            item, quoted = self._orders.item(sending, request, ROUTE_ONE, 0)
        except Refusal as refusal:
            (answer,) = await self._first_answers.of(sending, ROUTE_ONE, [Turned(0, request, refusal)])
            if isinstance(answer, Refusal):
                raise answer from None
            return _before(answer, await self._known([answer]), sending.client.currency)
        return await self._accept(request, item, quoted)

    async def replay(
        self, sending: Sending, request: MessageRequest, replay_of: UUID, number: int
    ) -> Decision:
        """Accept the ``number``-th replay of a dead letter (RULES 21).

        Raises:
            Refusal: as ``one``.
        """
        return await self._accept(request, *self._orders.replay(sending, request, replay_of, number))

    async def _accept(self, request: MessageRequest, item: AcceptItem, quoted: Quote) -> Decision:
        try:
            answer = await self._batcher.submit(item, deadline_seconds=ANSWER_DEADLINE_SECONDS)
        except Exception as error:
            raise _refusal(error, item.message_id) from error
        known = await self._known([answer]) if answer.outcome == "replayed" else {}
        return _decide(item, quoted, request, answer, known)

    async def many(self, sending: Sending, requests: Sequence[MessageRequest]) -> list[Decision | Refusal]:
        """Accept a batch; each message stands or falls alone, under the key (key, index) (RULES 12).

        Raises:
            Refusal: busy, before any item.
        """
        results: list[Decision | Refusal | None] = [None] * len(requests)
        asked: list[tuple[int, AcceptItem, Quote]] = []
        turned: list[Turned] = []
        for index, request in enumerate(requests):
            try:
                item, quoted = self._orders.item(sending, request, ROUTE_BATCH, index)
            except Refusal as refusal:
                turned.append(Turned(index, request, refusal))
            else:
                asked.append((index, item, quoted))
        answers = await self._submit_each(asked)
        earlier = await self._first_answers.of(sending, ROUTE_BATCH, turned)
        known = await self._known([*answers, *earlier])
        for (index, item, quoted), answer in zip(asked, answers, strict=True):
            try:
                results[index] = _decide(item, quoted, requests[index], answer, known)
            except Exception as error:  # noqa: BLE001 - one item's trouble must not hide that others are accepted
                results[index] = _refusal_of_item(error, item.message_id)
        for one, answer in zip(turned, earlier, strict=True):
            results[one.place] = _repeated(answer, known, sending.client.currency)
        return [result for result in results if result is not None]

    async def _submit_each(
        self, asked: Sequence[tuple[int, AcceptItem, Quote]]
    ) -> Sequence[AcceptAnswer | Exception]:
        try:
            return await self._batcher.submit_each(
                [item for _, item, _ in asked], deadline_seconds=ANSWER_DEADLINE_SECONDS
            )
        except Busy:
            raise Refusal(ProblemCode.BUSY) from None

    async def _flush(self, items: Sequence[AcceptItem]) -> Sequence[AcceptAnswer | Exception]:
        crash_point("accept.before_commit")
        # Asked once: what is leased to us is published from here, and the rest is the clockwork's alone.
        is_leased = self._publisher.can_publish
        answers = await store.accept_batch(
            self._pool,
            items,
            self._publisher.incarnation if is_leased else 0,
            PUBLISH_LEASE_SECONDS if is_leased else AWAY_LEASE_SECONDS,
        )
        self._publisher.publish_later(items, answers, is_leased=is_leased)
        count_flush(items, answers)
        return answers

    async def first_answer(self, message_id: UUID) -> MessageAccepted:
        """Return the answer of a message that was accepted before.

        Raises:
            Refusal: outcome_unknown, when it cannot be read now.
        """
        return _first_answer(message_id, await self._load({message_id}))

    async def _known(self, answers: Sequence[AcceptAnswer | Exception]) -> Known:
        """What these answers say was accepted before, by one query; its error, for each of them to tell."""
        found = [answer for answer in answers if isinstance(answer, AcceptAnswer)]
        return await self._load({answer.message_id for answer in found if answer.outcome == "replayed"})

    async def _load(self, message_ids: Collection[UUID]) -> Known:
        try:
            return await store.load_accepted(self._pool, message_ids)
        except Exception as error:  # noqa: BLE001 - raised again for each that is replayed; the others have answers
            return error


def _decide(
    item: AcceptItem,
    quoted: Quote,
    request: MessageRequest,
    answer: AcceptAnswer | Exception,
    known: Known,
) -> Decision:
    if isinstance(answer, Exception):
        raise answer
    if answer.outcome == "accepted":
        return Decision(_answer(item, request, answer), is_replay=False)
    before = _before(answer, known, quoted.currency)
    # The same call, sent again after a lost connection, finds its own message: that is no replay.
    return before._replace(is_replay=answer.message_id != item.message_id)


def _before(answer: AcceptAnswer, known: Known, currency: str) -> Decision:
    """What was decided earlier under the key."""
    if answer.outcome == "replayed":
        return Decision(_first_answer(answer.message_id, known), is_replay=True)
    if answer.outcome == "mismatch":
        raise Refusal(ProblemCode.IDEMPOTENCY_MISMATCH)
    raise _remembered(answer, currency)


def _first_answer(message_id: UUID, known: Known) -> MessageAccepted:
    """The answer that this message had; one that cannot be read was accepted all the same (RULES 4)."""
    if not isinstance(known, Exception):
        return rebuilt(known[message_id])
    if is_away(known):
        raise Refusal(ProblemCode.OUTCOME_UNKNOWN, message_id=str(message_id)) from known
    raise known


def _repeated(answer: AcceptAnswer | Refusal, known: Known, currency: str) -> Decision | Refusal:
    """The first answer of a batch's item that would be refused now, else that refusal."""
    if isinstance(answer, Refusal):
        return answer
    try:
        return _before(answer, known, currency)
    except Exception as error:  # noqa: BLE001 - as in ``many``
        return _refusal_of_item(error, answer.message_id)


def _answer(item: AcceptItem, request: MessageRequest, answer: AcceptAnswer) -> MessageAccepted:
    return MessageAccepted(
        id=item.message_id,
        status=answer.state,  # type: ignore[arg-type]  # the database's enum has the schema's words
        to=item.msisdn,
        sender=item.sender,
        lane=item.lane,
        encoding=item.encoding,  # type: ignore[arg-type]  # an Encoding's value
        segments=item.segments,
        price=Money(format_micros(item.amount_micros), item.currency),
        balance=Available(format_micros(answer.available_micros or 0), item.currency),
        client_ref=request.client_ref,
        created_at=time_text(answer.created_at),
    )


def rebuilt(stored: store.Accepted) -> MessageAccepted:
    """Return the first answer of an accepted message, from what is stored (RULES 10)."""
    return MessageAccepted(
        id=stored.message_id,
        status=stored.state,  # type: ignore[arg-type]  # written by accept
        to=stored.msisdn,
        sender=stored.sender,
        lane=stored.lane,  # type: ignore[arg-type]  # written by accept
        encoding=stored.encoding,  # type: ignore[arg-type]  # written by accept
        segments=stored.segments,
        price=Money(format_micros(stored.price_micros), stored.currency),
        balance=Available(format_micros(stored.available_micros or 0), stored.currency),
        client_ref=stored.client_ref,
        created_at=time_text(stored.created_at),
    )


def _remembered(answer: AcceptAnswer, currency: str) -> Refusal:
    """The refusal that was decided in the flush, or stands under the key since then."""
    arguments: dict[str, Any] = dict(answer.args or {})
    for name, micros_name in (
        ("price", "price_micros"),
        ("available", "available_micros"),
        ("max_price", "max_price_micros"),
    ):
        micros = arguments.pop(micros_name, None)
        if micros is not None:
            arguments[name] = format_micros(micros)
    return Refusal(ProblemCode(answer.problem or ProblemCode.INTERNAL_ERROR), currency=currency, **arguments)


def _refusal_of_item(error: Exception, message_id: UUID) -> Refusal:
    """What stands under an item's index in a batch: the others have answers of their own (RULES 12)."""
    answer = _refusal(error, message_id)
    if isinstance(answer, Refusal):
        return answer
    _log.error("item of a batch failed", message_id=str(message_id), error=repr(error))
    detail = "An unexpected error was recorded under the message's id. Send it again under the same key."
    return Refusal(ProblemCode.INTERNAL_ERROR, detail=detail, message_id=str(message_id))


def _refusal(error: Exception, message_id: UUID) -> Exception:
    """What the client hears of a flush that failed: "not accepted" only when it is certain (RULES 4)."""
    if isinstance(error, Busy) or (isinstance(error, DeadlinePassed) and not error.was_flushed):
        HOLDS.labels("busy").inc()
        return Refusal(ProblemCode.BUSY)
    if not isinstance(error, Refusal):
        HOLDS.labels("error").inc()
    if isinstance(error, OutcomeUnknown) and not error.was_sent:
        return Refusal(ProblemCode.UNAVAILABLE)
    if isinstance(error, OutcomeUnknown | DeadlinePassed):
        return Refusal(ProblemCode.OUTCOME_UNKNOWN, message_id=str(message_id))
    return error
