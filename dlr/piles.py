"""What the sweeps of callbacks know of the piles in PostgreSQL: which are deep, and where to go on.

A dead endpoint's pile hides nobody's, and costs little. So a sweep takes few of an endpoint until it has
shown that there is more of it, and goes round all of them: who was cut off by one is the first of the next.
Deep piles share a sweep; one alone gets half of it, so that there is always room for those with few.
"""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import Final

# What a sweep takes, and of one endpoint. Few of one of which the last sweep did not take as many: they may
# show that it takes none.
SWEEP_MAX: Final = 1_000
SWEEP_FIRST: Final = 20
SWEEP_EACH: Final = 200
SWEEP_LONE: Final = SWEEP_MAX // 2


class Piles:
    """The memory of one process's sweeps."""

    def __init__(self) -> None:
        self._deep: set[int] = set()
        self._after = 0

    @property
    def after(self) -> int:
        """Where the last sweep was cut off: endpoints with higher ids come first, then the others."""
        return self._after

    def deep(self) -> dict[int, int]:
        """What may be taken of endpoints of which few are not enough."""
        share = SWEEP_MAX // max(len(self._deep), 1)
        return dict.fromkeys(self._deep, min(max(SWEEP_EACH, share), SWEEP_LONE))

    def learn(self, owners: Sequence[int], limit: int, rooms: Mapping[int, int]) -> None:
        """Note what a sweep has leased.

        ``owners``: the endpoint of each callback, in any order. ``rooms``: what was asked of an endpoint
        where that was not ``SWEEP_FIRST``. Of endpoints that the sweep did not get to it says nothing.
        """
        taken = Tally(owners)
        after = self._after
        last = max(taken, key=lambda one: (one <= after, one)) if len(owners) >= limit else None

        def is_as_deep(one: int) -> bool:
            was_reached = last is None or (one <= after, one) < (last <= after, last)
            return not was_reached or 0 < rooms.get(one, SWEEP_FIRST) <= taken[one]

        self._deep = {one for one in self._deep if is_as_deep(one)}
        self._deep.update(one for one, number in taken.items() if number >= SWEEP_FIRST)
        self._after = last or 0
