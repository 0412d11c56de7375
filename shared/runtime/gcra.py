"""The generic cell rate algorithm: one number a subject says how much of its quota is used.

The number is the theoretical arrival time (TAT): when the subject's bucket would be full again if it
stopped now. The same arithmetic stands in ``api/limit_script.py``; a test holds the two together. Times are
µs, and ``now`` is a whole number of them.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from msgspec import Struct

MICROSECONDS = 1_000_000
# One subject is about 150 bytes: 15 MB, and an attacker with more addresses only evicts idle ones first.
SUBJECTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests a minute, of which ``burst`` may come at once."""

    requests_per_minute: int
    burst: int
    interval_us: float = field(init=False)
    """The time that one request uses up, in quarters of a µs: doubles add those exactly for decades."""

    def __post_init__(self) -> None:
        """Work the interval out once."""
        interval_us = max(1, round(240 * MICROSECONDS / self.requests_per_minute)) / 4
        object.__setattr__(self, "interval_us", interval_us)

    @property
    def burst_window_seconds(self) -> int:
        """How long an exhausted burst takes to be whole again, rounded up."""
        return -(-self.burst * 60 // self.requests_per_minute)


class Taken(Struct, frozen=True, gc=False):
    """The answer to one request: whether it may go on, and what is left."""

    is_allowed: bool
    remaining: int
    reset_us: float
    """Until the whole burst is there again."""
    retry_us: float
    """Until the next request may come; 0 when this one may."""


def decide(
    tat_us: float, now_us: float, interval_us: float, burst: int, count: int = 1
) -> tuple[Taken, float]:
    """Return the answer for one more request, or ``count`` at once, and the TAT to keep.

    A refused request uses up nothing: its TAT is the one it found, or the end of a burst from now. What lies
    beyond that is no TAT of this quota and this clock: the quota was raised, or the clock went back.
    """
    found = tat_us if tat_us > now_us else now_us  # noqa: FURB136 - twice a request, and a call costs more
    after = found + count * interval_us
    room_us = burst * interval_us - (after - now_us)
    if room_us < 0:
        full = now_us + burst * interval_us
        if found > full:
            found, room_us = full, -count * interval_us
        return Taken(False, 0, found - now_us, -room_us), found
    return Taken(True, int(room_us / interval_us), after - now_us, 0), after


class LocalLimiter:
    """Limits that this process keeps by itself, for at most ``subjects_max`` subjects."""

    def __init__(self, subjects_max: int = SUBJECTS_MAX) -> None:
        self._subjects_max = subjects_max
        self._tats: OrderedDict[str, float] = OrderedDict()

    def take(self, subject: str, quota: Quota, now_us: float, count: int = 1) -> Taken:
        """Use up one request of the subject's quota, or all of ``count``, or say how long to wait."""
        tat_us = self._tats.get(subject, 0.0)
        taken, tat_us = decide(tat_us, int(now_us), quota.interval_us, quota.burst, count)
        self._tats[subject] = tat_us
        self._tats.move_to_end(subject)
        if len(self._tats) > self._subjects_max:
            self._tats.popitem(last=False)
        return taken

    def peek(self, subject: str, quota: Quota, now_us: float) -> Taken:
        """Say what `take` would answer, without using anything up."""
        return decide(self._tats.get(subject, 0.0), int(now_us), quota.interval_us, quota.burst)[0]

    def give_back(self, subject: str, quota: Quota) -> None:
        """Return one request that turned out not to be work (RULES 13)."""
        if subject in self._tats:
            self._tats[subject] -= quota.interval_us

    def __len__(self) -> int:
        return len(self._tats)
