"""Accepting messages: quote, seal, one group commit, answer, publish (DESIGN 2).

The answer is given when the commit is durable. Publishing comes after it, never before, and nobody
waits for it: what is not published is dispatched by the clockwork when its lease ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from api import store
from api.counted import count_flush
from api.decisions import (
    Decision,
    Known,
    before,
    decide,
    first_answer,
    refusal_of,
    refusal_of_item,
    repeated,
)
from api.first_answers import FirstAnswers, Turned
from api.orders import Orders, Sending
from api.problems import Refusal
from api.publish import AWAY_LEASE_SECONDS, Publisher
from api.quote import Quote
from api.schemas import MessageAccepted, MessageRequest
from api.store import PUBLISH_LEASE_SECONDS, AcceptAnswer, AcceptItem
from api.turns import TURNS_MAX, Turns
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.crash_points import crash_point
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool, is_bisectable, is_retryable

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
# So many of a batch at once; between them others have their turn.
PIECE_MAX: Final = FLUSH_MAX
# A batch as small as this is as single messages, and waits for no turn.
FEW_MAX: Final = 20
# A piece that has no turn by then is answered "busy". With the deadline of the last one it is 18 s in all.
TURN_WAIT_SECONDS: Final = 6.0
# Making an item takes some 25 µs; whoever makes many lets everybody else go on after so many.
MADE_AT_ONCE: Final = 50
ROUTE_ONE: Final = "/v1/messages"
ROUTE_BATCH: Final = "/v1/messages/batch"


LookAgain: TypeAlias = Callable[[], Awaitable[None]]


class _Made(NamedTuple):
    """A piece of a batch: what is asked of the database, and what would be refused now."""

    asked: list[tuple[int, AcceptItem, Quote]]
    turned: list[Turned]


class Accept(WithParts):
    """The use case behind POST /v1/messages and /v1/messages/batch. An open async context."""

    def __init__(self, pool: Pool, orders: Orders, publisher: Publisher) -> None:
        self._pool = pool
        self._orders = orders
        self._publisher = publisher
        self._first_answers = FirstAnswers(pool)
        self._turns = Turns()
        self._singles = self._batcher("accept", concurrency=FLUSHES_IN_FLIGHT, gather_min=GATHER_MIN)
        # Pieces of batches, one for each turn: no single message stands behind them or in a flush with them.
        self._pieces = self._batcher("accept_batches", concurrency=TURNS_MAX, gather_min=1)

    def _batcher(self, name: str, *, concurrency: int, gather_min: int) -> Batcher[AcceptItem, AcceptAnswer]:
        return Batcher(
            self._flush,
            name=name,
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=concurrency,
            gather_min=gather_min,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._singles, self._pieces, self._first_answers]

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
            return before(answer, await self._known([answer]), sending.client.currency)
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
            answer = await self._door(item.account_id).submit(item, deadline_seconds=ANSWER_DEADLINE_SECONDS)
        except Exception as error:
            raise refusal_of(error, item.message_id) from error
        known = await self._known([answer]) if answer.outcome == "replayed" else {}
        return decide(item, quoted, request, answer, known)

    async def many(
        self, sending: Sending, requests: Sequence[MessageRequest], look_again: LookAgain | None = None
    ) -> list[Decision | Refusal]:
        """Accept a batch; each message stands or falls alone, under the key (key, index) (RULES 12).

        ``look_again`` is called after each wait for a turn; the refusal that it raises is the answer for all
        that have had none by then.

        Raises:
            Refusal: busy, or that of ``look_again``, before any item.
        """
        try:
            if len(requests) <= FEW_MAX:
                return await self._piece(sending, requests, 0, self._door(sending.client.id))
            with self._turns.place(sending.client.id):
                return await self._in_turns(sending, requests, look_again)
        except Busy:
            raise Refusal(ProblemCode.BUSY) from None

    def _door(self, client_id: int) -> Batcher[AcceptItem, AcceptAnswer]:
        """The batcher for a message that waits for no turn.

        Where a piece of the same client may have the account locked it goes beside the pieces: in a flush
        with others it would make them wait for that lock, too.
        """
        return self._pieces if self._turns.has_turn(client_id) else self._singles

    async def _in_turns(
        self, sending: Sending, requests: Sequence[MessageRequest], look_again: LookAgain | None
    ) -> list[Decision | Refusal]:
        results: list[Decision | Refusal] = []
        give_up_at = time.monotonic() + TURN_WAIT_SECONDS
        while len(results) < len(requests):
            first = len(results)
            try:
                wait_seconds = give_up_at - time.monotonic()
                async with self._turns.turn(sending.client.id, wait_seconds=wait_seconds, is_begun=first > 0):
                    results += await self._next_piece(sending, requests, first, look_again)
            except (Busy, Refusal) as error:
                if first == 0:
                    raise
                rest = error if isinstance(error, Refusal) else Refusal(ProblemCode.BUSY)
                results += [rest] * (len(requests) - first)
        return results

    async def _next_piece(
        self,
        sending: Sending,
        requests: Sequence[MessageRequest],
        first: int,
        look_again: LookAgain | None,
    ) -> list[Decision | Refusal]:
        if look_again is not None:
            await look_again()
        return await self._piece(sending, requests[first : first + PIECE_MAX], first, self._pieces)

    async def _piece(
        self,
        sending: Sending,
        requests: Sequence[MessageRequest],
        first: int,
        batcher: Batcher[AcceptItem, AcceptAnswer],
    ) -> list[Decision | Refusal]:
        """Accept the messages of a batch from its ``first`` on; ``Busy``: none of them."""
        asked, turned = await self._made(sending, requests, first)
        items = [item for _, item, _ in asked]
        answers = await batcher.submit_each(items, deadline_seconds=ANSWER_DEADLINE_SECONDS)
        earlier = await self._first_answers.of(sending, ROUTE_BATCH, turned)
        known = await self._known([*answers, *earlier])
        results: dict[int, Decision | Refusal] = {}
        for (place, item, quoted), answer in zip(asked, answers, strict=True):
            try:
                results[place] = decide(item, quoted, requests[place - first], answer, known)
            except Exception as error:  # noqa: BLE001 - one item's trouble must not hide that others are accepted
                results[place] = refusal_of_item(error, item.message_id)
        for one, answer in zip(turned, earlier, strict=True):
            results[one.place] = repeated(answer, known, sending.client.currency)
        return [results[place] for place in sorted(results)]

    async def _made(self, sending: Sending, requests: Sequence[MessageRequest], first: int) -> _Made:
        made = _Made([], [])
        for place, request in enumerate(requests, first):
            if (place - first) % MADE_AT_ONCE == MADE_AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                item, quoted = self._orders.item(sending, request, ROUTE_BATCH, place)
            except Refusal as refusal:
                made.turned.append(Turned(place, request, refusal))
            else:
                made.asked.append((place, item, quoted))
        return made

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
        return first_answer(message_id, await self._load({message_id}))

    async def _known(self, answers: Sequence[AcceptAnswer | Exception]) -> Known:
        """What these answers say was accepted before, by one query; its error, for each of them to tell."""
        found = [answer for answer in answers if isinstance(answer, AcceptAnswer)]
        return await self._load({answer.message_id for answer in found if answer.outcome == "replayed"})

    async def _load(self, message_ids: Collection[UUID]) -> Known:
        try:
            return await store.load_accepted(self._pool, message_ids)
        except Exception as error:  # noqa: BLE001 - raised again for each that is replayed; the others have answers
            return error
