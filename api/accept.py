"""Accepting messages: quote, seal, one group commit, answer, publish (DESIGN 2).

The answer is given when the commit is durable. Publishing comes after it, never before, and nobody
waits for it: what is not published is dispatched by the clockwork when its lease ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from api import store
from api.callers import Client
from api.problems import Refusal, invalid_field
from api.publish import Publisher
from api.quote import Prices, Quote, quote
from api.schemas import SEND_AT_MAX_DAYS, Available, MessageAccepted, MessageRequest, Money, time_text
from api.store import AcceptAnswer, AcceptItem
from shared.domain.fingerprint import fingerprint
from shared.domain.money import MoneyFormatError, format_micros, parse_micros
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Batcher, Busy, DeadlinePassed
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.config import ConfigWatch

# One flush: enough to carry a flood, small enough that its locks are held for milliseconds.
FLUSH_MAX: Final = 500
# A second or two of the greatest flood; beyond it waiting is worse than being told to come back.
QUEUE_MAX: Final = 5_000
# While one flush commits the next one is already on its way to the server.
FLUSHES_IN_FLIGHT: Final = 2
# Longer than the database's own deadline, so that its word comes first.
ANSWER_DEADLINE_SECONDS: Final = 12.0
VALID_FOR_DEFAULT_SECONDS: Final = 172_800
ROUTE_ONE: Final = "/v1/messages"
ROUTE_BATCH: Final = "/v1/messages/batch"


@dataclass(frozen=True, slots=True)
class Sending:
    """Who sends, and under which idempotency key."""

    client: Client
    is_test: bool
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """An accepted message; ``is_replay`` when an earlier request with this key had it accepted."""

    answer: MessageAccepted
    is_replay: bool


class Accept:
    """The use case behind POST /v1/messages and /v1/messages/batch. An open async context."""

    def __init__(
        self, pool: Pool, prices: ConfigWatch[Prices], keyring: Keyring, clock: Clock, publisher: Publisher
    ) -> None:
        self._pool = pool
        self._prices = prices
        self._keyring = keyring
        self._clock = clock
        self._publisher = publisher
        self._batcher: Batcher[AcceptItem, AcceptAnswer] = Batcher(
            self._flush,
            name="accept",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    async def __aenter__(self) -> "Accept":
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exit_: Any) -> None:
        await self._batcher.__aexit__(*exit_)

    async def one(self, sending: Sending, request: MessageRequest) -> Decision:
        """Accept one message.

        Raises:
            Refusal: why it was not accepted, or that the outcome is not known.
        """
        item, quoted = self._item(sending, request, ROUTE_ONE, 0)
        try:
            answer = await self._batcher.submit(item, deadline_seconds=ANSWER_DEADLINE_SECONDS)
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer; bugs are raised again
            raise _refusal(error, item.message_id) from error
        return await self._decide(item, quoted, request, answer)

    async def many(
        self, sending: Sending, requests: Sequence[MessageRequest], *, first_index: int = 0
    ) -> list[Decision | Refusal]:
        """Accept a batch; each message stands or falls alone, under the key (key, index) (RULES 12).

        Raises:
            Refusal: busy, before any item.
        """
        results: list[Decision | Refusal | None] = [None] * len(requests)
        asked: list[tuple[int, AcceptItem, Quote]] = []
        for index, request in enumerate(requests):
            try:
                item, quoted = self._item(sending, request, ROUTE_BATCH, first_index + index)
            except Refusal as refusal:
                results[index] = refusal
            else:
                asked.append((index, item, quoted))
        for (index, item, quoted), answer in zip(asked, await self._submit_each(asked), strict=True):
            if isinstance(answer, Exception):
                results[index] = _refusal(answer, item.message_id)
                continue
            try:
                results[index] = await self._decide(item, quoted, requests[index], answer)
            except Refusal as refusal:
                results[index] = refusal
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

    def _item(
        self, sending: Sending, request: MessageRequest, route: str, index: int
    ) -> tuple[AcceptItem, Quote]:
        client = sending.client
        quoted = quote(
            self._prices.current, client, request.to, request.text, request.sender, is_test=sending.is_test
        )
        message_id = self._clock.new_uuid7()
        lane = request.lane or "normal"
        blocked = quoted.blocked or _blocked_callback(client, request.callback_url)
        item = AcceptItem(
            account_id=client.id,
            message_id=message_id,
            key=sending.idempotency_key,
            item=index,
            fingerprint=_fingerprint(route, request),
            refusal=blocked.code.value if blocked else None,
            refusal_args={name: str(value) for name, value in blocked.arguments.items()} if blocked else None,
            amount_micros=quoted.amount_micros,
            max_price_micros=_max_price(request.max_price),
            msisdn=quoted.msisdn.e164,
            region=quoted.msisdn.region,
            sender=quoted.sender,
            lane=lane,
            encoding=quoted.segmented.encoding.value,
            segments=quoted.segmented.count,
            currency=quoted.currency,
            rate_version=quoted.rate_version,
            client_ref=_storable(request.client_ref, "client_ref"),
            delivery=request.delivery or ("at_least_once" if lane == "express" else "at_most_once"),
            charge=client.charge,
            send_at=self._send_at(request.send_at),
            valid_seconds=request.valid_for_seconds or VALID_FOR_DEFAULT_SECONDS,
            callback_url=request.callback_url,
            is_test=sending.is_test,
            text_sealed=self._keyring.seal(request.text.encode(), message_id.bytes),
            text_days=client.text_retention_days,
            carrier_id=quoted.carrier.id,
            parts=quoted.parts,
            replay_of=None,
        )
        return item, quoted

    def _send_at(self, send_at: datetime | None) -> datetime | None:
        if send_at is None:
            return None
        latest = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC) + timedelta(days=SEND_AT_MAX_DAYS)
        if send_at > latest:
            raise invalid_field("send_at", f"must be at most {SEND_AT_MAX_DAYS} days ahead")
        return send_at

    async def _flush(self, items: Sequence[AcceptItem]) -> Sequence[AcceptAnswer | Exception]:
        crash_point("accept.before_commit")
        answers = await store.accept_batch(
            self._pool, items, self._publisher.incarnation, self._publisher.lease_seconds
        )
        self._publisher.publish_later(items, answers)
        return answers

    async def _decide(
        self, item: AcceptItem, quoted: Quote, request: MessageRequest, answer: AcceptAnswer
    ) -> Decision:
        if answer.outcome == "accepted":
            return Decision(_answer(item, request, answer), is_replay=False)
        if answer.outcome == "replayed":
            loaded = await store.load_accepted(self._pool, [answer.message_id])
            # The same call, sent again after a lost connection, finds its own message: that is no replay.
            return Decision(
                _rebuilt(loaded[answer.message_id]), is_replay=answer.message_id != item.message_id
            )
        if answer.outcome == "mismatch":
            raise Refusal(ProblemCode.IDEMPOTENCY_MISMATCH)
        raise _remembered(answer, quoted.currency)


def _answer(item: AcceptItem, request: MessageRequest, answer: AcceptAnswer) -> MessageAccepted:
    return MessageAccepted(
        id=item.message_id,
        status=answer.state,  # type: ignore[arg-type]  # the database's enum has the schema's words
        to=item.msisdn,
        sender=item.sender,
        lane=item.lane,  # type: ignore[arg-type]  # checked when the request was read
        encoding=item.encoding,  # type: ignore[arg-type]  # an Encoding's value
        segments=item.segments,
        price=Money(format_micros(item.amount_micros), item.currency),
        balance=Available(format_micros(answer.available_micros or 0), item.currency),
        client_ref=request.client_ref,
        created_at=time_text(answer.created_at),
    )


def _rebuilt(stored: store.Accepted) -> MessageAccepted:
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


def _refusal(error: Exception, message_id: UUID) -> Exception:
    """What the client hears of a flush that failed; "not accepted" is said only when it is certain (RULES 4)."""
    if isinstance(error, DeadlinePassed) and not error.was_flushed or isinstance(error, Busy):
        return Refusal(ProblemCode.BUSY)
    if isinstance(error, OutcomeUnknown) and not error.was_sent:
        return Refusal(ProblemCode.UNAVAILABLE)
    if isinstance(error, OutcomeUnknown | DeadlinePassed):
        return Refusal(ProblemCode.OUTCOME_UNKNOWN, message_id=str(message_id))
    return error


def _blocked_callback(client: Client, url: str | None) -> Refusal | None:
    if url is None:
        return None
    host = url.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1].rsplit(":", 1)[0].lower()
    return None if host in client.allowed_callback_hosts else Refusal(ProblemCode.CALLBACK_NOT_ALLOWED)


def _max_price(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_micros(text)
    except MoneyFormatError as error:
        raise invalid_field("max_price", str(error)) from None


def _storable(text: str | None, field: str) -> str | None:
    """Refuse what PostgreSQL cannot store, before one client's text can fail a whole flush (RULES 8)."""
    if text is not None and ("\0" in text or any("\ud800" <= character <= "\udfff" for character in text)):
        raise invalid_field(field, "must not hold NUL or unpaired surrogates")
    return text


def _fingerprint(route: str, request: MessageRequest) -> bytes:
    send_at = request.send_at.astimezone(UTC).isoformat() if request.send_at else None
    return fingerprint(
        "POST",
        route,
        {
            "to": request.to, "text": request.text, "from": request.sender, "lane": request.lane,
            "client_ref": request.client_ref, "send_at": send_at, "valid_for_seconds": request.valid_for_seconds,
            "max_price": request.max_price, "callback_url": request.callback_url, "delivery": request.delivery,
        },
    )  # fmt: skip
