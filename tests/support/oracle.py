"""The rules of money and of a message's way, in plain Python: what the server's functions must do.

No SQL, no clock. ``Ledger`` holds accounts and holds (RULES 9, 23, 25), ``Oracle`` adds idempotency keys
(RULES 10) and the way of messages of one part (DESIGN 3, RULES 15 to 18, 20, 24).
"""

from dataclasses import dataclass, field
from uuid import UUID

from shared.domain.states import TRANSITIONS, MessageEvent, MessageState

FINAL_WORDS = frozenset({"delivered", "undelivered", "expired", "rejected"})
# Receipts of what the carrier took; "rejected" says that it did not, "unknown" says nothing.
TAKEN_WORDS = frozenset({"enroute", "accepted", "delivered", "undelivered", "expired"})
REACHED = frozenset({None, "submitted", "uncertain"})
S = MessageState


@dataclass(slots=True)
class Account:
    """An account's balances in micros, and how many entries it has."""

    posted: int = 0
    held: int = 0
    limit: int = 0
    open_holds: int = 0
    version: int = 0
    operations: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.posted - self.held + self.limit

    @property
    def overdrawn(self) -> int:
        return max(0, -self.available)

    def row(self) -> tuple[int, ...]:
        """As the columns of ledger.accounts say it."""
        return (self.posted, self.held, self.limit, self.overdrawn, self.open_holds, self.version)

    def refuses(self, amount: int, max_price: int | None) -> str | None:
        """Why a hold of this amount is not placed now."""
        if max_price is not None and amount > max_price:
            return "max_price_exceeded"
        return "insufficient_credit" if amount > max(self.available, 0) else None

    def place(self, amount: int) -> None:
        self.held += amount
        self.open_holds += 1
        self.version += 1

    def end(self, amount: int, kind: str) -> None:
        """Capture, release, or capture late."""
        self.version += 1
        if kind in ("capture", "late_capture"):
            self.posted -= amount
        if kind in ("capture", "release"):
            self.held -= amount
            self.open_holds -= 1

    def credit(self, kind: str, amount: int, reference: str) -> str:
        """Return ``posted``, ``replayed`` or ``conflict``."""
        known = self.operations.get(reference)
        if known is not None:
            return "replayed" if known == (kind, amount) else "conflict"
        self.operations[reference] = (kind, amount)
        if kind == "credit_limit":
            self.limit = amount
        else:
            self.posted += amount
            self.version += 1
        return "posted"


@dataclass(slots=True)
class Attempt:
    """One try: what the carrier said, and what its receipt said."""

    outcome: str | None = None
    receipt: str | None = None

    @property
    def is_open(self) -> bool:
        return self.outcome in REACHED and self.receipt not in FINAL_WORDS


@dataclass(slots=True)
class Message:
    """A message of one part and its hold."""

    account: int
    amount: int
    charge: str
    delivery: str
    state: MessageState = S.QUEUED
    lock: str = "HELD"
    is_late_captured: bool = False
    is_late: bool = False
    is_possible_duplicate: bool = False
    tries: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    def row(self) -> tuple[object, ...]:
        """As the columns of message_states and credit_locks say it."""
        flags = (self.is_late_captured, self.is_late, self.is_possible_duplicate)
        return (self.state.value, self.lock, *flags, self.tries, len(self.attempts))

    def knows(self, event: MessageEvent) -> bool:
        return (self.state, event) in TRANSITIONS


@dataclass(frozen=True, slots=True)
class Want:
    """What one position of an accept call asks for."""

    account: int
    message: UUID
    key: str | None
    fingerprint: bytes
    amount: int
    max_price: int | None
    charge: str
    delivery: str


class Oracle:
    """All accounts and messages; each method is one function of the server, one position at a time."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.messages: dict[UUID, Message] = {}
        self.keys: dict[tuple[int, str], tuple[bytes, UUID, str | None]] = {}

    def accept(self, want: Want) -> tuple[str, UUID, str | None]:
        """Return the outcome, the message that answers, and the problem."""
        if want.message in self.messages:
            return "replayed", want.message, None
        known = self.keys.get((want.account, want.key)) if want.key is not None else None
        if known is not None:
            return self._known(want, *known)
        account = self.accounts[want.account]
        problem = account.refuses(want.amount, want.max_price)
        if want.key is not None:
            self.keys[want.account, want.key] = (want.fingerprint, want.message, problem)
        if problem is not None:
            return "refused", want.message, problem
        account.place(want.amount)
        self.messages[want.message] = Message(want.account, want.amount, want.charge, want.delivery)
        return "accepted", want.message, None

    def _known(
        self, want: Want, fingerprint: bytes, message: UUID, problem: str | None
    ) -> tuple[str, UUID, str | None]:
        if fingerprint != want.fingerprint:
            return "mismatch", message, None
        if problem is None:
            return "replayed", message, None
        return ("refused" if message == want.message else "refused_before"), message, problem

    def claim(self, message_id: UUID) -> str | None:
        """Return why the claim is refused; None when it is won."""
        message = self.messages[message_id]
        if not message.knows(MessageEvent.CLAIMED):
            return "stale"
        message.state = S.SENDING
        message.attempts.append(Attempt())
        return None

    def record(self, message_id: UUID, word: str) -> bool:
        """Record an outcome of the newest attempt; return whether the state moved (or had moved so)."""
        message = self.messages[message_id]
        attempt = message.attempts[-1]
        if attempt.outcome is not None and (attempt.outcome != "uncertain" or word == "uncertain"):
            return attempt.outcome == word
        attempt.outcome = word
        if word == "submitted" and message.charge == "submitted":
            self._end(message, "capture")
        if not message.knows(MessageEvent(word)):
            return False
        if word not in ("throttled", "unclaimed"):
            message.tries += 1
        self._after(message, word)
        return True

    def _after(self, message: Message, word: str) -> None:
        before = message.attempts[:-1]
        resend = message.delivery == "at_least_once" and not message.is_possible_duplicate
        if word == "submitted":
            message.state = S.SENT
        elif word in ("throttled", "unclaimed"):
            message.state = S.QUEUED
        elif word == "refused_temp":
            message.state = S.FAILED_TEMP
        elif word == "uncertain" and resend:
            message.state = S.QUEUED
            message.is_possible_duplicate = True
        elif word == "uncertain" or any(attempt.is_open for attempt in before):
            message.state = S.UNKNOWN
        else:
            # A refusal that ends the message counts as no try: there is none after it.
            message.tries -= 1
            self._finish(message, S.FAILED_PERM)

    def receipt(self, message_id: UUID, attempt_no: int, word: str) -> str:
        """Settle a receipt of an attempt; return its outcome."""
        message = self.messages[message_id]
        attempt = message.attempts[attempt_no - 1]
        if attempt.receipt in FINAL_WORDS:
            return "repeated"
        attempt.receipt = word
        if message.charge == "submitted" and word in TAKEN_WORDS:
            self._end(message, "capture")
        words = [each.receipt for each in message.attempts]
        if "delivered" in words:
            return self._delivered(message)
        if not any(each.is_open for each in message.attempts) and message.state in (
            S.SENT,
            S.UNKNOWN,
            S.SENDING,
        ):
            self._finish(message, S.EXPIRED if "expired" in words else S.UNDELIVERED)
            return "moved"
        return "noted"

    def _delivered(self, message: Message) -> str:
        if message.knows(MessageEvent.DELIVERED):
            self._end(message, "capture")
            message.state = S.DELIVERED
            return "moved"
        if message.state is S.DELIVERED or message.is_late:
            return "noted"
        message.is_late = True
        if message.lock != "RELEASED":
            return "late"
        self.accounts[message.account].end(message.amount, "late_capture")
        message.is_late_captured = True
        return "late_capture"

    def cancel(self, message_id: UUID) -> str:
        message = self.messages[message_id]
        may_be_there = any(attempt.is_open for attempt in message.attempts)
        if message.knows(MessageEvent.CANCELLED) and not may_be_there:
            self._finish(message, S.CANCELLED)
            return "cancelled"
        if message.state is S.CANCELLED:
            return "already_cancelled"
        return "already_final" if message.state.is_final else "already_sending"

    def expire_due(self, message_id: UUID) -> bool:
        """The validity is over, and so is every wait for an outcome."""
        message = self.messages[message_id]
        if message.state is S.UNKNOWN:
            self._finish(message, S.FAILED_PERM)
        elif message.knows(MessageEvent.VALIDITY_ENDED):
            self._finish(message, S.EXPIRED)
        else:
            return False
        return True

    def expire_hold(self, message_id: UUID, policy: str) -> bool:
        """No receipt came: the carrier's policy ends the hold."""
        message = self.messages[message_id]
        if message.state is not S.SENT:
            return False
        self._finish(message, S.EXPIRED, policy)
        return True

    def _finish(self, message: Message, state: MessageState, kind: str = "release") -> None:
        self._end(message, kind)
        message.state = state

    def _end(self, message: Message, kind: str) -> None:
        if message.lock == "HELD":
            self.accounts[message.account].end(message.amount, kind)
            message.lock = "CAPTURED" if kind == "capture" else "RELEASED"
