"""Invariant: what payload_of tells, parse_payload reads back, in under 20 kB."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.callback_events import (
    ERROR_DETAIL_LENGTH_MAX,
    PAYLOAD_BYTES_MAX,
    CallbackError,
    CallbackEvent,
    EventType,
    parse_payload,
    payload_of,
)
from shared.domain.money import MICROS_MAX, MICROS_MIN, Money
from shared.domain.states import MessageState


def cut_to_milliseconds(moment: datetime) -> datetime:
    """Cut to what is told."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


# Anything that PostgreSQL can store and JSON can tell.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
DETAIL = st.text(st.characters(exclude_categories=["Cs"]), max_size=ERROR_DETAIL_LENGTH_MAX)
COUNT = st.integers(0, 2**31 - 1)
INSTANT = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    cut_to_milliseconds
)
EVENTS = st.builds(
    CallbackEvent,
    type=st.sampled_from(EventType),
    occurred_at=INSTANT,
    message_id=st.uuids(),
    status=st.sampled_from(MessageState),
    msisdn=TEXT,
    sender=TEXT,
    client_ref=st.none() | TEXT,
    segments=COUNT,
    price=st.builds(Money, st.integers(MICROS_MIN, MICROS_MAX), st.from_regex(r"[A-Z]{3}", fullmatch=True)),
    charged=st.booleans(),
    error=st.none() | st.builds(CallbackError, TEXT, DETAIL),
    carrier=st.none() | TEXT,
    attempts=COUNT,
    possible_duplicate=st.booleans(),
    late_receipt=st.booleans(),
    sequence=COUNT,
    parts_delivered=COUNT,
    created_at=INSTANT,
    final_at=st.none() | INSTANT,
)


@given(EVENTS)
def test_an_event_comes_back_from_its_payload(event: CallbackEvent) -> None:
    body = payload_of(event)

    assert parse_payload(body) == event
    assert payload_of(parse_payload(body)) == body
    assert len(body) < PAYLOAD_BYTES_MAX
