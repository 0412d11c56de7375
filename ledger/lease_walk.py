"""Where the walk over all leases has come to, from the longest to those in their last minute."""

from datetime import UTC, datetime
from typing import Final

FROM_THE_LONGEST: Final = datetime.max.replace(tzinfo=UTC)
# A stream that lost what it had and is the same by its age (it was purged, or put back from an older copy) is
# noticed by a walk alone. It costs some 20 ms for 20,000 rows, and makes due what no call could work on and
# was put off for up to an hour: so not each minute.
WALK_EVERY_SECONDS: Final = 300.0


class LeaseWalk:
    """A walk in each life of the stream, since nothing of an earlier one is there, and others now and then.

    A process that is new knows of no life of it, and begins with one.
    """

    def __init__(self) -> None:
        self._of = 0
        self._before: datetime | None = None
        self._began_at = 0.0

    def place(self, incarnation: int, now: float) -> datetime | None:
        """Return before which moment it goes on, None while it rests. ``now`` is of the monotonic clock."""
        is_rested = self._before is None and now - self._began_at >= WALK_EVERY_SECONDS
        if is_rested or self._of != incarnation:
            self._began_at = now
            self._of, self._before = incarnation, FROM_THE_LONGEST  # also where the first look fails
        return self._before

    def has_come_to(self, incarnation: int, before: datetime | None) -> None:
        """Remember where it goes on in this life of the stream; None: it is over."""
        self._of, self._before = incarnation, before

    @property
    def is_over(self) -> bool:
        """Whether all were looked at."""
        return self._before is None
