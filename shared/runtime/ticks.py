"""Waits of a process that end at the same moments: a wake-up costs more than most of what it is for."""

import random
import time
from typing import Final

# What comes once in so long or more seldom may come a little sooner or later.
TICK_MS: Final = 500
# Processes of one machine keep apart, or they would all ask the database at once.
_PHASE_MS: Final = random.randrange(TICK_MS)  # noqa: S311 - no secret


def until_tick(seconds: float) -> float:
    """How long to wait instead of ``seconds``, so that others that wait are woken in the same moment.

    At most half a tick less or more; what is shorter than a tick stays as it is.
    """
    if seconds * 1_000 < TICK_MS:
        return seconds
    # In whole milliseconds, as the event loop's timers count: else two of a tick are woken one by one.
    now_ms = time.monotonic_ns() // 1_000_000
    ticks = round((now_ms + seconds * 1_000 - _PHASE_MS) / TICK_MS)
    return (ticks * TICK_MS + _PHASE_MS - now_ms) / 1_000
