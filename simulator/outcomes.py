"""What the simulated carrier can do with a message: a named outcome is a small script.

Pure. A script says how the submit is answered, whether the message was taken, and which receipts follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType


class Outcome(StrEnum):
    """The names that rules and magic numbers use; the table in docs/simulator.md explains each."""

    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"
    EXPIRED = "expired"
    REJECTED = "rejected"
    SILENT = "silent"
    ENROUTE_THEN_DELIVERED = "enroute_then_delivered"
    UNKNOWN_STATE = "unknown_state"
    REFUSED = "refused"
    TEMPORARY = "temporary"
    ALWAYS_TEMPORARY = "always_temporary"
    THROTTLED = "throttled"
    ALWAYS_THROTTLED = "always_throttled"
    SLOW = "slow"
    NO_ANSWER = "no_answer"
    NO_ANSWER_LOST = "no_answer_lost"
    CLOSES = "closes"
    CLOSES_LOST = "closes_lost"
    CLOSES_MID_REPLY = "closes_mid_reply"
    GARBAGE = "garbage"
    RECEIPT_FIRST = "receipt_first"
    RECEIPT_TWICE = "receipt_twice"
    UNDELIVERED_AFTER_DELIVERED = "undelivered_after_delivered"
    DELIVERED_AFTER_UNDELIVERED = "delivered_after_undelivered"
    ENROUTE_AFTER_DELIVERED = "enroute_after_delivered"
    LATE_RECEIPT = "late_receipt"
    DUPLICATE_REFERENCE = "duplicate_reference"
    UNKNOWN_REFERENCE = "unknown_reference"


class Fault(StrEnum):
    """What happens to the reply, whether or not the message was taken."""

    NONE = "none"
    HANG = "hang"
    CLOSE = "close"
    CLOSE_MID_REPLY = "close_mid_reply"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a submit is refused: the HTTP status, the carrier's code, and the wait it asks for."""

    status: int
    code: str
    text: str
    retry_after_seconds: int | None = None


REFUSED_FOR_GOOD = Failure(422, "unknown_number", "there is no such subscriber")
TRY_AGAIN = Failure(503, "try_again", "the subscriber's exchange is busy")
TOO_FAST = Failure(429, "too_fast", "slower, please", retry_after_seconds=1)
RATE_LIMITED = Failure(429, "rate_limited", "more submits a second than agreed", retry_after_seconds=1)
FULL = Failure(503, "full", "too many receipts are waiting to be sent", retry_after_seconds=1)


@dataclass(frozen=True, slots=True)
class Step:
    """One receipt: its state, and how long after the usual receipt delay it is sent."""

    state: str
    after_seconds: float = 0.0
    error: str | None = None
    has_foreign_reference: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """What happens to one message.

    `failure` answers the first `fails` submits of it (None: every one). Then it is taken, if `takes`; the
    reply suffers `fault` and is `slow_seconds` late; `receipts` follow, or come first if `receipts_first`.
    """

    receipts: tuple[Step, ...] = (Step("delivered"),)
    failure: Failure | None = None
    fails: int | None = None
    takes: bool = True
    fault: Fault = Fault.NONE
    slow_seconds: float = 0.0
    receipts_first: bool = False
    shares_reference: bool = False


# Far enough apart to be two POSTs, near enough for a test.
APART_SECONDS = 0.2
SLOW_SECONDS = 2.0
# Late for a test. For want of a receipt no hold is ended within ten minutes: to see that, a rule names more.
LATE_SECONDS = 10.0
UNKNOWN_SUBSCRIBER = "005"

_DELIVERED = Step("delivered")
_UNDELIVERED = Step("undelivered", error=UNKNOWN_SUBSCRIBER)

SCRIPTS: Mapping[Outcome, Script] = MappingProxyType(
    {
        Outcome.DELIVERED: Script(),
        Outcome.UNDELIVERABLE: Script((_UNDELIVERED,)),
        Outcome.EXPIRED: Script((Step("expired"),)),
        Outcome.REJECTED: Script((Step("rejected", error="009"),)),
        Outcome.SILENT: Script(()),
        Outcome.ENROUTE_THEN_DELIVERED: Script(
            (Step("accepted"), Step("enroute"), Step("delivered", APART_SECONDS))
        ),
        Outcome.UNKNOWN_STATE: Script((Step("unknown"),)),
        Outcome.REFUSED: Script(failure=REFUSED_FOR_GOOD),
        Outcome.TEMPORARY: Script(failure=TRY_AGAIN, fails=1),
        Outcome.ALWAYS_TEMPORARY: Script(failure=TRY_AGAIN),
        Outcome.THROTTLED: Script(failure=TOO_FAST, fails=1),
        Outcome.ALWAYS_THROTTLED: Script(failure=TOO_FAST),
        Outcome.SLOW: Script(slow_seconds=SLOW_SECONDS),
        Outcome.NO_ANSWER: Script(fault=Fault.HANG),
        Outcome.NO_ANSWER_LOST: Script(fault=Fault.HANG, takes=False),
        Outcome.CLOSES: Script(fault=Fault.CLOSE),
        Outcome.CLOSES_LOST: Script(fault=Fault.CLOSE, takes=False),
        Outcome.CLOSES_MID_REPLY: Script(fault=Fault.CLOSE_MID_REPLY),
        Outcome.GARBAGE: Script(fault=Fault.GARBAGE),
        Outcome.RECEIPT_FIRST: Script(receipts_first=True),
        Outcome.RECEIPT_TWICE: Script((_DELIVERED, _DELIVERED, Step("delivered", APART_SECONDS))),
        Outcome.UNDELIVERED_AFTER_DELIVERED: Script(
            (_DELIVERED, replace(_UNDELIVERED, after_seconds=APART_SECONDS))
        ),
        Outcome.DELIVERED_AFTER_UNDELIVERED: Script((_UNDELIVERED, Step("delivered", APART_SECONDS))),
        Outcome.ENROUTE_AFTER_DELIVERED: Script((_DELIVERED, Step("enroute", APART_SECONDS))),
        Outcome.LATE_RECEIPT: Script((Step("delivered", LATE_SECONDS),)),
        Outcome.DUPLICATE_REFERENCE: Script(shares_reference=True),
        Outcome.UNKNOWN_REFERENCE: Script((Step("delivered", has_foreign_reference=True), _DELIVERED)),
    }
)


def script_for(outcome: Outcome, times: int | None, seconds: float | None) -> Script:
    """Return the script of an outcome.

    `times`: how often `temporary` and `throttled` fail first. `seconds`: how late the answer of `slow` and
    the receipt of `late_receipt` are. Both do nothing elsewhere.
    """
    script = SCRIPTS[outcome]
    if times is not None and script.fails is not None:
        script = replace(script, fails=times)
    if seconds is not None and outcome is Outcome.SLOW:
        script = replace(script, slow_seconds=seconds)
    if seconds is not None and outcome is Outcome.LATE_RECEIPT:
        script = replace(script, receipts=(Step("delivered", seconds),))
    return script
