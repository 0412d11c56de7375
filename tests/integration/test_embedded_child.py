"""Processes that we start are stopped, and none outlives us."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import child as child_module
from embedded.child import Child, StopStep, birth_of

UP_AND_WAITING = "import time; print('up', flush=True); time.sleep(60)"
SLEEP = [sys.executable, "-c", UP_AND_WAITING]
STUBBORN = [sys.executable, "-c", f"from signal import *; signal(SIGTERM, SIG_IGN); {UP_AND_WAITING}"]
PATIENCE_SECONDS = 20.0


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        os.sched_yield()


def run_through(pauses: Iterator[float]) -> None:
    for pause_seconds in pauses:
        time.sleep(pause_seconds)


def started(tmp_path: Path, command: list[str]) -> Child:
    child = Child("it", tmp_path, tmp_path / "it.log")
    child.launch(command, death_signal=signal.SIGTERM)
    wait_for(lambda: "up" in child.log.read_text())
    return child


def test_a_child_is_stopped_by_its_signal_and_its_pid_file_goes(tmp_path):
    child = started(tmp_path, SLEEP)
    assert json.loads(child.pid_file.read_text())["pid"] == child.pid
    run_through(child.stopping([StopStep(signal.SIGTERM, 10)]))
    assert child.exit_code == -signal.SIGTERM
    assert child.pid is None
    assert not child.pid_file.exists()


def test_a_child_that_ignores_its_signal_is_killed(tmp_path):
    child = started(tmp_path, STUBBORN)
    run_through(child.stopping([StopStep(signal.SIGTERM, 0.1)]))
    assert child.exit_code == -signal.SIGKILL


def test_stopping_twice_or_before_a_start_is_harmless(tmp_path):
    child = Child("it", tmp_path, tmp_path / "it.log")
    run_through(child.stopping([]))
    child = started(tmp_path, SLEEP)
    run_through(child.stopping([]))
    run_through(child.stopping([]))


def test_a_leftover_of_an_earlier_life_is_ended(tmp_path):
    earlier = started(tmp_path, SLEEP)
    later = Child("it", tmp_path, tmp_path / "it.log")
    run_through(later.stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    assert earlier.exit_code == -signal.SIGTERM
    assert not later.pid_file.exists()


def test_a_copy_of_the_folder_ends_nothing_and_one_that_was_moved_does(tmp_path):
    home, copy, moved = (tmp_path / name for name in ("home", "copy", "moved"))
    home.mkdir()
    original = started(home, SLEEP)
    shutil.copytree(home, copy)
    copied = Child("it", copy, tmp_path / "it.log")
    assert not copied.has_leftover
    run_through(copied.stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    assert (original.exit_code, copied.pid_file.exists()) == (None, False)
    home.rename(moved)
    later = Child("it", moved, tmp_path / "it.log")
    assert later.has_leftover
    run_through(later.stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    assert original.exit_code == -signal.SIGTERM


def test_the_leftover_of_an_earlier_version_is_ended(tmp_path):
    """Which did not say whose its pid files are."""
    earlier = started(tmp_path, SLEEP)
    record = json.loads(earlier.pid_file.read_text())
    earlier.pid_file.write_text(json.dumps({"pid": record["pid"], "birth": record["birth"]}))
    run_through(Child("it", tmp_path, tmp_path / "it.log").stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    assert earlier.exit_code == -signal.SIGTERM


def test_a_stranger_with_the_recorded_pid_is_left_alone(tmp_path):
    stranger = started(tmp_path, SLEEP)
    record = {"pid": stranger.pid, "birth": "another boot:1"}
    stranger.pid_file.write_text(json.dumps(record))
    run_through(Child("it", tmp_path, tmp_path / "it.log").stopping_leftover([]))
    assert stranger.exit_code is None
    run_through(stranger.stopping([]))


@pytest.mark.parametrize("text", ["", "123", "{}", "no json"])
def test_what_is_no_pid_file_of_ours_ends_nothing(tmp_path, text):
    child = Child("it", tmp_path, tmp_path / "it.log")
    child.pid_file.write_text(text)
    run_through(child.stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    assert child.exit_code is None


def test_a_program_that_cannot_be_run_says_so_in_the_log(tmp_path):
    child = Child("it", tmp_path, tmp_path / "it.log")
    child.launch(["/no/such/program"], death_signal=signal.SIGTERM)
    wait_for(lambda: child.exit_code is not None)
    assert child.exit_code == 126
    assert "cannot run /no/such/program: No such file" in child.log.read_text()


def test_a_process_that_is_gone_has_no_birth(tmp_path):
    child = started(tmp_path, SLEEP)
    pid = child.pid or 0
    assert birth_of(pid) is not None
    assert birth_of(pid) == birth_of(pid)
    run_through(child.stopping([]))
    assert birth_of(pid) is None


@pytest.mark.skipif(
    not Path("/bin/ps").exists(), reason="only where there is no /proc is it ps that is asked"
)
def test_where_ps_tells_the_birth_it_is_the_same_in_every_time_zone_and_language(monkeypatch):
    monkeypatch.setattr(child_module, "PROC", Path("/no/such/folder"))
    births = set()
    for zone, language in (("UTC", "C"), ("Asia/Tokyo", "C.UTF-8"), ("America/New_York", "")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("LC_ALL", language)
        births.add(birth_of(os.getpid()))
    assert len(births) == 1
    assert None not in births


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "import time; from pathlib import Path; from signal import SIGTERM; from embedded.child import Child;"
        f"child = Child('it', Path({str(tmp_path)!r}), Path({str(tmp_path / 'it.log')!r}));"
        f"child.launch({SLEEP!r}, death_signal=SIGTERM); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    log = tmp_path / "it.log"
    wait_for(lambda: log.exists() and "up" in log.read_text())
    record = json.loads((tmp_path / "it.pid").read_text())
    assert birth_of(record["pid"]) == record["birth"]
    parent.kill()
    parent.wait()
    if sys.platform != "linux":  # no other system tells children of their parent's death: the next start does
        run_through(Child("it", tmp_path, log).stopping_leftover([StopStep(signal.SIGTERM, 10)]))
    wait_for(lambda: birth_of(record["pid"]) != record["birth"])
