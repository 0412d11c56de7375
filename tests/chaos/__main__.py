"""Chaos from the command line.

python -m tests.chaos run --plan kills --seed 7         one run, to look at or to repeat
python -m tests.chaos short                             what CI runs: fixed seeds, about a minute
python -m tests.chaos long --minutes 4 --only kills     a slice of the long run; results add up
python -m tests.chaos table                             the results, into docs/guarantees.md
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import results, table
from tests.chaos.plan import PLANS
from tests.chaos.processes import REPOSITORY
from tests.chaos.report import lines_of
from tests.chaos.run import Result, RunSettings, carry_out
from tests.chaos.stage import LibraryMissing
from tests.chaos.topology import NotPossible

# The load of a run in the long form; start, settling and counting come on top.
LONG_LOAD_SECONDS = 120.0
LONG_RUN_SECONDS = 220.0
LONG_RATE = 300.0
# What the long run does by itself: kills until there are enough, then each other plan.
KILL_PLANS = ("kills", "all-kill", "api-kill", "worker-kill", "dlr-kill", "ledger-kill")
SHORT = (RunSettings(seed=1, plan="short", load_seconds=20.0),)


def told(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="one run")
    one.add_argument("--plan", choices=sorted(PLANS), default="kills")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--seconds", type=float, default=25.0)
    one.add_argument("--copies", type=int, default=2)
    one.add_argument("--rate", type=float, default=300.0)
    one.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    commands.add_parser("short", help="what CI runs")
    long = commands.add_parser("long", help="all faults, results added to results/latest.json")
    long.add_argument("--minutes", type=float, default=120.0)
    long.add_argument("--only", choices=sorted(PLANS), action="append", help="only this plan")
    long.add_argument("--seconds", type=float, default=LONG_LOAD_SECONDS)
    long.add_argument("--rate", type=float, default=LONG_RATE, help="less where the machine is busy")
    long.add_argument("--results", type=Path, default=results.LATEST, help="where results are added up")
    commands.add_parser("table", help="the results as a table")
    return parser.parse_args(arguments)


def show(result: Result) -> bool:
    """Print a run; True when nothing was found."""
    print("\n".join(lines_of(result)), flush=True)
    return result.is_right


def long_settings(
    only: list[str] | None, load_seconds: float, file: Path, rate: float
) -> Iterator[RunSettings]:
    """Runs without end: the plans in turn, each with its next seed, one and two of each process in turn."""
    plans = only or [*KILL_PLANS, *(plan for plan in PLANS if plan not in (*KILL_PLANS, "short"))]
    while True:
        for plan in plans:
            seed = 1 + max((run["seed"] for run in results.read(file) if run["plan"] == plan), default=0)
            copies = 2 if plan == "restarts" else 2 - seed % 2
            yield RunSettings(seed, plan, load_seconds, copies, rate, hurries=plan in KILL_PLANS)


def run_long(
    minutes: float, only: list[str] | None, load_seconds: float, file: Path, rate: float = LONG_RATE
) -> bool:
    """Run until the time is up; keep the results after each."""
    until = time.monotonic() + minutes * 60
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    is_right = True
    left_out: set[str] = set()
    for settings in long_settings(only, load_seconds, file, rate):
        try:
            result = carry_out(settings)
        except (NotPossible, LibraryMissing) as error:
            print(f"{settings.plan} is left out: {error}", flush=True)
            left_out.add(settings.plan)
        else:
            is_right &= show(result)
            results.write(results.added(results.read(file), results.row_of(result, commit)), file)
        ends_at = time.monotonic() + load_seconds + LONG_RUN_SECONDS - LONG_LOAD_SECONDS
        if ends_at > until or left_out >= set(only or PLANS):
            break
    return is_right


def main() -> None:
    """Do what the command line says; exit with 1 when something was found."""
    asked = told(sys.argv[1:])
    match asked.command:
        case "run":
            settings = RunSettings(asked.seed, asked.plan, asked.seconds, asked.copies, asked.rate)
            is_right = show(carry_out(settings, asked.keep))
        case "short":
            is_right = all(show(carry_out(settings)) for settings in SHORT)
        case "long":
            is_right = run_long(asked.minutes, asked.only, asked.seconds, asked.results, asked.rate)
        case _:
            table.DOCUMENT.write_text(table.written(), encoding="utf-8")
            is_right = True
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
