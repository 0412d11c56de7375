"""Loops: repeat, back off, and end when asked (run_service is in tests/integration)."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from shared.runtime import loops as module
from shared.runtime import metrics
from shared.runtime.loops import Stop, cancel_all, emptied, every
from shared.runtime.ticks import TICK_MS
from shared.storage.config import polling


async def test_the_first_reason_for_a_stop_stands() -> None:
    stop = Stop()
    assert not stop.requested
    assert not await stop.wait(0.001)
    stop.request("SIGTERM")
    stop.request("SIGINT")
    assert (stop.requested, stop.reason) == (True, "SIGTERM")
    assert await stop.wait(60.0)
    assert await stop.wait()


async def test_a_waiting_loop_hears_the_stop_at_once() -> None:
    stop = Stop()
    waiting = asyncio.create_task(stop.wait(60.0))
    await asyncio.sleep(0)
    stop.request("test")
    async with asyncio.timeout(5):
        assert await waiting


class Work:
    """Work that fails as often as told and then asks for the stop."""

    def __init__(self, failures: int) -> None:
        self.stop = Stop()
        self.failures = failures
        self.runs = 0

    async def run_once(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise RuntimeError("not yet")
        self.stop.request("done")


async def test_work_is_repeated_after_errors_and_each_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_MIN_SECONDS", 0.0)
    work = Work(failures=3)
    counter = metrics.LOOP_FAILURES.labels("repeated")
    before = counter._value.get()
    await every(work.stop, 0.001, work.run_once, name="repeated", backoff_max_seconds=0.0)
    assert work.runs == 4
    assert counter._value.get() - before == 3


@pytest.mark.parametrize(("silence_seconds", "told"), [(60.0, [1]), (0.0, [1, 2, 3, 4])])
async def test_an_error_that_stays_is_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, silence_seconds: float, told: list[int]
) -> None:
    monkeypatch.setattr(module, "BACKOFF_MIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "BACKOFF_MAX_SECONDS", silence_seconds)
    work = Work(failures=4)
    with capture_logs() as lines:
        await every(work.stop, 0.001, work.run_once, name="told", backoff_max_seconds=0.0)
    assert [line["failures"] for line in lines] == told


async def test_nothing_is_run_after_the_stop() -> None:
    work = Work(failures=0)
    work.stop.request("test")
    await every(work.stop, 0.001, work.run_once)
    assert work.runs == 0


async def test_the_stop_sets_what_a_loop_waits_for_besides_it() -> None:
    stop, before, after = Stop(), asyncio.Event(), asyncio.Event()
    stop.also_set(before)
    assert not before.is_set()
    stop.request("test")
    stop.also_set(after)
    assert before.is_set()
    assert after.is_set()


async def test_a_cancelled_loop_ends() -> None:
    async def run_once() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(every(Stop(), 1.0, run_once))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize(
    ("interval_seconds", "pauses"),
    [
        (1.0, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        (0.02, [0.02, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]),
        (3600.0, [3600.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
    ],
)
def test_errors_make_the_pause_longer_up_to_a_cap(interval_seconds: float, pauses: list[float]) -> None:
    found = [module._pause_seconds(interval_seconds, failures, 30.0) for failures in range(8)]
    assert pauses[0] - TICK_MS / 1_000 - 0.001 <= found[0] <= pauses[0]
    assert found[1:] == pauses[1:]
    assert module._pause_seconds(interval_seconds, 10_000, 30.0) == max(interval_seconds, 30.0)


class Waits(Stop):
    """Notes how long it is waited for, and comes after so many waits."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self.count = count

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        self.seconds.append(timeout_seconds)
        return len(self.seconds) == self.count


async def test_a_look_at_the_configuration_that_fails_is_followed_by_another_within_a_second() -> None:
    stop, work = Waits(8), Work(failures=8)
    await polling(work.run_once)(stop)
    assert stop.seconds == [0.5] + [1.0] * 7


def test_a_loop_is_named_by_its_function() -> None:
    work = Work(0)
    assert module._name_of(work.run_once) == "Work.run_once"
    assert module._name_of(partial(partial(every, Stop()), 1.0)) == "every"
    assert module._name_of(partial(every, interval_seconds=1.0, run_once=work.run_once)) == "Work.run_once"
    assert module._name_of(partial(every, run_once=work.run_once, name="work")) == "work"
    assert module._name_of(polling(work.run_once)) == "Work.run_once"
    assert module._name_of(work) == "Work"


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CANCEL_AGAIN_SECONDS", 0.001)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_all([task])
    assert task.done()
    assert swallowed == 3


async def test_what_cancelled_tasks_raise_is_dropped() -> None:
    async def failing() -> None:
        raise RuntimeError("unseen")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await cancel_all([task])
    await cancel_all([])


async def test_a_set_whose_tasks_have_ended_but_not_left_it_yet_is_waited_for() -> None:
    async def failing() -> None:
        raise RuntimeError("unseen")

    tasks: set[asyncio.Task[None]] = set()
    task = asyncio.create_task(failing())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    # In one turn of the loop: the task ends, and only then is it waited for.
    await asyncio.create_task(emptied(tasks))
    assert not tasks


async def test_a_wait_for_tasks_that_is_cancelled_cancels_them() -> None:
    tasks: set[asyncio.Task[None]] = set()
    task = asyncio.create_task(asyncio.sleep(60))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    waiting = asyncio.create_task(emptied(tasks))
    await asyncio.sleep(0)
    await cancel_all([waiting])
    assert task.cancelled()
    assert waiting.cancelled()
