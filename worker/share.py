"""Whom the places of a window wait for, of late: the carrier, or our own claims (docs/adr/0017)."""

import time
from math import exp
from typing import Final

# What was so long ago counts for a third of what is now. Long enough for some rounds of claim and answer: a
# small window goes in step, and at any one instant all or none of its places are at the carrier. Short enough
# that a database that stops is seen as long as it is known what the carrier took before (worker/pace.py).
MEMORY_SECONDS: Final = 0.7


class Share:
    """Which part of the time for which places are taken their messages are at the carrier."""

    def __init__(self) -> None:
        self._taken = 0
        self._submitted = 0
        self._taken_lately = 0.0
        self._submitted_lately = 0.0
        self._noted_at = time.monotonic()

    def note(self, *, taken: int = 0, submitted: int = 0) -> None:
        """Note that so many places more are taken from now on, so many more at the carrier; or less."""
        self._count()
        self._taken += taken
        self._submitted += submitted

    def of_carrier(self) -> float:
        """Return it for the last second or so, 0 to 1; 0 when no place was taken ever."""
        self._count()
        return self._submitted_lately / self._taken_lately if self._taken_lately else 0.0

    def _count(self) -> None:
        """Bring the means up to now; the present counts the more, the longer it has lasted."""
        now = time.monotonic()
        kept = exp((self._noted_at - now) / MEMORY_SECONDS)
        self._noted_at = now
        self._taken_lately = self._taken + kept * (self._taken_lately - self._taken)
        self._submitted_lately = self._submitted + kept * (self._submitted_lately - self._submitted)
