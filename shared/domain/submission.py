"""What is submitted to a carrier, whichever it is."""

from typing import NamedTuple
from uuid import UUID

from shared.domain.alphabet import Encoding


class Submission(NamedTuple):
    """One thing to submit: a whole message, or one part of it for carriers that split.

    `msisdn` is in E.164 with its plus, `text` exact (never cut, never normalised), `segments` what the client
    pays for. `deadline_seconds` is what is left of the claim's deadline when `submit_many` is called: no byte
    is written after half of it, and nobody waits for an answer beyond it (RULES 16).
    """

    message_id: UUID
    attempt_no: int
    part_no: int
    msisdn: str
    sender: str
    text: str
    encoding: Encoding
    segments: int
    valid_for_seconds: int | None
    deadline_seconds: float
