"""The simulation from the command line.

python -m tests.chaos.simulation show 11 [--on oracle]        one seed, its trace shrunk when it fails
python -m tests.chaos.simulation long --minutes 5             more seeds; results/simulation.json adds them up
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final

from tests.chaos.simulation import seeds
from tests.chaos.simulation.instance import one_connection, simulated_dsn
from tests.chaos.simulation.oracle.server import OracleServer
from tests.chaos.simulation.program import program_of
from tests.chaos.simulation.results import add, next_seed
from tests.chaos.simulation.run import carry_out

# Results are kept after so many: a run may be ended at any time.
SLICE_SEEDS: Final = 50


def told(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulation")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="one seed")
    show.add_argument("seed", type=int)
    long = commands.add_parser("long", help="many seeds; the results add up")
    long.add_argument("--minutes", type=float, default=30.0)
    long.add_argument("--first", type=int, help="the first seed (else: after the last one that was run)")
    for command in (show, long):
        command.add_argument("--on", choices=("both", "oracle"), default="both")
    return parser.parse_args(arguments)


@asynccontextmanager
async def servers(dsn: str | None) -> AsyncIterator[seeds.MakeServer]:
    """What runs go over."""
    async with AsyncExitStack() as stack:
        if dsn is None:
            yield OracleServer
        else:
            yield seeds.on_both(await stack.enter_async_context(one_connection(dsn)))


async def show(dsn: str | None, seed: int) -> bool:
    """Print what a seed does."""
    async with servers(dsn) as make:
        outcome = await carry_out(make(), seed, program_of(seed))
        if outcome.failure is None:
            print(f"seed {seed}: {outcome.calls} calls, {outcome.messages} messages, nothing found")
            return True
        found = seeds.Found(seed, outcome.failure)
        print(seeds.told(found, *await seeds.shortest(make, found)))
        return False


async def long(dsn: str | None, on: str, minutes: float, first: int | None) -> bool:
    """Run seeds until the time is up."""
    until = time.monotonic() + minutes * 60
    is_right = True
    async with servers(dsn) as make:
        while time.monotonic() < until and is_right:
            start = first or next_seed(on)
            tally = await seeds.try_seeds(make, range(start, start + SLICE_SEEDS), until)
            add(on, start, tally)
            print(f"{on}: {tally.seeds} seeds from {start}, {tally.calls} calls", flush=True)
            for found in tally.found:
                print(seeds.told(found, *await seeds.shortest(make, found)), flush=True)
            is_right = not tally.found
            first = None
    return is_right


def main() -> None:
    """Do what the command line says; exit with 1 when something was found."""
    asked = told(sys.argv[1:])
    with simulated_dsn() if asked.on == "both" else nullcontext() as dsn:
        work = (
            show(dsn, asked.seed)
            if asked.command == "show"
            else long(dsn, asked.on, asked.minutes, asked.first)
        )
        sys.exit(0 if asyncio.run(work) else 1)


if __name__ == "__main__":
    main()
