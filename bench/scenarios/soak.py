"""Half an hour of the same: nothing may grow that should not."""

from statistics import median
from typing import Final

from bench import books
from bench.end_to_end import Rig, carry, rig
from bench.instance import scratch_folder
from bench.load import Plan
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario

RATE: Final = 500
MINUTE_SECONDS: Final = 60
MEGABYTE: Final = 1_000_000
# The last third to the first: what grows with each message would have grown by much more.
STEADY: Final = (Goal(1.15, 1.02, of_ratio=True, at_most=True),)
SERVICES: Final = ("api", "worker", "dlr", "ledger", "nats", "valkey")
# Rows that are gone but not yet vacuumed away, in the small tables that change all the time.
_DEAD: Final = """
    select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relname in ('outbox', 'accounts')
"""
_CONNECTIONS: Final = "select count(*) from pg_stat_activity where backend_type = 'client backend'"


@scenario("soak", is_long=True)
async def soak(report: Report, options: Options) -> None:
    """30 minutes at 500/s: memory, connections, dead rows and latency must stay."""
    samples: list[dict[str, float]] = []
    plan = Plan(connections=128, rate=RATE, requests=RATE * MINUTE_SECONDS)
    with scratch_folder(options.folder) as folder:
        async with rig(folder, scale=options.scale) as whole:
            for _ in range(options.soak_minutes):
                run = await carry(whole, plan, is_verified=False)
                samples.append({"P99, ms": run.load.latency_ms(0.99), **await _sample(whole)})
            await books.verify(whole.instance)
    report.details["soak"] = samples
    third = max(len(samples) // 3, 1)
    for name in samples[0]:
        last = median(sample[name] for sample in samples[-third:])
        first = median(sample[name] for sample in samples[:third])
        is_memory = name.endswith("MB")
        against = ("the first third", [max(first, 1.0)])
        report.add(f"soak, {name}", "", [last], against=against, goals=STEADY if is_memory else ())


async def _sample(whole: Rig) -> dict[str, float]:
    used = whole.usage()
    memory = {
        f"memory of {name}, MB": one.memory_bytes / MEGABYTE
        for name, one in used.items()
        if name.startswith(SERVICES)
    }
    return {
        **memory,
        "connections of PostgreSQL": float(await whole.instance.value(_CONNECTIONS)),
        "dead rows": float(await whole.instance.value(_DEAD)),
    }
