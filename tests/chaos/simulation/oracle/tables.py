"""What the oracle remembers: the tables of the server as plain Python, and the money in them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from shared.domain.states import TRANSITIONS, MessageEvent, MessageState
from tests.chaos.simulation.wire import START_MS, Carrier, Rows
from tests.support.oracle import Account

S = MessageState
# What is due by then is dispatched at once.
SOON_US = 50_000
# Everything is told by its name after each call.
text_of = lru_cache(maxsize=10_000)(str)
FINAL_WORDS = frozenset({"delivered", "undelivered", "expired", "rejected"})
LOST_WORDS = FINAL_WORDS - {"delivered"}
# Receipts of what the carrier took; "rejected" says that it did not, "unknown" says nothing.
TAKEN_WORDS = frozenset({"enroute", "accepted", "delivered", "undelivered", "expired"})
HAS_IT_WORDS = TAKEN_WORDS - {"undelivered", "expired"}
REACHED = frozenset({None, "submitted", "uncertain"})
EVENT_TYPES = {
    "SENT": "message.sent", "DELIVERED": "message.delivered", "UNDELIVERED": "message.undelivered",
    "EXPIRED": "message.expired", "FAILED_PERM": "message.failed", "CANCELLED": "message.cancelled",
}  # fmt: skip


@dataclass(slots=True)
class Owner(Account):
    """An account with its pace and its client."""

    id: int = 0
    interval_us: int = 0
    next_dispatch_us: int | None = None
    suspended: bool = False
    events: tuple[str, ...] = ()


@dataclass(slots=True)
class Attempt:
    """One part of one try."""

    carrier: int
    claimed_us: int
    outcome: str | None = None
    outcome_us: int | None = None
    reference: str | None = None
    receipt: str | None = None
    error: str | None = None

    @property
    def is_unanswered(self) -> bool:
        return self.receipt not in FINAL_WORDS

    @property
    def is_open(self) -> bool:
        return self.outcome in REACHED and self.is_unanswered


@dataclass(slots=True)
class Outbox:
    """An outbox row."""

    carrier: int
    due_us: int
    dispatch_us: int
    leased_us: int | None
    incarnation: int
    dispatch_no: int = 1
    lease_seconds: int = 60


@dataclass(slots=True)
class Message:
    """A message, its state and its hold."""

    id: UUID
    account: int
    amount: int
    charge: str
    delivery: str
    parts: int
    msisdn: str
    valid_us: int
    carrier: int
    state: MessageState
    lock: str = "HELD"
    is_late_captured: bool = False
    is_late: bool = False
    is_possible_duplicate: bool = False
    tries: int = 0
    attempt_no: int = 0
    parts_delivered: int = 0
    sequence: int = 0
    claim: UUID | None = None
    claim_deadline_us: int | None = None
    submitted_us: int | None = None
    final_us: int | None = None
    error: str | None = None
    attempts: dict[tuple[int, int], Attempt] = field(default_factory=dict)

    @property
    def is_test(self) -> bool:
        return self.amount == 0

    @property
    def may_be_twice(self) -> bool:
        """Two attempts of a part were made of which nobody knows that nothing was written."""
        made = [part for (_, part), a in self.attempts.items() if a.outcome != "unclaimed"]
        return len(made) > len(set(made))

    def knows(self, event: str) -> bool:
        return (self.state, MessageEvent(event)) in TRANSITIONS


@dataclass(slots=True)
class Receipt:
    """A carrier's word."""

    id: UUID
    carrier: int
    reference: str
    state: str
    msisdn: str | None
    part: int | None
    echo_message: UUID | None
    echo_attempt: int | None
    received_us: int
    due_us: int
    tries: int = 0
    settled_us: int | None = None
    outcome: str | None = None
    message: UUID | None = None
    attempt: int | None = None


@dataclass(slots=True)
class Callback:
    """A callback to a client."""

    message: UUID
    event_type: str
    sequence: int
    due_us: int
    attempts: int = 0
    done_us: int | None = None
    outcome: str | None = None
    is_leased: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A carrier's name for a part of an attempt."""

    carrier: int
    reference: str
    submitted_us: int
    message: UUID
    attempt: int
    part: int


def _callback_id(at_us: int, message: Message, sequence: int) -> UUID:
    head = (START_MS + at_us // 1000) << 80 | 7 << 76 | (sequence & 4095) << 64
    return UUID(int=head | message.id.int & (1 << 64) - 1)


class Tables:
    """All rows, and what several functions do with them."""

    def __init__(self) -> None:
        self.now = 0
        self.owners: dict[int, Owner] = {}
        self.carriers: dict[int, Carrier] = {}
        self.messages: dict[UUID, Message] = {}
        self.outbox: dict[UUID, Outbox] = {}
        self.receipts: dict[UUID, Receipt] = {}
        self.references: list[Reference] = []
        self.callbacks: dict[UUID, Callback] = {}
        self.keys: dict[tuple[int, str], list[tuple[int, bytes, UUID, str | None, int]]] = {}
        self.entries: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.watch: dict[UUID, int] = {}

    def book(self, account: int, kind: str, message: UUID | None, amount: int, reason: str | None) -> None:
        """Write the entry that the account's version now counts."""
        owner = self.owners[account]
        row = (kind, str(message) if message else None, amount, owner.posted, owner.held, reason)
        self.entries[account, owner.version] = row

    def settle_hold(self, message: Message, kind: str, reason: str) -> bool:
        """End a hold, once; a late capture only after a release."""
        if kind == "late_capture":
            if message.lock != "RELEASED" or message.is_late_captured:
                return False
            message.is_late_captured = True
        elif message.lock != "HELD":
            return False
        else:
            message.lock = "CAPTURED" if kind == "capture" else "RELEASED"
        self.owners[message.account].end(message.amount, kind)
        self.book(message.account, kind, message.id, message.amount, reason)
        return True

    def finish(
        self, message: Message, event: str, kind: str | None, reason: str, lease_seconds: int = 0
    ) -> UUID | None:
        """Bring a message to its end; return its callback."""
        if kind is not None:
            self.settle_hold(message, kind, reason)
        message.state = TRANSITIONS[message.state, MessageEvent(event)]
        message.final_us = self.now
        message.sequence += 1
        message.claim_deadline_us = None
        if event == "delivered":
            message.parts_delivered = message.parts
        message.error = None if event == "delivered" else reason
        self.outbox.pop(message.id, None)
        told = self.add_callback(message, EVENT_TYPES[message.state.value], lease_seconds)
        if told is not None and message.submitted_us is not None:
            sent = self.callbacks.get(_callback_id(message.submitted_us, message, message.sequence - 1))
            if sent is not None and sent.done_us is None and not self.is_leased(sent):
                sent.done_us, sent.outcome = self.now, "superseded"
        return told

    def is_leased(self, callback: Callback) -> bool:
        """True when somebody may be posting it."""
        return callback.is_leased and self.now < callback.due_us

    def give_back_places(self, accounts: Iterable[int]) -> None:
        """The pace goes on behind the last message that still waits for its place in it."""
        for owner in (self.owners[account] for account in set(accounts) if account in self.owners):
            next_us, first_us = owner.next_dispatch_us or 0, self.now + SOON_US + owner.interval_us
            if owner.interval_us == 0 or next_us <= first_us:
                continue
            places = [
                row.due_us + owner.interval_us
                for id_, row in self.outbox.items()
                if self.messages[id_].account == owner.id and self.messages[id_].state is S.QUEUED
                and not self.messages[id_].is_test and row.leased_us is None and row.dispatch_no == 1
                and self.now < row.due_us < next_us and row.dispatch_us <= row.due_us
            ]  # fmt: skip
            owner.next_dispatch_us = min(next_us, max([first_us, *places]))

    def add_callback(self, message: Message, event_type: str, lease_seconds: int) -> UUID | None:
        """Ask for a callback, if the client subscribes to the event."""
        if event_type not in self.owners[message.account].events:
            return None
        made = _callback_id(self.now, message, message.sequence)
        due = self.now + lease_seconds * 1_000_000
        self.callbacks[made] = Callback(
            message.id, event_type, message.sequence, due, is_leased=lease_seconds > 0
        )
        return made

    def rows(self) -> Rows:
        """Everything, as SqlServer.snapshot tells it."""
        return {
            "accounts": {str(o.id): (*o.row(), o.next_dispatch_us) for o in self.owners.values()},
            "messages": {
                text_of(m.id): (
                    m.state.value, m.lock, m.is_late_captured, m.is_late, m.is_possible_duplicate, m.tries,
                    m.attempt_no, m.parts_delivered, m.sequence, m.carrier, m.claim_deadline_us,
                    m.submitted_us, m.final_us, m.error,
                )
                for m in self.messages.values()
            },
            "outbox": {
                text_of(i): (o.dispatch_no, o.due_us, o.dispatch_us, o.leased_us, o.lease_seconds,
                         o.incarnation, o.carrier)
                for i, o in self.outbox.items()
            },
            "attempts": {
                f"{text_of(m.id)}/{number}/{part}": (a.carrier, a.outcome, a.reference, a.receipt)
                for m in self.messages.values()
                for (number, part), a in m.attempts.items()
            },
            "entries": {f"{account}/{version}": row for (account, version), row in self.entries.items()},
            "receipts": {
                text_of(r.id): (r.outcome, str(r.message) if r.message else None, r.attempt, r.part, r.due_us)
                for r in self.receipts.values()
            },
            "callbacks": {
                text_of(i): (
                    text_of(c.message), c.event_type, c.sequence, c.attempts, c.due_us, c.done_us, c.outcome,
                )
                for i, c in self.callbacks.items()
            },
            "watch": {text_of(i): (due,) for i, due in self.watch.items()},
        }  # fmt: skip
