"""A service that the tests of run_service start and signal.

``python -m tests.support.stoppable_service KIND [GRACE_SECONDS]`` prints a JSON log line for what it
does. Its kinds: ``steady`` works until the stop; ``slow`` ignores the stop and can only be cancelled;
``stubborn`` ignores even that; ``failing`` has one loop that raises while its sibling is busy; ``ending``
has a loop that returns early; ``idle`` has none; ``unopened`` never opens; ``broken`` fails to open;
``undrained`` never finishes closing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from shared.runtime import loops
from shared.runtime.loops import Loop, Stop, run_service

log = structlog.get_logger("test")


async def steady(stop: Stop) -> None:
    log.info("working")
    await stop.wait()
    log.info("finished")


async def slow(stop: Stop) -> None:
    log.info("working")
    try:
        await asyncio.Event().wait()
    finally:
        log.info("cleaned up")


async def stubborn(stop: Stop) -> None:
    log.info("working")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.info("ignored")


async def failing(stop: Stop) -> None:
    raise RuntimeError("the disk is full")


async def ending(stop: Stop) -> None:
    log.info("returned")


LOOPS: dict[str, list[Loop]] = {
    "steady": [steady],
    "slow": [slow],
    "stubborn": [stubborn],
    "failing": [steady, failing],
    "ending": [steady, ending],
    "idle": [],
}


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Sequence[Loop]]:
    log.info("opening")
    if kind == "unopened":
        await asyncio.Event().wait()
    if kind == "broken":
        raise ConnectionRefusedError("no answer on port 5432")
    try:
        yield LOOPS.get(kind, [steady])
    finally:
        log.info("closing")
        if kind == "undrained":
            await asyncio.Event().wait()
    log.info("closed")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        loops.GRACE_SECONDS = float(sys.argv[2])  # type: ignore[misc] # shorter than a test may take
    loops.FIRM_SECONDS = 1.0  # type: ignore[misc] # shorter than a test may take
    sys.exit(run_service("test", partial(opened, sys.argv[1])))
