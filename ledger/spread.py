"""How the steps of a round that never ends are spread over time."""

from dataclasses import dataclass
from typing import Final

# A step's work is a hundredth of the time until the next one, so that large books cost an idle installation
# as little as small ones do.
TIMES_MAX: Final = 100.0
# Books so large that a round would then take longer go faster, as fast as the steps may.
ROUND_MAX_SECONDS: Final = 1_800.0
# A step that took long in a slow hour is no reason to stand still for long.
STEP_MAX_SECONDS: Final = 300.0


@dataclass(slots=True)
class Spread:
    """By what the last round cost, or this one if that is more by now. Nothing holds the first one up."""

    _worked_seconds: float = 0.0
    _last_seconds: float | None = None

    def step(self, worked_seconds: float) -> float:
        """Count the work of a step; return how long after its beginning the next one is due."""
        self._worked_seconds += worked_seconds
        if not self._last_seconds:
            return 0.0
        times = min(TIMES_MAX, ROUND_MAX_SECONDS / max(self._last_seconds, self._worked_seconds))
        return min(worked_seconds * times, STEP_MAX_SECONDS)

    def end(self) -> None:
        """The round is over."""
        self._last_seconds, self._worked_seconds = self._worked_seconds, 0.0
