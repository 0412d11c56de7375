"""A clock that steps: on one process, by libfaketime, while it runs.

libfaketime is no dependency of ours: where it is not installed, the plan that needs it says so.
"""

import asyncio
import importlib.util
from pathlib import Path

from tests.chaos.faults import Fault
from tests.chaos.instance import Instance
from tests.chaos.processes import Service

LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"
# How often a process looks at its file.
LOOK_SECONDS = 1


def find_library() -> Path | None:
    """The library, when it is installed."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None:
        return None
    library = Path(spec.origin).parent / LIBRARY
    return library if library.exists() else None


def may_step(unit: Service, library: Path, folder: Path) -> None:
    """Let the unit's clock follow a file, from its next start on."""
    file = clock_file(folder, unit.name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("+0\n")
    unit.environ |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": str(LOOK_SECONDS),
        # Only the wall clock steps; no machine's monotonic clock does.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def clock_file(folder: Path, name: str) -> Path:
    """What a process's clock follows: seconds ahead, or behind."""
    return folder / "clocks" / name


class StepClock(Fault):
    """One process's clock jumps, and jumps back."""

    def __init__(self, victim: str, step_seconds: int, hold_seconds: float) -> None:
        self.name = f"step the clock of {victim.rpartition('-')[0]} by {step_seconds / 3600:+.0f} h"
        self.victim = victim
        self.step_seconds = step_seconds
        self.hold_seconds = hold_seconds

    async def strike(self, instance: Instance) -> None:
        """Step."""
        clock_file(instance.folder, self.victim).write_text(f"{self.step_seconds:+d}\n")

    async def heal(self, instance: Instance) -> None:
        """Step back, and wait until it serves: a process with a wrong clock may have refused to."""
        clock_file(instance.folder, self.victim).write_text("+0\n")
        await asyncio.sleep(LOOK_SECONDS)
        await instance.keepers[self.victim].ready()
