"""From a request to an item of the accept flush: quoted, sealed, complete."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from api.callers import Client
from api.problems import Refusal, invalid_field
from api.quote import Prices, Quote, quote, refuse_unsendable
from api.schemas import OUT_OF_TIME, SEND_AT_MAX_DAYS, Delivery, MessageRequest, is_strange
from api.store import AcceptItem
from shared.domain.callback_urls import CallbackUrlError, UrlPolicy, parse_callback_url
from shared.domain.fingerprint import Plain, fingerprint
from shared.domain.money import MoneyFormatError, parse_micros
from shared.domain.problems import ProblemCode
from shared.events.bundles import Lane
from shared.runtime import tracing
from shared.runtime.clock import Clock
from shared.runtime.keyring import Keyring
from shared.storage.config import ConfigWatch

# Two days: what most carriers keep a message for an absent phone.
VALID_FOR_DEFAULT_SECONDS: Final = 172_800
LANE_DEFAULT: Final = "normal"
NO_ENDPOINT: Final = "needs an endpoint first (PUT /v1/callback): its secret signs, its events are told"
ROUTE_REPLAY: Final = "/admin/v1/dead-letters/{id}/replay"


_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


class _Asked(Plain, frozen=True, gc=False):
    """What was asked, as it is compared with what comes under the same idempotency key."""

    callback_url: str | None
    client_ref: str | None
    delivery: str | None
    sender: str | None = field(name="from")
    is_test: bool
    lane: str | None
    max_price: str | None
    send_at: str | None
    text: str
    to: str
    valid_for_seconds: int | None


class Sending(Struct, frozen=True, gc=False):
    """Who sends, and under which idempotency key."""

    client: Client
    is_test: bool
    idempotency_key: str | None


class Orders:
    """Makes items with what the configuration says now."""

    def __init__(
        self, prices: ConfigWatch[Prices], keyring: Keyring, clock: Clock, url_policy: UrlPolicy
    ) -> None:
        self._prices = prices
        self._keyring = keyring
        self._clock = clock
        self._url_policy = url_policy

    def item(
        self, sending: Sending, request: MessageRequest, route: str, index: int
    ) -> tuple[AcceptItem, Quote]:
        """Return the item of a request, the ``index``-th under its idempotency key.

        Raises:
            Refusal: the request can never be accepted as it is; nothing is remembered of it.
        """
        if request.sender is not None:
            refuse_unsendable(sending.client, request.sender)
        return self._item(sending, request, route, index)

    def _item(
        self, sending: Sending, request: MessageRequest, route: str, index: int
    ) -> tuple[AcceptItem, Quote]:
        client = sending.client
        if request.client_ref is not None:
            _refuse_unstorable(request.client_ref, "client_ref")
        send_at = self._send_at(request.send_at) if request.send_at is not None else None
        quoted = quote(
            self._prices.current, client, request.to, request.text, request.sender, is_test=sending.is_test
        )
        if request.callback_url is not None:
            self._refuse_foreign_callback(client, request.callback_url)
        max_price = _max_price(request.max_price) if request.max_price is not None else None
        blocked = quoted.blocked
        message_id = self._clock.new_uuid7()
        if tracing.is_on:
            tracing.follow(message_id.hex)
        lane = request.lane or LANE_DEFAULT
        # The encoding's _value_: its value is looked up in Python, for each message.
        return AcceptItem(
            account_id=client.id, message_id=message_id, key=sending.idempotency_key, item=index,
            fingerprint=fingerprint_of(route, request, is_test=sending.is_test),
            refusal=blocked.code.value if blocked else None,
            refusal_args={name: str(value) for name, value in blocked.arguments.items()} if blocked else None,
            amount_micros=quoted.amount_micros, max_price_micros=max_price,
            msisdn=quoted.msisdn.e164, region=quoted.msisdn.region, sender=quoted.sender, lane=lane,
            encoding=quoted.segmented.encoding._value_, segments=quoted.segmented.count,
            currency=quoted.currency, rate_version=quoted.rate_version, client_ref=request.client_ref,
            delivery=request.delivery or _delivery_default(lane),
            charge=client.charge, send_at=send_at,
            valid_seconds=request.valid_for_seconds or VALID_FOR_DEFAULT_SECONDS,
            callback_url=request.callback_url, is_test=sending.is_test,
            text_sealed=self._keyring.seal(request.text.encode(), message_id.bytes),
            text_days=client.text_retention_days, carrier_id=quoted.carrier.id, parts=quoted.parts,
            replay_of=None,
        ), quoted  # fmt: skip

    def replay(
        self, sending: Sending, request: MessageRequest, replay_of: UUID, number: int
    ) -> tuple[AcceptItem, Quote]:
        """Return the item of a dead letter's ``number``-th replay: a new message with a hold of its own.

        Raises:
            Refusal: as ``item``, but for the sender: it was taken once, and no request names it.
        """
        item, quoted = self._item(sending, request, ROUTE_REPLAY, number)
        # No client's key has a space in it, so nobody else can hold this one.
        return replace(item, key=f"replay {replay_of} {number}", replay_of=replay_of), quoted

    def _send_at(self, send_at: datetime) -> datetime | None:
        if is_strange(send_at):
            raise invalid_field("send_at", OUT_OF_TIME)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        moment = send_at.astimezone(UTC)
        if moment <= now:
            return None
        if moment > now + timedelta(days=SEND_AT_MAX_DAYS):
            raise invalid_field("send_at", f"must be at most {SEND_AT_MAX_DAYS} days ahead")
        return moment

    def _refuse_foreign_callback(self, client: Client, url: str) -> None:
        try:
            host = parse_callback_url(url, self._url_policy).host
        except CallbackUrlError as error:
            raise invalid_field("callback_url", str(error)) from None
        if host not in client.allowed_callback_hosts:
            raise Refusal(ProblemCode.CALLBACK_NOT_ALLOWED)
        if not client.has_endpoint:
            raise invalid_field("callback_url", NO_ENDPOINT)


def _max_price(text: str) -> int:
    try:
        return parse_micros(text)
    except MoneyFormatError as error:
        raise invalid_field("max_price", str(error)) from None


def _refuse_unstorable(text: str, field: str) -> None:
    """Refuse what PostgreSQL cannot store, before one client's text can fail a whole flush (RULES 8)."""
    if _UNSTORABLE.search(text):
        raise invalid_field(field, "must not hold NUL or unpaired surrogates")


def fingerprint_of(route: str, request: MessageRequest, *, is_test: bool) -> bytes:
    """Whether two requests are one; a default that is spelled out is as one that is left out.

    But for the sender: which one is the default may change between the two, and what is one must stay one.
    A test key's request is another one than a live key's: it must never answer for it.
    """
    lane, delivery, seconds = request.lane, request.delivery, request.valid_for_seconds
    return fingerprint(
        "POST",
        route,
        _Asked(
            to=request.to, text=request.text, sender=request.sender,
            lane=None if lane == LANE_DEFAULT else lane,
            client_ref=request.client_ref,
            send_at=request.send_at.astimezone(UTC).isoformat() if request.send_at else None,
            delivery=None if delivery is None or delivery == _delivery_default(lane) else delivery,
            valid_for_seconds=None if seconds == VALID_FOR_DEFAULT_SECONDS else seconds,
            max_price=request.max_price, callback_url=request.callback_url, is_test=is_test,
        ),
    )  # fmt: skip


def _delivery_default(lane: Lane | None) -> Delivery:
    """A one-time password that goes out twice is a nuisance, one that never comes is a lost customer."""
    return "at_least_once" if lane == "express" else "at_most_once"
