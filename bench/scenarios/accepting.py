"""Accept alone: no worker runs, so that nothing but accept takes the machine."""

from dataclasses import replace
from typing import Final

from bench.accept import Desk, accept, accept_batches, ask_slow, bare, desk, slow_desk
from bench.instance import scratch_folder
from bench.load import Outcome, Plan
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario

SECONDS: Final = 3.0
# Connections, and how many are opened a second (0: all at once). The last is a load test of 1,000 users.
LEVELS: Final = ((1, 0), (32, 0), (128, 0), (1_000, 100))
AT_128: Final = (Goal(0.40, 0.60, of_ratio=True),)
STEADY_RATE: Final = 1_200
# Batches in flight: two would do, were they answered in the middle of each other.
BATCH_CONNECTIONS: Final = 4
BATCHES: Final = (Goal(20_000, 40_000),)
HOT: Final = (Goal(0.9, 1.0, of_ratio=True),)
CLIENTS: Final = 10_000


@scenario("accept")
async def accept_alone(report: Report, options: Options) -> None:
    """Single messages at 1, 32, 128 and 1,000 connections, beside a bare handler; and at 1,200/s offered."""
    with scratch_folder(options.folder) as folder:
        async with desk(folder, scale=options.scale) as whole:
            for connections, ramp in LEVELS:
                await _level(report, options, whole, connections, ramp)
            await _beside_one_transaction(report, options, whole)
            await _offered(report, options, whole)


async def _level(report: Report, options: Options, whole: Desk, connections: int, ramp: int) -> None:
    ramp_seconds = connections / ramp if ramp else 0.0
    seconds = ramp_seconds + SECONDS
    plan = Plan(connections=connections, seconds=seconds, ramp=ramp)
    ours, yardstick = [], []
    for _ in range(options.rounds):
        yardstick.append((await bare(whole, plan)).after(ramp_seconds))
        ours.append((await accept(whole, plan)).after(ramp_seconds))
    name = f"accept, {connections:,} connections"
    against = ("bare handler", [one.rate for one in yardstick])
    goals = AT_128 if connections == 128 else ()
    report.add(name, "msg/s", [one.rate for one in ours], against=against, goals=goals)
    add_latencies(report, name, ours)


async def _beside_one_transaction(report: Report, options: Options, whole: Desk) -> None:
    plan = Plan(connections=32, seconds=SECONDS)
    ours, yardstick = [], []
    async with slow_desk(whole) as slow:
        for _ in range(options.rounds):
            yardstick.append((await ask_slow(whole, slow, plan)).rate)
            ours.append((await accept(whole, plan)).rate)
    report.add("accept, 32 connections", "msg/s", ours, against=("one transaction a request", yardstick))


async def _offered(report: Report, options: Options, whole: Desk) -> None:
    plan = Plan(connections=128, requests=round(STEADY_RATE * SECONDS), rate=STEADY_RATE)
    ours = [await accept(whole, plan) for _ in range(options.rounds)]
    add_latencies(report, f"accept alone, {STEADY_RATE:,}/s offered", ours)


@scenario("batches")
async def batches(report: Report, options: Options) -> None:
    """Accept in batches of 1,000."""
    with scratch_folder(options.folder) as folder:
        async with desk(folder, scale=options.scale) as whole:
            plan = Plan(connections=BATCH_CONNECTIONS, seconds=SECONDS)
            await accept_batches(whole, replace(plan, seconds=1.0))
            outcomes = [await accept_batches(whole, plan) for _ in range(options.rounds)]
            rates = [sum(record.extra for record in one.records) / one.seconds for one in outcomes]
            report.add("accept, batches of 1,000", "msg/s", rates, goals=BATCHES)
            report.add("a batch of 1,000, P99", "ms", [one.latency_ms(0.99) for one in outcomes])


@scenario("hot", is_long=True)
async def hot(report: Report, options: Options) -> None:
    """All on one client, against spread over 10,000."""
    with scratch_folder(options.folder) as folder:
        async with desk(folder, clients=CLIENTS, scale=options.scale) as whole:
            plan = Plan(connections=128, seconds=SECONDS)
            await accept(whole, replace(plan, seconds=0.0, requests=2 * CLIENTS))
            one, many = [], []
            for _ in range(options.rounds):
                many.append((await accept(whole, plan)).rate)
                one.append((await accept(whole.with_one_client(), plan)).rate)
            report.add("hot account", "msg/s", one, against=("spread over 10,000", many), goals=HOT)


def add_latencies(report: Report, name: str, outcomes: list[Outcome]) -> None:
    """The four percentiles that are told of accept."""
    for label, share in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99), ("P99.9", 0.999)):
        report.add(f"{name}, {label}", "ms", [one.latency_ms(share) for one in outcomes])
