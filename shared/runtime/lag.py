"""How late the event loop comes to what is due."""

import asyncio
import time
from typing import Final, NoReturn

from shared.runtime import metrics
from shared.runtime.ticks import until_tick

INTERVAL_SECONDS: Final = 1.0


async def measure_lag() -> NoReturn:
    """Observe it now and again, until cancelled."""
    while True:
        pause_seconds = until_tick(INTERVAL_SECONDS)
        due = time.monotonic() + pause_seconds
        await asyncio.sleep(pause_seconds)
        metrics.LOOP_LAG.observe(max(time.monotonic() - due, 0.0))
