"""The body of a callback, as a client sees it."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from msgspec.structs import replace

from shared.domain.callback_events import (
    DEFAULT_EVENT_TYPES,
    CallbackError,
    CallbackEvent,
    EventType,
    MalformedPayloadError,
    PayloadTooLargeError,
    event_type,
    parse_payload,
    payload_of,
    payload_of_test,
)
from shared.domain.money import Money
from shared.domain.states import FINAL_STATES, MessageState

EVENT = CallbackEvent(
    type=EventType.MESSAGE_DELIVERED,
    occurred_at=datetime(2026, 11, 21, 10, 0, 0, 123_999, tzinfo=UTC),
    message_id=UUID("0193a5b0-0000-7000-8000-000000000001"),
    status=MessageState.DELIVERED,
    msisdn="+4915112345678",
    sender="ACME",
    client_ref="order-1",
    segments=1,
    price=Money(75_000, "EUR"),
    charged=True,
    error=None,
    carrier=None,
    attempts=1,
    possible_duplicate=False,
    late_receipt=False,
    sequence=3,
    parts_delivered=1,
    created_at=datetime(2026, 11, 21, 9, 59, 58, tzinfo=UTC),
    final_at=datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC),
)


def test_a_delivered_message_is_told_in_full() -> None:
    assert json.loads(payload_of(EVENT)) == {
        "type": "message.delivered",
        "timestamp": "2026-11-21T10:00:00.123Z",
        "data": {
            "id": "0193a5b0-0000-7000-8000-000000000001",
            "status": "DELIVERED",
            "to": "+4915112345678",
            "from": "ACME",
            "client_ref": "order-1",
            "segments": 1,
            "price": {"amount": "0.0750", "currency": "EUR"},
            "charged": True,
            "error": None,
            "attempts": 1,
            "possible_duplicate": False,
            "late_receipt": False,
            "sequence": 3,
            "parts_delivered": 1,
            "created_at": "2026-11-21T09:59:58.000Z",
            "final_at": "2026-11-21T10:00:00.000Z",
            "api_version": "v1",
        },
    }


def test_a_failure_names_its_error_and_a_carrier_that_may_be_shown() -> None:
    error = CallbackError("absent_subscriber", "The phone could not be reached.")
    told = json.loads(
        payload_of(replace(EVENT, error=error, carrier="simulator", charged=False, final_at=None))
    )

    assert told["data"]["error"] == {"code": "absent_subscriber", "detail": "The phone could not be reached."}
    assert told["data"]["carrier"] == "simulator"
    assert told["data"]["final_at"] is None


def test_times_are_told_in_utc_wherever_they_come_from() -> None:
    there = EVENT.occurred_at.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert payload_of(replace(EVENT, occurred_at=there)) == payload_of(EVENT)


def test_the_same_event_gives_the_same_bytes_so_a_retry_is_the_same_callback() -> None:
    assert payload_of(EVENT) == payload_of(replace(EVENT))


def test_a_carriers_essay_is_cut_and_an_unbounded_field_is_a_bug() -> None:
    cut = json.loads(payload_of(replace(EVENT, error=CallbackError("x", "y" * 50_000))))
    assert len(cut["data"]["error"]["detail"]) == 1_000

    with pytest.raises(PayloadTooLargeError):
        payload_of(replace(EVENT, client_ref="z" * 20_000))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", payload_of_test(EVENT.occurred_at)])
def test_bytes_that_tell_no_message_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedPayloadError):
        parse_payload(body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0193a5b0-", b"0193a5b-"),
        (b'"0.0750"', b"0.0750"),
        (b'"0.0750"', b'"7e1"'),
        (b'"EUR"', b'"eur"'),
        (b"2026-11-21T10:00:00.123Z", b"yesterday"),
        (b'"DELIVERED"', b'"LOST"'),
    ],
)
def test_a_field_that_is_not_what_it_is_to_be_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(MalformedPayloadError):
        parse_payload(payload_of(EVENT).replace(old, new))


def test_every_final_state_has_its_event_and_is_subscribed_to_by_default() -> None:
    types = {event_type(state, late_receipt=False) for state in FINAL_STATES}

    assert None not in types
    assert types == DEFAULT_EVENT_TYPES - {EventType.MESSAGE_LATE_RECEIPT}


def test_states_between_are_told_only_when_they_mean_something_to_a_client() -> None:
    told = {state for state in MessageState if event_type(state, late_receipt=False)}

    assert told - FINAL_STATES == {MessageState.SENT}


def test_a_late_receipt_is_an_event_of_its_own() -> None:
    assert event_type(MessageState.EXPIRED, late_receipt=True) is EventType.MESSAGE_LATE_RECEIPT


def test_a_test_callback_says_that_it_is_one() -> None:
    told = json.loads(payload_of_test(EVENT.occurred_at))

    assert told["type"] == "callback.test"
    assert told["timestamp"] == "2026-11-21T10:00:00.123Z"
    assert told["data"]["api_version"] == "v1"
