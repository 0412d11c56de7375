"""One run: an instance under load, faults from a plan, time to settle, the verdict."""

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.runtime.loops import cancel_all
from tests.chaos.cast import Cast
from tests.chaos.faults import Fault
from tests.chaos.instance import Instance
from tests.chaos.measure import Aftermath, Strike, accepts, aftermaths, longest_gap
from tests.chaos.own_word import ask_tollwire, end_leases, let_the_walk_come, open_rows, what_waits
from tests.chaos.plan import PLANS
from tests.chaos.stage import Stage, open_stage
from tests.chaos.verdict import Verdict, compare, is_all_told, judge, spare_clients

# A message may lose two publishers in a row (60 s and 120 s of lease), or wait five minutes for its last try,
# and then for a receipt. Those whose answers a carrier loses each time, once they are all that is left, keep
# a worker's breaker open, for nobody can prove the carrier back: each of their tries is one probe, by turns.
SETTLE_LIMIT_SECONDS = 600.0
# Nobody has a reason to leave a key without a word longer than a client's patience and our longest restart.
WORDS_LIMIT_SECONDS = 130.0
LOOK_SECONDS = 1.0
# After so long, and then each time, a run says what it waits for.
TELL_SECONDS = 60.0
HURRY_SECONDS = 10.0
# Receipts that are late only because of the faults come in meanwhile.
RECEIPTS_SECONDS = 15.0
WARM_UP_SECONDS = 3.0
# What a plan must do is waited for at most so long; then the run says that it was not done.
LOAD_LIMIT_SECONDS = 330.0
WALK_SECONDS = 2.0
NEVER_STRUCK = "never struck in this run"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is: repeat it with the same.

    ``quiet_seconds``: no strike in the last part of the load, so that what is left is worked off under it.
    ``hurries``: after the load nobody waits for leases of minutes; then times are not measured.
    """

    seed: int
    plan: str
    load_seconds: float
    copies: int = 2
    rate_per_second: float = 300.0
    quiet_seconds: float = 3.0
    hurries: bool = False


@dataclass
class Result:
    """What came of a run."""

    settings: RunSettings
    verdict: Verdict
    aftermaths: list[Aftermath]
    kills: int
    settled_seconds: float
    # The longest time of the whole load in which nothing was accepted.
    no_accept_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """True when nothing was found."""
        return not self.verdict.violations and not self.errors


class Chaos:
    """Carries out one run in a folder of its own."""

    def __init__(self, settings: RunSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._strikes: list[Strike] = []
        self._faults: Counter[str] = Counter()
        self._tried: set[str] = set()
        self._errors: list[str] = []
        self._kills = 0

    async def run(self) -> Result:
        """Run it."""
        told = self._settings
        plan = PLANS[told.plan]
        async with open_stage(self._folder, plan, told.copies, told.seed) as stage:
            await stage.start_load("load", stage.load_config("load", told.seed, told.rate_per_second))
            say(f"seed {told.seed}, plan {told.plan}: load runs")
            load_began_at = time.time()
            await asyncio.sleep(WARM_UP_SECONDS)
            async with _walk(stage, plan.hastens_holds):
                await self._strike(stage, time.monotonic() + told.load_seconds)
            self._errors += nothing_struck(self._faults, self._errors, told.load_seconds)
            self._errors += not_done(NEVER_STRUCK, plan.must_strike, self._faults)
            load_ended_at = time.time()
            await self._end_loads(stage)
            say(f"load ended, {sum(self._faults.values())} faults, {self._kills} kills; settling")
            settled_seconds = await _settle(stage, hurries=told.hurries, may_lose=bool(plan.may_lose))
            say(f"settled after {settled_seconds:.0f} s; counting")
            evidence = stage.evidence()
            verdict = judge(evidence)
            compare(verdict, evidence, await ask_tollwire(stage.instance, stage.scene.accounts))
        if plan.spares_clients:
            spare_clients(verdict, evidence)
        self._errors += not_done("never happened in this run", plan.must_count, verdict.counts)
        verdict.document_losses(plan.may_lose)
        after = aftermaths(evidence, self._strikes, load_ended_at, is_timed=not told.hurries)
        gap_seconds = longest_gap(accepts(evidence), load_began_at + WARM_UP_SECONDS, load_ended_at)
        return Result(
            told, verdict, after, self._kills, settled_seconds, gap_seconds, self._faults, self._errors
        )

    async def _strike(self, stage: Stage, until: float) -> None:
        drawn = random.Random(self._settings.seed)
        cast = Cast(drawn, self._settings.copies, stage.rules, stage.proxy)
        tasks: list[asyncio.Task[None]] = []
        last = time.monotonic() + max(LOAD_LIMIT_SECONDS, self._settings.load_seconds)
        plan = PLANS[self._settings.plan]
        for step in plan.draw(cast):
            took_seconds = step.after_seconds + step.fault.hold_seconds + self._settings.quiet_seconds
            is_due = all(name in self._tried for name in plan.must_strike)
            if time.monotonic() + took_seconds >= (until if is_due else last):
                break
            await asyncio.sleep(step.after_seconds)
            task = asyncio.create_task(self._carry_out(step.fault, stage.instance))
            if step.fault.overlaps:
                tasks.append(task)
            else:
                await asyncio.gather(task, *tasks)
        await asyncio.gather(*tasks, asyncio.sleep(max(until - time.monotonic(), 0.0)))

    async def _carry_out(self, fault: Fault, instance: Instance) -> None:
        struck_at = time.time()
        self._tried.add(fault.name)
        try:
            await fault.strike(instance)
            await asyncio.sleep(fault.hold_seconds)
            await fault.heal(instance)
        except Exception as error:  # noqa: BLE001 - a line of the result; the run goes on to its verdict
            self._errors.append(f"{fault.name}: {type(error).__name__}: {error}")
            return  # what did not happen is not counted
        self._strikes.append(Strike(fault.name, struck_at, time.time()))
        self._faults[fault.name] += 1
        self._kills += fault.kills

    async def _end_loads(self, stage: Stage) -> None:
        until = time.monotonic() + WORDS_LIMIT_SECONDS
        stage.stop_loads()
        while stage.loads_run and time.monotonic() < until:  # noqa: ASYNC110 - a child gives no event
            await asyncio.sleep(LOOK_SECONDS)
        for load in stage.loads:
            if load.unit.child.exit_code != 0:
                self._errors.append(f"{load.name} ended with {load.unit.child.exit_code}")


async def _settle(stage: Stage, *, hurries: bool, may_lose: bool) -> float:
    """Wait until the endpoint was told everything and nothing waits any more; return how long it took.

    Receipts that a carrier still owes are waited for, and what they change.

    Of what is lost, nobody is told an end.
    """
    begun = hurried_at = told_at = time.monotonic()
    while (waited := time.monotonic() - begun) < SETTLE_LIMIT_SECONDS:
        if waited > RECEIPTS_SECONDS:
            await let_the_walk_come(stage.instance)
        if hurries and time.monotonic() - hurried_at > HURRY_SECONDS:
            await end_leases(stage.instance)
            hurried_at = time.monotonic()
        if not any((await open_rows(stage.instance, stage.scene.hostile)).values()):
            evidence = stage.evidence()
            if may_lose or (not evidence.unacked_receipts and is_all_told(evidence)):
                break
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            for row in await what_waits(stage.instance, stage.scene.hostile):
                say(f"still waits: {row}")
        await asyncio.sleep(LOOK_SECONDS)
    return waited


def nothing_struck(faults: Counter[str], errors: Sequence[str], load_seconds: float) -> list[str]:
    """An error for a run that broke nothing: that nothing was found then says nothing."""
    if faults or errors:
        return []
    return [f"no fault fitted into {load_seconds:.0f} s of load: run the plan for longer"]


def not_done(said: str, names: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """An error for each thing that a run is for and that did not happen in it."""
    return [f"{name}: {said}" for name in names if not counts.get(name)]


@asynccontextmanager
async def _walk(stage: Stage, is_wanted: bool) -> AsyncIterator[None]:
    """Meanwhile have the ledger look at holds whose receipt is overdue, every two seconds, where wanted."""

    async def walk() -> None:
        while True:
            await asyncio.sleep(WALK_SECONDS)
            await let_the_walk_come(stage.instance)

    task = asyncio.create_task(walk()) if is_wanted else None
    try:
        yield
    finally:
        if task is not None:
            await cancel_all([task])


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def carry_out(settings: RunSettings, keep_folder: bool = False) -> Result:
    """Carry out a run; its folder is removed unless something was found or it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-chaos-"))
    result = asyncio.run(Chaos(settings, folder).run())
    if result.is_right and not keep_folder:
        shutil.rmtree(folder)
    else:
        say(f"everything of this run is in {folder}")
    return result
