"""Units that die are started again; all are stopped in the reverse order."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from embedded.child import StopStep
from embedded.supervisor import Notice, Supervisor, UnitState, describe_exit
from embedded.unit import StartFailed, Unit

PATIENCE_SECONDS = 20.0


class Script(Unit):
    """A unit that runs a Python script; ready when the script has made the file ``ready``."""

    stop_steps = (StopStep(signal.SIGTERM, 10.0),)
    hurry_signal = signal.SIGKILL

    def __init__(self, name: str, folder: Path, script: str) -> None:
        super().__init__(name, folder / name)
        self._script = f"import pathlib, signal, sys, time; {script}"

    def prepare(self) -> None:
        """Nothing to prepare."""

    def launch(self) -> None:
        (self.folder / "ready").unlink(missing_ok=True)
        self.child.launch(
            [sys.executable, "-c", self._script], death_signal=signal.SIGTERM, folder=str(self.folder)
        )

    def is_ready(self) -> bool:
        return (self.folder / "ready").exists()


READY = "pathlib.Path('ready').touch(); "
LIVES = READY + "time.sleep(60)"
DRAINS_FOR_EVER = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LIVES
DIES_AFTER_ONE_GOOD_START = (
    "first = not pathlib.Path('again').exists(); pathlib.Path('again').touch();"
    "first and pathlib.Path('ready').touch()\n"
    "while first and not pathlib.Path('seen').exists(): time.sleep(0.02)\n"
    "sys.exit(3)"
)


class Told:
    """What the supervisor said, and a way to wait for it."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._changed = asyncio.Event()

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def changed(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def supervisor(told: Told) -> AsyncIterator[Supervisor]:
    made = Supervisor(told.notice, told.changed)
    yield made
    made.hurry()
    await made.stop()


async def test_a_unit_that_is_killed_runs_again_and_it_is_said(tmp_path, supervisor, told):
    await supervisor.start([Script("it", tmp_path, LIVES)])
    (kept,) = supervisor.kept
    pid = kept.unit.child.pid
    os.kill(pid, signal.SIGKILL)
    await told.until(lambda: kept.restarts == 1 and kept.state is UnitState.RUNNING)
    assert kept.unit.child.pid not in {None, pid}
    died, back = told.notices
    assert died.is_bad
    assert died.text == "was killed by SIGKILL; starting it again in 0.2 s (its log: it.log)"
    assert not back.is_bad
    assert "is running again" in back.text
    assert "(restart 1)" in back.text


async def test_on_a_full_disk_one_that_dies_is_tried_until_it_runs(tmp_path, told):
    """A folder in the pid file's place stands for it: the process starts, the file cannot be written."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def raising(tell: Callable[..., None]) -> Callable[..., None]:
        def told_in_vain(*words: Notice) -> None:
            tell(*words)
            raise full

        return told_in_vain

    supervisor = Supervisor(raising(told.notice), raising(told.changed))
    try:
        await supervisor.start([Script("it", tmp_path, LIVES)])
        (kept,) = supervisor.kept
        kept.unit.child.pid_file.unlink()
        kept.unit.child.pid_file.mkdir()
        os.kill(kept.unit.child.pid or 0, signal.SIGKILL)
        await told.until(lambda: kept.restarts >= 2)
        assert "could not be started: Is a directory" in [notice.text for notice in told.notices]
        kept.unit.child.pid_file.rmdir()
        await told.until(lambda: kept.state is UnitState.RUNNING)
        assert kept.unit.child.pid is not None
    finally:
        await supervisor.stop()
    assert kept.unit.child.pid is None


async def test_one_that_dies_at_every_start_is_tried_again_with_longer_pauses(tmp_path, supervisor, told):
    await supervisor.start([Script("it", tmp_path, DIES_AFTER_ONE_GOOD_START)])
    (kept,) = supervisor.kept
    (kept.unit.folder / "seen").touch()
    await told.until(lambda: kept.restarts >= 2)
    pauses = [notice.text.partition(" again in ")[2].partition(" s")[0] for notice in told.notices]
    assert pauses[:2] == ["0.2", "0.4"]
    assert told.notices[0].text.startswith("ended with status 3")


async def test_a_first_start_that_fails_is_an_error_with_the_log(tmp_path, supervisor):
    good = Script("good", tmp_path, LIVES)
    bad = Script("bad", tmp_path, "print('the reason', flush=True); sys.exit(2)")
    with pytest.raises(StartFailed, match=r"(?s)bad ended with status 2.*the reason"):
        await supervisor.start([good, bad])
    assert good.child.pid is not None
    await supervisor.stop()
    assert good.child.pid is None


async def test_a_unit_that_is_never_ready_is_stopped_and_named(tmp_path, supervisor):
    unit = Script("it", tmp_path, "time.sleep(60)")
    unit.start_limit_seconds = 0.3
    with pytest.raises(StartFailed, match=r"it was not ready after 0 seconds"):
        await supervisor.start([unit])
    assert unit.child.exit_code is not None


async def test_groups_stop_in_the_reverse_order(tmp_path, told):
    order: list[str] = []

    def changed() -> None:
        order.extend(
            kept.unit.name
            for kept in ordered.kept
            if kept.state is UnitState.STOPPED and kept.unit.name not in order
        )

    ordered = Supervisor(told.notice, changed)
    await ordered.start([Script("server", tmp_path, LIVES)])
    await ordered.start([Script("service", tmp_path, LIVES)])
    await ordered.stop()
    assert order == ["service", "server"]
    assert told.notices == []


async def test_hurry_ends_one_that_will_not_stop(tmp_path, supervisor):
    await supervisor.start([Script("it", tmp_path, DRAINS_FOR_EVER)])
    unit = supervisor.kept[0].unit
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    supervisor.hurry()
    await stopping
    assert unit.child.exit_code in {-signal.SIGKILL, -signal.SIGTERM}


def test_an_exit_is_said_in_words():
    assert describe_exit(0) == "ended with status 0"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-99) == "was killed by signal 99"
