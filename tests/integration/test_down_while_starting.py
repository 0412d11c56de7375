"""`tollwire down` while `tollwire up` still starts: it is told to stop, and not waited for and killed."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cli import down
from cli import instance as instance_module
from cli.home import Home, State
from cli.instance import Instance
from cli.screen import Screen
from embedded.child import Child, StopStep, birth_of

HOLDING = "import sys, time; from pathlib import Path; from cli.home import Home; \
home = Home(Path(sys.argv[1])); home.hold(); print('held', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
print('up', flush=True); time.sleep(60)"
LIMIT_SECONDS = 5.0


class LateHome(Home):
    """A home whose supervisor says who it is after `down` has begun to wait for its end."""

    supervisor: "subprocess.Popen[str]"
    looks = 0

    @property
    def is_running(self) -> bool:
        self.looks += 1
        if self.looks == 2:
            pid = self.supervisor.pid
            self.write_state(State(supervisor_pid=pid, supervisor_birth=birth_of(pid)))
        return super().is_running


@pytest.fixture
def late_home(tmp_path: Path) -> Iterator[LateHome]:
    home = LateHome(tmp_path / "home")
    home.make()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(home.path)], stdout=subprocess.PIPE, text=True
    ) as home.supervisor:
        assert home.supervisor.stdout is not None
        assert home.supervisor.stdout.readline() == "held\n"
        yield home
        home.supervisor.kill()


def test_one_that_says_late_who_it_is_is_told_to_stop_and_not_killed(late_home, monkeypatch):
    monkeypatch.setattr(down, "LIMIT_SECONDS", LIMIT_SECONDS)
    down._stop(late_home)
    assert late_home.supervisor.wait() == -signal.SIGTERM


async def seen(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - another process gives no event
        await asyncio.sleep(0)


async def test_one_whose_state_was_damaged_says_again_who_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(instance_module, "LOOK_SECONDS", 0.01)
    home = Home(tmp_path / "home")
    home.make()
    (home.path / "state.json").write_text("garbage")
    instance = Instance(home, {}, {}, Screen(Console(file=io.StringIO()), home.log_of("supervisor")))
    watching = asyncio.create_task(instance._watch())
    async with asyncio.timeout(LIMIT_SECONDS):
        while home.supervisor_pid() is None:  # noqa: ASYNC110 - a file gives no event
            await asyncio.sleep(0.01)
    instance._on_signal()
    await watching
    assert home.supervisor_pid() == os.getpid()


async def test_one_that_first_stops_what_was_left_behind_says_before_who_it_is(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    (home.run / "svc").mkdir()
    leftover = Child("svc", home.run / "svc", home.log_of("svc"))
    leftover.launch([sys.executable, "-c", STUBBORN], death_signal=signal.SIGKILL)
    async with asyncio.timeout(LIMIT_SECONDS):
        await seen(lambda: "up" in leftover.log.read_text())
        instance = Instance(home, {}, {}, Screen(Console(file=io.StringIO()), home.log_of("supervisor")))
        running = asyncio.create_task(instance.run("Ctrl-C"))
        await seen(home.log_of("supervisor").exists)
        state, pid = home.read_state(), home.supervisor_pid()
        instance._on_signal()
        await running
    assert leftover.exit_code is None, "it was still being stopped when the state was read"
    for _ in leftover.stopping([StopStep(signal.SIGKILL, LIMIT_SECONDS)]):
        await asyncio.sleep(0)
    assert state is not None
    assert (state.phase, state.supervisor_pid) == ("starting", pid)
