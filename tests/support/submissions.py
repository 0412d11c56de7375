"""Submissions for tests of carriers."""

from typing import Any
from uuid import UUID

from shared.domain.alphabet import Encoding
from shared.runtime.clock import running_seconds
from worker.carriers.base import Submission

MSISDN = "+4915112345678"
REFUSED_MSISDN = "+4915112345679"


def submission(
    number: int = 1, *, text: str = "Your code is 123456", msisdn: str = MSISDN, **changed
) -> Submission:
    """The `number` makes the message id."""
    fields: dict[str, Any] = {
        "message_id": UUID(int=(0x0193_0000_0000_7000_8000 << 48) + number),
        "attempt_no": 1,
        "part_no": 1,
        "msisdn": msisdn,
        "sender": "ACME",
        "text": text,
        "encoding": Encoding.GSM7,
        "segments": 1,
        "valid_for_seconds": 600,
        "deadline_seconds": 60.0,
        "asked_at": running_seconds(),
    }
    fields |= changed
    return Submission(**({"half_seconds": fields["deadline_seconds"] / 2} | fields))


def submissions(count: int) -> list[Submission]:
    """Some of them, with different ids."""
    return [submission(number) for number in range(1, count + 1)]
