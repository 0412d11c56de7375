"""The arithmetic of a result: percentiles, medians with their spread, ratios."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or the share is none.
    """
    if not ascending or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share} of {len(ascending)} values")
    return ascending[max(math.ceil(share * len(ascending)), 1) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def width(self) -> float:
        """How far the rounds lie apart, as a share of the median; 0 when that is 0."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median of the rounds and their ends.

    Raises:
        ValueError: there was no round.
    """
    if not values:
        raise ValueError("no rounds")
    return Spread(median(values), min(values), max(values), len(values))


def ratio(ours: Sequence[float], yardstick: Sequence[float]) -> Spread:
    """Return ours to the yardstick's, round by round where there are as many, else by the medians.

    Raises:
        ValueError: there was no round, or the yardstick measured nothing.
    """
    if not ours or not yardstick or min(yardstick) <= 0:
        raise ValueError("a ratio needs rounds of both, and a yardstick above 0")
    if len(ours) == len(yardstick):
        return spread_of([one / other for one, other in zip(ours, yardstick, strict=True)])
    return spread_of([median(ours) / median(yardstick)])
