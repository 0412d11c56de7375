"""Crash points: nothing at all, unless the process was started for one (RULES 39)."""

import os
import signal
import subprocess
import sys

import pytest

from shared.runtime import crash_points
from shared.runtime.crash_points import CRASH_POINTS, UnknownCrashPoint, crash_point

PROGRAM = """
import sys
from shared.runtime.crash_points import check, crash_point
check()
crash_point("accept.before_commit")
print("between", flush=True)
try:
    crash_point("accept.after_commit")
finally:
    print("after", flush=True)
"""


def run(armed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, crash_points.VARIABLE: armed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_armed_process_dies_there_without_cleaning_up() -> None:
    ended = run("accept.after_commit")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "between\n")


def test_another_process_passes_by() -> None:
    ended = run("")
    assert (ended.returncode, ended.stdout) == (0, "between\nafter\n")


def test_a_place_that_does_not_exist_is_refused() -> None:
    ended = run("accept.some_day")
    assert ended.returncode == 1
    assert "UnknownCrashPoint" in ended.stderr


def test_every_listed_place_can_be_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_points, "_armed", "nowhere")
    for name in CRASH_POINTS:
        crash_point(name)
    with pytest.raises(UnknownCrashPoint, match=r"accept\.before_commit"):
        crash_points.check()
