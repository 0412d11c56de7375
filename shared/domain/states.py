"""The states of a message and every move between them (DESIGN 3, RULES 20).

This table is the source: the drawing in docs/architecture.md and the SQL function
``tollwire.next_state_v1`` are made from it, and tests keep them equal. A (state, event) pair that
is absent is an error, never a guess.
"""

from enum import StrEnum
from types import MappingProxyType


class MessageState(StrEnum):
    """Where a message is. Final states are DELIVERED, UNDELIVERED, EXPIRED, FAILED_PERM, CANCELLED."""

    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    SENDING = "SENDING"
    SENT = "SENT"
    FAILED_TEMP = "FAILED_TEMP"
    UNKNOWN = "UNKNOWN"
    DELIVERED = "DELIVERED"
    UNDELIVERED = "UNDELIVERED"
    EXPIRED = "EXPIRED"
    FAILED_PERM = "FAILED_PERM"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """True when nothing moves the message any more; the hold is resolved in the same commit."""
        return self in FINAL_STATES


class MessageEvent(StrEnum):
    """What can happen to a message."""

    DUE = "due"
    CLAIMED = "claimed"
    UNCLAIMED = "unclaimed"
    SUBMITTED = "submitted"
    THROTTLED = "throttled"
    REFUSED_TEMP = "refused_temp"
    REFUSED_PERM = "refused_perm"
    UNCERTAIN = "uncertain"
    ASKED_AGAIN = "asked_again"
    OUTCOME_WAIT_ENDED = "outcome_wait_ended"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    CARRIER_EXPIRED = "carrier_expired"
    RECEIPT_WAIT_ENDED = "receipt_wait_ended"
    VALIDITY_ENDED = "validity_ended"
    CANCELLED = "cancelled"
    NO_ROUTE = "no_route"
    SUSPENDED = "suspended"


class Resolution(StrEnum):
    """How a hold ends. Written once, guarded by a constraint."""

    CAPTURED = "CAPTURED"
    RELEASED = "RELEASED"


_S, _E = MessageState, MessageEvent

FINAL_STATES = frozenset({_S.DELIVERED, _S.UNDELIVERED, _S.EXPIRED, _S.FAILED_PERM, _S.CANCELLED})

_WAITING = (_S.SCHEDULED, _S.QUEUED, _S.FAILED_TEMP)
_WITH_CARRIER = (_S.SENDING, _S.SENT, _S.UNKNOWN)
# A retry may be waiting while an earlier attempt's receipt arrives: the receipt wins.
_RECEIPT_MAY_COME = (*_WITH_CARRIER, _S.FAILED_TEMP, _S.QUEUED)


def _table() -> dict[tuple[MessageState, MessageEvent], MessageState]:
    moves: dict[tuple[MessageState, MessageEvent], MessageState] = {}
    moves[_S.SCHEDULED, _E.DUE] = _S.QUEUED
    moves[_S.QUEUED, _E.CLAIMED] = _S.SENDING
    moves[_S.FAILED_TEMP, _E.CLAIMED] = _S.SENDING
    for state in _WAITING:
        moves[state, _E.VALIDITY_ENDED] = _S.EXPIRED
        moves[state, _E.CANCELLED] = _S.CANCELLED
        moves[state, _E.NO_ROUTE] = _S.FAILED_PERM
        moves[state, _E.SUSPENDED] = _S.FAILED_PERM
    moves[_S.SENDING, _E.NO_ROUTE] = _S.FAILED_PERM
    for state in (_S.SENDING, _S.UNKNOWN):
        # An attempt's end may be told after recovery has called it UNKNOWN; it is still true.
        moves[state, _E.UNCLAIMED] = _S.QUEUED
        moves[state, _E.THROTTLED] = _S.QUEUED
        moves[state, _E.SUBMITTED] = _S.SENT
        moves[state, _E.REFUSED_TEMP] = _S.FAILED_TEMP
        moves[state, _E.REFUSED_PERM] = _S.FAILED_PERM
        moves[state, _E.UNCERTAIN] = _S.UNKNOWN
    for state in (_S.QUEUED, _S.FAILED_TEMP):
        # Later still, when the message was waiting to be sent again: that would be a duplicate.
        moves[state, _E.SUBMITTED] = _S.SENT
    moves[_S.UNKNOWN, _E.ASKED_AGAIN] = _S.QUEUED
    moves[_S.UNKNOWN, _E.OUTCOME_WAIT_ENDED] = _S.FAILED_PERM
    moves[_S.SENT, _E.RECEIPT_WAIT_ENDED] = _S.EXPIRED
    for state in _RECEIPT_MAY_COME:
        moves[state, _E.DELIVERED] = _S.DELIVERED
        moves[state, _E.UNDELIVERED] = _S.UNDELIVERED
        moves[state, _E.CARRIER_EXPIRED] = _S.EXPIRED
    return moves


TRANSITIONS = MappingProxyType(_table())


class IllegalTransition(ValueError):  # noqa: N818 - named for what happened
    """An event that the state table does not know for this state."""


def next_state(state: MessageState, event: MessageEvent) -> MessageState:
    """Return the state after an event.

    Raises:
        IllegalTransition: the table has no such pair. A final state has none at all, so the first
            final state stands.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{state.value} does not know the event {event.value}") from None
