"""Whatever is submitted, cancelled and refused: each caller gets its own answer, in the order of arrival."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.runtime.batcher import Batcher, Busy


class BadRowError(Exception):
    """One item of the batch is at fault."""


# What a caller does: (how many items, how many turns of the loop before it comes, is it cancelled after).
callers = st.lists(
    st.tuples(st.integers(1, 7), st.integers(0, 3), st.none() | st.integers(0, 6)), min_size=1, max_size=25
)


@settings(deadline=None)
@given(
    callers=callers,
    batch_max=st.integers(1, 6),
    queue_max=st.integers(7, 30),
    concurrency=st.integers(1, 3),
    bad=st.sets(st.integers(0, 60), max_size=5),
    pauses=st.lists(st.integers(0, 4), max_size=20),
)
def test_each_caller_gets_its_own_answers_in_order(
    callers: list[tuple[int, int, int | None]],
    batch_max: int,
    queue_max: int,
    concurrency: int,
    bad: set[int],
    pauses: list[int],
) -> None:
    asyncio.run(run(callers, batch_max, queue_max, concurrency, bad, pauses))


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def run(
    callers: list[tuple[int, int, int | None]],
    batch_max: int,
    queue_max: int,
    concurrency: int,
    bad: set[int],
    pauses: list[int],
) -> None:
    flushed: list[int] = []
    sizes: list[int] = []

    async def flush(items: Sequence[int]) -> list[int | Exception]:
        sizes.append(len(items))
        await turns(pauses[len(sizes) % len(pauses)] if pauses else 0)
        if bad & set(items):
            raise BadRowError
        flushed.extend(items)
        return [-item for item in items]

    batcher: Batcher[int, int] = Batcher(
        flush,
        name="property",
        batch_max=batch_max,
        queue_max=queue_max,
        concurrency=concurrency,
        is_bisectable=lambda error: isinstance(error, BadRowError),
    )
    tasks: list[tuple[list[int], asyncio.Task[list[int | Exception]]]] = []
    number = 0
    async with batcher:
        for size, wait, cancelled_after in callers:
            await turns(wait)
            items = list(range(number, number + size))
            number += size
            task = asyncio.create_task(batcher.submit_each(items))
            tasks.append((items, task))
            if cancelled_after is not None:
                await turns(cancelled_after)
                task.cancel()
    await asyncio.wait([task for _, task in tasks])
    judge(tasks, flushed, bad)
    assert all(1 <= size <= batch_max for size in sizes)
    if concurrency == 1:
        assert flushed == sorted(flushed)


def judge(
    tasks: list[tuple[list[int], asyncio.Task[list[int | Exception]]]], flushed: list[int], bad: set[int]
) -> None:
    assert len(flushed) == len(set(flushed)), "an item was flushed twice"
    for items, task in tasks:
        if task.cancelled():
            continue
        if isinstance(task.exception(), Busy):
            assert not set(items) & set(flushed), "a refused item was flushed"
            continue
        outcomes = task.result()
        assert [item in bad for item in items] == [isinstance(outcome, BadRowError) for outcome in outcomes]
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [
            -item for item in items if item not in bad
        ]
