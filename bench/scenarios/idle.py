"""Cold and idle."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.end_to_end import rig
from bench.instance import Instance, scratch_folder
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario

IDLE_SECONDS: Final = 20.0
# What was just done is written back and forgotten.
REST_SECONDS: Final = 10.0
UP_SECONDS: Final = 120.0
MEGABYTE: Final = 1_000_000
IDLE_CPU: Final = (Goal(3, 1, at_most=True),)
SERVERS: Final = ("postgresql", "nats", "valkey")


@scenario("idle")
async def idle(report: Report, options: Options) -> None:
    """Start-up of each service, `tollwire up` as a whole, memory and CPU while nothing is asked."""
    with scratch_folder(options.folder) as folder:
        ups = [
            await asyncio.to_thread(_up_seconds, folder / f"up-{number}") for number in range(options.rounds)
        ]
        report.add("`tollwire up` from nothing", "s", ups)
        async with rig(folder, scale=options.scale) as whole:
            for name, seconds in whole.instance.started_seconds.items():
                report.add(f"start of {name}", "s", [seconds])
            await asyncio.sleep(REST_SECONDS)
            await _idle(report, options, whole.instance)


async def _idle(report: Report, options: Options, made: Instance) -> None:
    shares: list[dict[str, float]] = []
    for _ in range(options.rounds):
        before = made.usage()
        await asyncio.sleep(IDLE_SECONDS)
        after = made.usage()
        spent = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in before}
        shares.append({name: 100 * seconds / IDLE_SECONDS for name, seconds in spent.items()})
    for name in shares[0]:
        report.add(f"idle CPU of {name}", "%", [one[name] for one in shares])
        report.add(f"idle memory of {name}", "MB", [made.usage()[name].memory_bytes / MEGABYTE])
    ours = [sum(share for name, share in one.items() if name not in SERVERS) for one in shares]
    report.add("idle CPU of our processes", "%", ours)
    report.add("idle CPU of all processes", "%", [sum(one.values()) for one in shares], goals=IDLE_CPU)


def _up_seconds(home: Path) -> float:
    """How long `tollwire up` takes in a new folder, until everything is ready."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
    environ = {**inherited, "TOLLWIRE_HOME": str(home), "TOLLWIRE_PORT": "0"}
    tollwire = [sys.executable, "-P", "-m", "cli"]
    begun = time.monotonic()
    try:
        subprocess.run(
            [*tollwire, "up", "--detach"], env=environ, check=True, capture_output=True, timeout=UP_SECONDS
        )
        return time.monotonic() - begun
    finally:
        subprocess.run(
            [*tollwire, "down", "--clean"], env=environ, check=False, capture_output=True, timeout=UP_SECONDS
        )
