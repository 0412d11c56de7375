"""Those of a lane who wait for one carrier: how long they may, and when they come back (docs/adr/0017)."""

import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

# So long a carrier may let a lane wait; then the lane's other carriers go on.
SHORT_SECONDS: Final = 1.0
# Some work may wait longer, beside the lane, so that the carrier never runs out of it. It stays in the stream
# meanwhile, and makes the lane's oldest message old: far less than a lease.
LONG_SECONDS: Final = 10.0
LONG_MAX: Final = 2
# How often those who wait look whether the worker stops, or their carrier has changed.
LOOK_SECONDS: Final = 1.0
# What was put off is due when the carrier should get to it, and no later than this: four seconds doubled with
# each dispatch, up to five minutes. Work that comes back too early costs two calls, work that comes too late
# leaves the carrier idle.
PUT_OFF_MIN_SECONDS: Final = 1.0
PUT_OFF_FIRST_SECONDS: Final = 4.0
PUT_OFF_MAX_SECONDS: Final = 300.0
DOUBLINGS_MAX: Final = 7


class Line:
    """One lane's line at one carrier."""

    def __init__(self) -> None:
        self.long_waiting = 0
        self._free_at = 0.0

    def put_off_seconds(self, dispatch_numbers: Sequence[int], per_second: float) -> list[float]:
        """Return in how many seconds each is due again, at a carrier that takes so many a second."""
        now = time.monotonic()
        seconds = []
        for number in dispatch_numbers:
            self._free_at = max(self._free_at, now + PUT_OFF_MIN_SECONDS) + 1.0 / per_second
            self._free_at = min(self._free_at, now + PUT_OFF_MAX_SECONDS)
            most = min(PUT_OFF_FIRST_SECONDS * 2.0 ** min(number, DOUBLINGS_MAX), PUT_OFF_MAX_SECONDS)
            spread = most * (0.5 + random.random() / 2)  # noqa: S311 - spreads what comes back, keeps no secret
            seconds.append(min(self._free_at - now, spread))
        return seconds


class Wait:
    """One group's wait in a line, from the time it came. A context: leaving it leaves the line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._began_at = time.monotonic()
        self._is_long = False
        # Since when it has asked for the places that it has not got yet.
        self.asked_at = self._began_at
        # What does not go at once is put off.
        self.is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_long:
            self._line.long_waiting -= 1

    def seconds(self, *, is_patient: bool) -> float:
        """Return how long it may wait now, until it asks again.

        Where others wait long already, nobody waits behind them. ``is_patient``: it is not the carrier that
        they wait for, or there is no other; then it waits as long as it takes.
        """
        seconds = LOOK_SECONDS if is_patient else self._seconds()
        self.is_over = seconds == 0.0
        return seconds

    def _seconds(self) -> float:
        waited = time.monotonic() - self._began_at
        if not self._is_long:
            if self._line.long_waiting >= LONG_MAX:
                return 0.0
            if waited < SHORT_SECONDS:
                return SHORT_SECONDS - waited
            self._is_long = True
            self._line.long_waiting += 1
        return min(LOOK_SECONDS, max(LONG_SECONDS - waited, 0.0))
