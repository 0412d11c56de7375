"""Time as a test had it: what the machine stood still does not count.

When a loop comes back from a pause, what came from its sockets and all its timers are due at once, so a bound
in wall time ends what would have been there long before. Here a pause counts as one late tick, while what
really waits too long is still seen.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

TICK_SECONDS = 0.01
# What a tick that came late counts for at most. It is late too where code keeps the loop to itself, so that
# is not seen: measure such code by its processor time.
LATE_TICK_SECONDS = 0.05


@asynccontextmanager
async def own_time(
    noted: Callable[[float], None] = lambda _seconds: None,
) -> AsyncIterator[Callable[[], float]]:
    """Yield what tells the seconds since then; ``noted`` hears them at each tick."""
    clock = asyncio.get_running_loop().time
    seconds, last = 0.0, clock()

    def own() -> float:
        nonlocal seconds, last
        now = clock()
        seconds += min(now - last, LATE_TICK_SECONDS)
        last = now
        return seconds

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            noted(own())

    ticking = asyncio.create_task(tick())
    try:
        yield own
    finally:
        ticking.cancel()


@asynccontextmanager
async def within_own(seconds: float) -> AsyncIterator[None]:
    """Bound what is done by so many seconds of its own time.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()

    def note(own_seconds: float) -> None:
        if own_seconds > seconds and bound.when() is None:
            bound.reschedule(loop.time())

    async with asyncio.timeout(None) as bound, own_time(note):
        yield
