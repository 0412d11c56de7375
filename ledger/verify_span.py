"""Which entries a pass of a verification looks at."""

from dataclasses import dataclass
from datetime import date
from typing import Final

FIRST: Final = -(2**62)
LAST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Span:
    """Entries of days [from_day, to_day) of accounts [low, high], perhaps only versions (after, up_to]."""

    from_day: date
    to_day: date = date.max
    low: int = FIRST
    high: int = LAST
    after: int = 0
    up_to: int = LAST
