"""What is submitted to a carrier, whichever it is."""

from typing import NamedTuple, Self
from uuid import UUID

from shared.domain.alphabet import Encoding


class Submission(NamedTuple):
    """One thing to submit: a whole message, or one part of it for carriers that split.

    `msisdn` is in E.164 with its plus, `text` exact (never cut, never normalised), `segments` what the client
    pays for. `half_seconds`, `deadline_seconds` and `valid_for_seconds` are what was left at `asked_at`, in
    seconds on the clock that goes on in a suspend (shared/runtime/clock.py): until half of the claim's
    deadline, until its end, and of the message's validity (None: it has none). No byte is written after the
    first or the last; nobody waits for an answer beyond the deadline (RULES 16).
    """

    message_id: UUID
    attempt_no: int
    part_no: int
    msisdn: str
    sender: str
    text: str
    encoding: Encoding
    segments: int
    valid_for_seconds: float | None
    half_seconds: float
    deadline_seconds: float
    asked_at: float

    def later(self, seconds: float) -> Self:
        """Return the same when so many seconds have gone by since ``asked_at``."""
        valid = self.valid_for_seconds
        return self._replace(
            valid_for_seconds=None if valid is None else valid - seconds,
            half_seconds=self.half_seconds - seconds,
            deadline_seconds=self.deadline_seconds - seconds,
            asked_at=self.asked_at + seconds,
        )

    @property
    def write_within_seconds(self) -> float:
        """In how many seconds it may still be written; 0 or less: not any more."""
        valid = self.valid_for_seconds
        return self.half_seconds if valid is None else min(self.half_seconds, valid)

    @property
    def is_over(self) -> bool:
        """True when its validity has ended."""
        return self.valid_for_seconds is not None and self.valid_for_seconds <= 0
