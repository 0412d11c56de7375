"""What every carrier takes and answers.

A carrier never raises for a fault of the company at the other end, and never invents certainty. Two
questions decide every failure: can any byte have left, and did the carrier itself say no?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from shared.domain.submission import Submission

__all__ = [
    "AWAY",
    "BUSY",
    "FREELY",
    "GIVEN_BACK",
    "TOO_LATE",
    "UNREACHABLE",
    "Carrier",
    "Handover",
    "Outcome",
    "Refused",
    "Submission",
    "Submitted",
    "Throttled",
    "Uncertain",
    "is_try",
]

# Codes of refusals that are ours: nothing was written, so the message may go out again, here or elsewhere.
# That nobody could be connected to is the carrier's fault, and a try. That none of our connections was free
# in time says nothing of the carrier, which may be slow or hang, and is no try.
UNREACHABLE = "carrier_unreachable"
BUSY = "carrier_busy"


@dataclass(frozen=True, slots=True)
class Submitted:
    """The carrier took it; `reference` is its name for it."""

    reference: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The carrier certainly did not take it. `permanent`: nor would it the next time.

    `is_ours`: it never reached the carrier, and the code is one of ours above. A carrier's own code may be
    spelled like one.
    """

    code: str
    detail: str
    permanent: bool
    is_ours: bool = False

    @property
    def is_busy(self) -> bool:
        """True when none of our connections was free in time: it had no try."""
        return self.is_ours and self.code == BUSY


@dataclass(frozen=True, slots=True)
class Throttled:
    """The carrier certainly did not take it and wants us slower; the wait it asked for, if it did."""

    retry_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Bytes may have left and no answer settles what became of them. Never blindly repeated."""

    detail: str


# Nothing was written, since the message's validity had ended: it is of no use to another carrier either.
TOO_LATE = Refused(BUSY, "its validity ended before it could be written", permanent=False, is_ours=True)

# Nothing was written, since the carrier does not answer the others: it, or another carrier, is asked later.
AWAY = Refused(BUSY, "its answers are lost, and nothing more is written to it", permanent=False, is_ours=True)
# Nothing was written, since the worker stops or the carrier's row has changed: another worker, or the same by
# the new row, may have it at once.
GIVEN_BACK = Refused(BUSY, "it was given back before it was written", permanent=False, is_ours=True)

Outcome = Submitted | Refused | Throttled | Uncertain


def is_try(outcome: Outcome) -> bool:
    """Return True when it uses up one of the message's tries."""
    return not (isinstance(outcome, Throttled) or (isinstance(outcome, Refused) and outcome.is_busy))


class Handover:
    """What a carrier asks and tells while it submits. This one lets everything go, and hears nothing.

    ``is_urgent``: what waits for its turn at the carrier goes before the others, at least every other time.
    """

    is_urgent = False

    def refusal(self) -> Refused | None:
        """Return why nothing more may be written now, or None. Asked right before each first byte."""
        return None

    def answered(self, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        """Take what became of some, as soon as it is known; once for each submission."""


FREELY: Final = Handover()


class Carrier(Protocol):
    """One company's way of taking messages, open while entered."""

    name: str

    @property
    def at_once_max(self) -> int:
        """How many messages it can have unanswered: what is handed over beyond them waits."""
        ...

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        """Submit all, and answer for each position.

        Writes nothing that the handover refuses, and answers that refusal for it. Never raises for a
        carrier's fault. When it is cancelled nothing stays open, and what became of the submissions is not
        known: the attempt journal says which they were.
        """
        ...

    def turn_away(self) -> None:
        """Ask the handovers of all that waits to be written, and answer at once for what they refuse."""
        ...

    async def __aenter__(self) -> Self:
        """Make ready to submit. Does not wait for the carrier to be there."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        ...
