"""What a callback says (DESIGN 6, RULES 36).

The body is that of Standard Webhooks 1.0.0: ``type``, ``timestamp``, ``data``. It never holds a text.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

import msgspec

from shared.domain.money import Money, format_micros, parse_micros
from shared.domain.states import MessageState

# A client pins its endpoint to the version it was written for; fields are added, never changed, within one.
API_VERSION = "v1"
# The size that Standard Webhooks recommends. No payload here comes near: the bounded fields give about 12 kB.
PAYLOAD_BYTES_MAX = 20_000
# A price list has some hundred prices, and each message has one of them.
PRICES_REMEMBERED_MAX = 4_096
# A carrier's explanation is for a reader, and a carrier's to choose: a page of it is no help.
ERROR_DETAIL_LENGTH_MAX = 1_000


class EventType(StrEnum):
    """What a callback tells. ``balance.low`` is reserved for the issue that brings it."""

    MESSAGE_SENT = "message.sent"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_UNDELIVERED = "message.undelivered"
    MESSAGE_EXPIRED = "message.expired"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_CANCELLED = "message.cancelled"
    MESSAGE_LATE_RECEIPT = "message.late_receipt"
    CALLBACK_TEST = "callback.test"
    BALANCE_LOW = "balance.low"


# Subscribed to unless the client says otherwise: what ends a message, and what corrects its money afterwards.
DEFAULT_EVENT_TYPES = frozenset(
    {
        EventType.MESSAGE_DELIVERED,
        EventType.MESSAGE_UNDELIVERED,
        EventType.MESSAGE_EXPIRED,
        EventType.MESSAGE_FAILED,
        EventType.MESSAGE_CANCELLED,
        EventType.MESSAGE_LATE_RECEIPT,
    }
)

_TYPE_OF_STATE = {
    MessageState.SENT: EventType.MESSAGE_SENT,
    MessageState.DELIVERED: EventType.MESSAGE_DELIVERED,
    MessageState.UNDELIVERED: EventType.MESSAGE_UNDELIVERED,
    MessageState.EXPIRED: EventType.MESSAGE_EXPIRED,
    MessageState.FAILED_PERM: EventType.MESSAGE_FAILED,
    MessageState.CANCELLED: EventType.MESSAGE_CANCELLED,
}


class PayloadTooLargeError(ValueError):
    """The event's payload is over PAYLOAD_BYTES_MAX: a field that its writer bounds was not bounded."""


class MalformedPayloadError(ValueError):
    """The bytes are no payload of a message's event."""


@dataclass(frozen=True, slots=True)
class CallbackError:
    """Why a message failed: a word of the dictionary of errors, and a sentence for a reader."""

    code: str
    detail: str


class CallbackEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one message, as its client is told. Times are aware; they are told to the millisecond.

    ``sequence`` counts the message's events from 1, so that a receiver can drop what comes late.
    ``attempts`` counts submits to carriers. ``price`` is what was held; ``charged``: it was captured.
    ``carrier`` is None where the operator doesn't show it, and the field is then left out.
    """

    type: EventType
    occurred_at: datetime
    message_id: UUID
    status: MessageState
    msisdn: str
    sender: str
    client_ref: str | None
    segments: int
    price: Money
    charged: bool
    error: CallbackError | None
    carrier: str | None
    attempts: int
    possible_duplicate: bool
    late_receipt: bool
    sequence: int
    parts_delivered: int
    created_at: datetime
    final_at: datetime | None


class _Price(msgspec.Struct, frozen=True):
    amount: str
    currency: str


class _Error(msgspec.Struct, frozen=True):
    code: str
    detail: str


class _Message(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    id: str
    status: MessageState
    to: str
    sender: str
    client_ref: str | None
    segments: int
    price: _Price
    charged: bool
    error: _Error | None
    attempts: int
    possible_duplicate: bool
    late_receipt: bool
    sequence: int
    parts_delivered: int
    created_at: str
    final_at: str | None
    api_version: str
    carrier: str | msgspec.UnsetType = msgspec.UNSET


class _Payload(msgspec.Struct, frozen=True):
    type: EventType
    timestamp: str
    data: _Message


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Payload)


def event_type(status: MessageState, *, late_receipt: bool) -> EventType | None:
    """Return the type of the event that tells a state; None for states that are nobody's business but ours.

    A receipt that came after the hold had ended is an event of its own, whatever the state.
    """
    return EventType.MESSAGE_LATE_RECEIPT if late_receipt else _TYPE_OF_STATE.get(status)


def payload_of(event: CallbackEvent) -> bytes:
    """Return the body of the callback: UTF-8 JSON, the same bytes for the same event on every attempt.

    Raises:
        PayloadTooLargeError: more than PAYLOAD_BYTES_MAX.
    """
    error = event.error
    body = _encode(
        _Payload(
            event.type,
            _instant(event.occurred_at),
            _Message(
                id=str(event.message_id),
                status=event.status,
                to=event.msisdn,
                sender=event.sender,
                client_ref=event.client_ref,
                segments=event.segments,
                price=_price(event.price),
                charged=event.charged,
                error=_Error(error.code, error.detail[:ERROR_DETAIL_LENGTH_MAX]) if error else None,
                attempts=event.attempts,
                possible_duplicate=event.possible_duplicate,
                late_receipt=event.late_receipt,
                sequence=event.sequence,
                parts_delivered=event.parts_delivered,
                created_at=_instant(event.created_at),
                final_at=_instant(event.final_at) if event.final_at else None,
                api_version=API_VERSION,
                carrier=msgspec.UNSET if event.carrier is None else event.carrier,
            ),
        )
    )
    return _bounded(body)


def payload_of_test(occurred_at: datetime) -> bytes:
    """Return the body of ``callback.test``, which a client asks for to try its endpoint."""
    note = "This is a test. Your endpoint is set up when the signature verifies and you answer 2xx."
    data = {"note": note, "api_version": API_VERSION}
    return _encode({"type": EventType.CALLBACK_TEST, "timestamp": _instant(occurred_at), "data": data})


def parse_payload(body: bytes) -> CallbackEvent:
    """Return the event that payload_of told, with its times cut to milliseconds.

    Fields that it does not know are passed over, as every receiver is asked to do.

    Raises:
        MalformedPayloadError: not the payload of a message's event.
    """
    try:
        payload = _decoder.decode(body)
        told = payload.data
        return CallbackEvent(
            type=payload.type,
            occurred_at=datetime.fromisoformat(payload.timestamp),
            message_id=UUID(told.id),
            status=told.status,
            msisdn=told.to,
            sender=told.sender,
            client_ref=told.client_ref,
            segments=told.segments,
            price=Money(parse_micros(told.price.amount), told.price.currency),
            charged=told.charged,
            error=CallbackError(told.error.code, told.error.detail) if told.error else None,
            carrier=None if told.carrier is msgspec.UNSET else told.carrier,
            attempts=told.attempts,
            possible_duplicate=told.possible_duplicate,
            late_receipt=told.late_receipt,
            sequence=told.sequence,
            parts_delivered=told.parts_delivered,
            created_at=datetime.fromisoformat(told.created_at),
            final_at=datetime.fromisoformat(told.final_at) if told.final_at else None,
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise MalformedPayloadError(str(error)) from error


def _instant(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


@lru_cache(PRICES_REMEMBERED_MAX)
def _price(price: Money) -> _Price:
    return _Price(format_micros(price.micros), price.currency)


def _bounded(body: bytes) -> bytes:
    if len(body) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(f"{len(body)} bytes; {PAYLOAD_BYTES_MAX} is the most")
    return body
