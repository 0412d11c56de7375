"""What is submitted to a carrier, whichever it is."""

from typing import NamedTuple, Self
from uuid import UUID

from shared.domain.alphabet import Encoding


class Submission(NamedTuple):
    """One thing to submit: a whole message, or one part of it for carriers that split.

    `msisdn` is in E.164 with its plus, `text` exact (never cut, never normalised), `segments` what the client
    pays for. `deadline_seconds` and `valid_for_seconds` are what is left when `submit_many` is called, of the
    claim's deadline and of the message's validity (None: it has none). No byte is written after half of the
    one or the end of the other, and nobody waits for an answer beyond the deadline (RULES 16).
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
    deadline_seconds: float

    def later(self, seconds: float) -> Self:
        """Return the same when so many seconds have gone by."""
        valid = self.valid_for_seconds
        return self._replace(
            valid_for_seconds=None if valid is None else valid - seconds,
            deadline_seconds=self.deadline_seconds - seconds,
        )

    @property
    def write_within_seconds(self) -> float:
        """In how many seconds it may still be written; 0 or less: not any more."""
        half = self.deadline_seconds / 2
        return half if self.valid_for_seconds is None else min(half, self.valid_for_seconds)

    @property
    def is_over(self) -> bool:
        """True when its validity has ended."""
        return self.valid_for_seconds is not None and self.valid_for_seconds <= 0
