"""API keys that the process has never seen."""

from dataclasses import replace
from typing import Final

from bench.accept import accept, desk
from bench.instance import Instance, scratch_folder
from bench.load import Plan
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario

KEYS: Final = 10_000
RATE: Final = 1_200
# The first messages of a new process also prepare its statements.
WARM_UP: Final = 200
COLD: Final = (Goal(50, 20, at_most=True),)


@scenario("cold-keys", is_long=True)
async def cold_keys(report: Report, options: Options) -> None:
    """10,000 API keys, each used for the first time after a restart, at 1,200/s offered."""
    plan = Plan(connections=128, rate=RATE, requests=KEYS)
    cold, warm = [], []
    with scratch_folder(options.folder) as folder:
        async with desk(folder, clients=KEYS + 1, scale=options.scale) as whole:
            first, others = whole.keys[0], whole.keys[1:]
            # Clients that came before the restart too: the first use of all is bcrypt's.
            await accept(whole.with_keys(others), replace(plan, rate=0))
            for _ in range(options.rounds):
                await _restart(whole.instance)
                await accept(whole.with_keys([first]), replace(plan, rate=0, requests=WARM_UP))
                cold.append(await accept(whole.with_keys(others), plan))
                warm.append(await accept(whole.with_keys(others), plan))
    for label, share in (("P50", 0.5), ("P99", 0.99)):
        against = ("warm", [one.latency_ms(share) for one in warm])
        goals = COLD if share == 0.99 else ()
        values = [one.latency_ms(share) for one in cold]
        report.add(f"10,000 cold keys, {label}", "ms", values, against=against, goals=goals)


async def _restart(made: Instance) -> None:
    for name in [name for name in made.launches if name.startswith("api")]:
        await made.stop(name)
        await made.start(name)
