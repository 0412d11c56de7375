"""The state table, row by row: a mutation of it would be another product."""

import pytest

from shared.domain import states
from shared.domain.states import (
    FINAL_STATES,
    TRANSITIONS,
    IllegalTransition,
    MessageEvent,
    MessageState,
    Resolution,
    next_state,
)

# What each state knows, in the words of docs/architecture.md.
BY_RECEIPT = {"delivered": "DELIVERED", "undelivered": "UNDELIVERED", "carrier_expired": "EXPIRED"}
WAITING = {
    "validity_ended": "EXPIRED", "cancelled": "CANCELLED", "no_route": "FAILED_PERM",
    "suspended": "FAILED_PERM",
}  # fmt: skip
ANSWERED = {
    "submitted": "SENT", "refused_temp": "FAILED_TEMP", "refused_perm": "FAILED_PERM", "uncertain": "UNKNOWN",
    "unclaimed": "QUEUED", "throttled": "QUEUED",
}  # fmt: skip
AGAIN = {"claimed": "SENDING", "submitted": "SENT"}
TABLE = {
    "SCHEDULED": WAITING | {"due": "QUEUED"},
    "QUEUED": WAITING | BY_RECEIPT | AGAIN,
    "FAILED_TEMP": WAITING | BY_RECEIPT | AGAIN,
    "SENDING": ANSWERED | BY_RECEIPT | {"no_route": "FAILED_PERM"},
    "SENT": BY_RECEIPT | {"receipt_wait_ended": "EXPIRED"},
    "UNKNOWN": ANSWERED | BY_RECEIPT | {"asked_again": "QUEUED", "outcome_wait_ended": "FAILED_PERM"},
}


@pytest.mark.parametrize("state", list(MessageState))
@pytest.mark.parametrize("event", list(MessageEvent))
def test_each_pair_leads_where_the_table_says(state: MessageState, event: MessageEvent) -> None:
    wanted = TABLE.get(state.value, {}).get(event.value)
    if wanted is None:
        with pytest.raises(IllegalTransition, match=f"^{state.value} does not know the event {event.value}$"):
            next_state(state, event)
    else:
        assert next_state(state, event).value == wanted


def test_what_is_final_has_no_way_out_and_all_else_has_one() -> None:
    assert {state.value for state in FINAL_STATES} == set(map(str, MessageState)) - set(TABLE)
    for state in MessageState:
        assert state.is_final == all(before is not state for before, _ in TRANSITIONS)


def test_the_table_is_made_as_it_is_kept() -> None:
    """The table is made once, at the import: what is made now must be the same."""
    assert states._table() == dict(TRANSITIONS)


def test_words_on_the_wire_and_in_the_database_are_these() -> None:
    assert [state.value for state in MessageState] == [state.name for state in MessageState]
    assert [event.value for event in MessageEvent] == [event.name.lower() for event in MessageEvent]
    assert [end.value for end in Resolution] == ["CAPTURED", "RELEASED"]
