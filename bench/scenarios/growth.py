"""What stored history and a backlog cost."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench import books
from bench.end_to_end import Rig, carry, rig
from bench.filling import store
from bench.instance import scratch_folder
from bench.load import Outcome, Plan
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario
from bench.waiting import until

MESSAGES: Final = 20_000
CONNECTIONS: Final = 128
DAYS: Final = 90
CLIENTS: Final = 50_000
BACKLOG: Final = 1_000_000
DRAIN_SECONDS: Final = 3_600.0
# What PostgreSQL still does with tables that were filled at once, and would not do had they grown.
VACUUMS: Final = "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker'"
REST_SECONDS: Final = 1_800.0
CALM_LOOKS: Final = 10
LEDGER: Final = "ledger"
# Beside traffic verify takes one of the two CPUs, as docs/operations.md has it.
GENTLY: Final = ("--full", "--connections", "1")
STEADY_RATE: Final = 1_200
STEADY_SECONDS: Final = 10
# The rate of messages with the history, to that without.
GROWN: Final = (Goal(0.9, 0.97, of_ratio=True),)
VERIFIED: Final = (Goal(60, 20, at_most=True),)
UNDISTURBED: Final = (Goal(1.1, 1.0, of_ratio=True, at_most=True),)
KILOBYTE: Final = 1_000


@scenario("growth", is_long=True)
async def growth(report: Report, options: Options) -> None:
    """The whole way with millions stored over 90 days and 50,000 clients; verify beside accept; a backlog."""
    with scratch_folder(options.folder) as folder:
        async with rig(folder, scale=options.scale) as whole:
            await _fill(report, options, whole)
            await _compare(report, options, whole)
            await _verify(report, options, whole)
            await _backlog(report, options, whole)


async def _compare(report: Report, options: Options, whole: Rig) -> None:
    """Beside an empty instance, in turns: what the machine does changes while millions are stored."""
    empty: list[float] = []
    full: list[float] = []
    with scratch_folder(options.folder) as folder:
        async with rig(folder, scale=options.scale) as other:
            for turn in range(options.rounds):
                sides = [(other, whole, empty), (whole, other, full)]
                for measured, resting, rates in sides[:: -1 if turn % 2 else 1]:
                    with _ledger_stands_still(resting):
                        await _rate(measured)
                        rates.append(await _rate(measured))
    name = f"with {options.stored_messages:,} messages stored"
    report.add(name, "msg/s", full, against=("empty", empty), goals=GROWN)


@contextmanager
def _ledger_stands_still(resting: Rig) -> Iterator[None]:
    """Who has millions stored proves them all the time, also while the other one is measured.

    Frozen, not stopped: a new ledger process has other work for minutes, and plans of its own to make.
    """
    units = [unit for name, unit in resting.instance.units.items() if name.partition("-")[0] == LEDGER]
    pids = [unit.child.pid for unit in units if unit.child.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def _rate(whole: Rig) -> float:
    return (await carry(whole, Plan(connections=CONNECTIONS, requests=MESSAGES))).rate


async def _fill(report: Report, options: Options, whole: Rig) -> None:
    size = "select pg_database_size(current_database())"
    before = await whole.instance.value(size)
    await store(
        whole.instance, "--messages", options.stored_messages, "--days", DAYS, "--clients", CLIENTS, "--seal"
    )
    await _rest(whole)
    stored = await whole.instance.value(size) - before
    report.add("stored by the fill", "kB/msg", [stored / options.stored_messages / KILOBYTE])


async def _rest(whole: Rig) -> None:
    """Wait until PostgreSQL has nothing of its own to do with what was stored."""
    calm = 0

    async def is_calm() -> bool:
        nonlocal calm
        await asyncio.sleep(1)
        calm = calm + 1 if await whole.instance.value(VACUUMS) == 0 else 0
        return calm >= CALM_LOOKS

    books.expect("PostgreSQL rests", await until(is_calm, REST_SECONDS), True)


async def _steady(whole: Rig, seconds: float = STEADY_SECONDS) -> Outcome:
    plan = Plan(connections=CONNECTIONS, rate=STEADY_RATE, requests=round(STEADY_RATE * seconds))
    return (await carry(whole, plan, is_verified=False)).load


async def _verify(report: Report, options: Options, whole: Rig) -> None:
    entries = await whole.instance.value("select count(*) from ledger.entries")
    alone, calm, beside, disturbed = [], [], [], []
    for _ in range(options.rounds):
        alone.append(await _timed_verify(whole, "--full"))
        calm.append((await _steady(whole)).latency_ms(0.99))
        verifying = asyncio.create_task(_timed_verify(whole, *GENTLY))
        disturbed.append((await _steady(whole, min(alone[-1], STEADY_SECONDS))).latency_ms(0.99))
        beside.append(await verifying)
    report.add(f"verify of {entries:,} entries", "s", alone, goals=VERIFIED)
    report.add("verify by one connection beside 1,200/s", "s", beside, goals=VERIFIED)
    report.add("P99 at 1,200/s beside verify", "ms", disturbed, against=("calm", calm), goals=UNDISTURBED)


async def _timed_verify(whole: Rig, *options: str) -> float:
    begun = time.monotonic()
    await books.verify(whole.instance, *options)
    return time.monotonic() - begun


async def _backlog(report: Report, options: Options, whole: Rig) -> None:
    workers = [name for name in whole.instance.launches if name.startswith("worker")]
    for name in workers:
        await whole.instance.stop(name)
    without = [await _accepted(whole) for _ in range(options.rounds)]
    callbacks = f"{whole.sink.url}/callbacks"
    await store(whole.instance, "--backlog", BACKLOG, "--carrier", "bench", "--callback-url", callbacks)
    beside = [await _accepted(whole) for _ in range(options.rounds)]
    report.add(f"accept with {BACKLOG:,} in the outbox", "msg/s", beside, against=("without", without))
    waiting = await whole.instance.value("select count(*) from tollwire.outbox")
    begun = time.monotonic()
    for name in workers:
        await whole.instance.start(name)

    async def is_drained() -> bool:
        await asyncio.sleep(1)  # a count of a million is no light question
        return int(await whole.instance.value("select count(*) from tollwire.outbox")) == 0

    books.expect("the backlog drained", await until(is_drained, DRAIN_SECONDS), True)
    report.add("backlog drained", "msg/s", [waiting / (time.monotonic() - begun)])
    await books.verify(whole.instance)


async def _accepted(whole: Rig) -> float:
    plan = Plan(port=whole.instance.api_port, connections=CONNECTIONS, requests=MESSAGES)
    outcome = await whole.requests.run(plan)
    books.expect("statuses", set(outcome.codes), {202})
    return outcome.rate
