"""Waiting for what gives no event: another process's file, a row of the database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

POLL_SECONDS: Final = 0.02


async def until(question: Callable[[], Awaitable[bool]], limit_seconds: float) -> bool:
    """Ask again and again until the answer is yes; False when it is still no after so long."""
    end = time.monotonic() + limit_seconds
    while not await question():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
