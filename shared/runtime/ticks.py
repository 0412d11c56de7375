"""Waits of a process that end at the same moments: a wake-up costs more than most of what it is for."""

import random
import time
from typing import Final

# What comes once in so long or more seldom may come a little sooner.
TICK_MS: Final = 500
# Processes of one machine keep apart, or they would all ask the database at once.
_PHASE_MS: Final = random.randrange(TICK_MS)  # noqa: S311 - no secret


def until_tick(seconds: float) -> float:
    """How long to wait instead of ``seconds``, so that others that wait are woken in the same moment.

    Never longer, and less by a tick at most. ``seconds`` as they are where that would halve them, and where
    they are shorter than a tick.
    """
    # In whole milliseconds, as the event loop's timers count: else two of a tick are woken one by one.
    now_ms, most_ms = int(time.monotonic() * 1_000), int(seconds * 1_000)
    wait_ms = most_ms - (now_ms + most_ms - _PHASE_MS) % TICK_MS
    return wait_ms / 1_000 if 2 * wait_ms >= most_ms >= TICK_MS else seconds
