"""A pause of the machine is not counted against what a test bounds; what takes too long is."""

import asyncio
import time

import pytest

from tests.support.own_time import LATE_TICK_SECONDS, own_time, within_own

PAUSE_SECONDS = 0.5


async def test_what_is_waited_for_counts() -> None:
    begun = time.monotonic()
    async with asyncio.timeout(20), own_time() as own:
        while own() < 0.2:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun >= 0.2


async def test_a_pause_counts_as_one_late_tick() -> None:
    async with own_time() as own:
        for _ in range(3):
            time.sleep(PAUSE_SECONDS)  # noqa: ASYNC251 - the machine stands still
            await asyncio.sleep(0)
        assert own() <= 6 * LATE_TICK_SECONDS


async def test_what_answers_across_a_pause_is_in_time() -> None:
    async def answer() -> str:
        await asyncio.sleep(0.1)
        return "in time"

    async with within_own(0.4):
        answering = asyncio.create_task(answer())
        await asyncio.sleep(0)
        time.sleep(PAUSE_SECONDS)  # noqa: ASYNC251 - as above
        assert await answering == "in time"


async def test_what_never_answers_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20), within_own(0.1):
            await asyncio.Event().wait()
