"""A list that is followed stops before every id that may still commit."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from api.accept import ANSWER_DEADLINE_SECONDS
from api.message_reads import AHEAD_SECONDS, SETTLED_SECONDS
from api.store import ACCEPT_DEADLINE_SECONDS
from shared.runtime.batcher import Batcher, DeadlinePassed
from shared.runtime.clock import REFRESH_SECONDS
from shared.runtime.flusher import FLUSH_TRIES_MAX
from shared.runtime.server_calls import TRY_SECONDS

# Processes measure the database's clock every half minute, to within a round trip.
CLOCKS_DIFFER_SECONDS = 1.0
# The same limits, in a fraction of the time.
SCALE = 5e-3


def test_an_id_commits_before_a_list_that_is_followed_comes_to_it() -> None:
    waits_for_its_flush = ANSWER_DEADLINE_SECONDS
    # The last try may begin at the end of the call, and the server finish it though nobody waits any more.
    commits = ACCEPT_DEADLINE_SECONDS + TRY_SECONDS
    assert waits_for_its_flush + commits + CLOCKS_DIFFER_SECONDS <= SETTLED_SECONDS


async def test_no_call_for_an_item_begins_when_its_caller_has_its_answer() -> None:
    """So one call comes after the wait, however often a flush is made again for others."""
    begun: list[tuple[float, Sequence[str]]] = []

    async def flush(items: Sequence[str]) -> list[str | Exception]:
        begun.append((time.monotonic(), items))
        await asyncio.sleep(ACCEPT_DEADLINE_SECONDS * SCALE)
        raise TimeoutError

    waits_seconds = ANSWER_DEADLINE_SECONDS * SCALE
    async with Batcher(flush, name="test", batch_max=10, queue_max=10, is_retryable=_always) as batcher:
        since = time.monotonic()
        first = asyncio.create_task(batcher.submit("first", deadline_seconds=waits_seconds))
        other = asyncio.create_task(batcher.submit("patient"))
        with pytest.raises(DeadlinePassed):
            await first
        with pytest.raises(TimeoutError):
            await other
    assert len(begun) == FLUSH_TRIES_MAX
    last = max(at for at, items in begun if "first" in items)
    assert last - since <= waits_seconds


def _always(_error: BaseException) -> bool:
    return True


def test_an_id_is_ahead_of_its_message_by_no_more_than_a_list_looks_on() -> None:
    """Between two measurements another primary may take over, and its clock be behind."""
    assert REFRESH_SECONDS <= AHEAD_SECONDS
