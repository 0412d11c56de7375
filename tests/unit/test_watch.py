"""What lasts too long is judged, each by itself."""

import asyncio

from dlr.watch import Watch


async def test_one_judgement_that_fails_takes_no_other_with_it() -> None:
    judged: list[str] = []
    is_over = asyncio.Event()

    def on_late(subject: str) -> None:
        judged.append(subject)
        if subject == "last":
            is_over.set()
        if subject == "broken":
            raise ValueError(subject)

    watch = Watch(on_late)
    now = asyncio.get_running_loop().time()
    # The second is looked at in the same turn as the first, the last one by a timer of a later turn.
    for subject, due in (("broken", now), ("beside", now), ("last", now + 0.01)):
        watch.begin(subject, due)
    async with asyncio.timeout(5):
        await is_over.wait()
    watch.close()
    assert judged == ["broken", "beside", "last"]


async def test_one_that_comes_out_of_order_fails_alone_too() -> None:
    judged: list[str] = []
    is_over = asyncio.Event()

    def on_late(subject: str) -> None:
        judged.append(subject)
        if subject == "late":
            is_over.set()
        else:
            raise ValueError(subject)

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: faults.append(told))
    watch = Watch(on_late)
    now = asyncio.get_running_loop().time()
    watch.begin("late", now + 0.02)
    watch.begin("early", now)
    async with asyncio.timeout(5):
        await is_over.wait()
    watch.close()
    assert (judged, faults) == (["early", "late"], [])
