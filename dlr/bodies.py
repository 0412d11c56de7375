"""From a loaded callback to the bytes that are signed and posted."""

from datetime import datetime
from functools import lru_cache
from typing import cast

from dlr.store import CallbackWork
from shared.domain.callback_events import (
    PRICES_REMEMBERED_MAX,
    CallbackError,
    CallbackEvent,
    EventType,
    payload_of,
    payload_of_test,
)
from shared.domain.money import Money
from shared.domain.states import MessageState

# What a client reads beside the code where no carrier refused; docs/callbacks.md lists all codes.
DETAILS = {
    "validity_ended": "The message's validity ended before a carrier took it.",
    "client_suspended": "The client was suspended before the message was sent.",
    "outcome_unknown": "The carrier's answer never came, and no receipt told the outcome in time.",
    "no_receipt": "The carrier took the message, and no receipt came in time.",
    "undelivered": "The carrier could not deliver the message.",
    "delivered_in_part": "Some parts of the message were delivered, not all.",
    "expired_by_carrier": "The carrier gave the message up: the phone could not be reached in time.",
    "cancelled": "The message was cancelled before it was sent.",
    "carrier_unreachable": "No carrier could be reached until the tries were used up.",
    "restored": "The message had ended so before the database was restored; the reason was not kept.",
    "refused": "The carrier refused the message, and gave no reason.",
}
_EVENT_TYPES = {kind.value: kind for kind in EventType}
_STATES = {state.value: state for state in MessageState}
_money = lru_cache(PRICES_REMEMBERED_MAX)(Money)


def body_of(work: CallbackWork) -> bytes:
    """Return the callback's body; the same bytes on every attempt while the message's row stands.

    But for the count of parts that were delivered: those may go on arriving after the message's end.

    Raises:
        ValueError: its message is gone, which ``skip`` says: such a callback is not posted.
    """
    if work.event_type == EventType.CALLBACK_TEST:
        return payload_of_test(work.created_at)
    if work.message_id is None:
        raise ValueError(f"the message of callback {work.callback_id} is gone")
    error = None
    if work.error_code is not None:
        detail = DETAILS.get(work.error_code, f"The carrier refused the message: {work.error_code}.")
        error = CallbackError(work.error_code, detail)
    return payload_of(
        CallbackEvent(
            type=_EVENT_TYPES[cast("str", work.event_type)],
            occurred_at=work.created_at,
            message_id=work.message_id,
            status=_STATES[cast("str", work.state)],
            msisdn=cast("str", work.msisdn),
            sender=cast("str", work.sender),
            client_ref=work.client_ref,
            segments=cast("int", work.segments),
            price=_money(cast("int", work.price_micros), cast("str", work.currency)),
            charged=bool(work.is_charged),
            error=error,
            carrier=None,
            attempts=work.message_attempts or 0,
            possible_duplicate=bool(work.is_possible_duplicate),
            late_receipt=bool(work.is_late_receipt),
            sequence=work.sequence,
            parts_delivered=work.parts_delivered or 0,
            created_at=cast("datetime", work.message_created_at),
            final_at=work.final_at,
        )
    )
