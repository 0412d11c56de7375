"""One run: an instance under load, faults from a plan, time to settle, the verdict."""

import asyncio
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from simulator.journal import Journal
from tests.chaos.evidence import CarrierLog, Evidence, gather
from tests.chaos.faults import Fault
from tests.chaos.instance import CARRIERS, Instance, open_instance
from tests.chaos.load import LoadConfig
from tests.chaos.logs import read_client, read_told
from tests.chaos.measure import Aftermath, Strike, aftermaths
from tests.chaos.orders import Habits
from tests.chaos.own_word import ask_tollwire, open_rows
from tests.chaos.plan import PLANS, Cast
from tests.chaos.processes import Keeper, Service
from tests.chaos.scene import Scene, make_rows, set_endpoints, write_rules
from tests.chaos.sink import SinkConfig
from tests.chaos.verdict import Verdict, compare, judge

# A message may lose two publishers in a row (60 s and 120 s of lease), and then wait for a receipt.
SETTLE_LIMIT_SECONDS = 150.0
LOOK_SECONDS = 1.0
WARM_UP_SECONDS = 3.0
# In per cent; what is left of 100 is delivered. Throttling has a plan of its own: it slows everything.
MIX = {
    "temporary": 2.0, "refused": 1.0, "undeliverable": 3.0, "enroute_then_delivered": 2.0,
    "receipt_first": 2.0, "receipt_twice": 2.0, "undelivered_after_delivered": 1.0,
    "delivered_after_undelivered": 1.0,
    "enroute_after_delivered": 2.0, "unknown_reference": 1.0, "duplicate_reference": 1.0, "slow": 0.5,
    "closes": 0.3, "closes_lost": 0.3, "closes_mid_reply": 0.3, "garbage": 0.3,
}  # fmt: skip
NO_RECEIPT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is: repeat it with the same."""

    seed: int
    plan: str
    load_seconds: float
    copies: int = 2
    rate_per_second: float = 300.0
    # No strike in the last part of the load: what it leaves behind is then worked off under load.
    quiet_seconds: float = 3.0


@dataclass
class Result:
    """What came of a run."""

    settings: RunSettings
    verdict: Verdict
    strikes: list[Strike]
    aftermaths: list[Aftermath]
    kills: int
    settled_seconds: float
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
        self._errors: list[str] = []
        self._kills = 0

    async def run(self) -> Result:
        """Run it."""
        async with open_instance(self._folder, self._settings.copies) as instance:
            scene = await self._set_up(instance)
            load = await self._start_load(instance, scene)
            self._say(f"seed {self._settings.seed}, plan {self._settings.plan}: load runs")
            await asyncio.sleep(WARM_UP_SECONDS)
            await self._strike(instance, time.monotonic() + self._settings.load_seconds)
            load_ended_at = time.time()
            await self._end_load(load)
            self._say(f"load ended, {self._kills} kills; settling")
            settled_seconds = await self._settle(instance, scene)
            self._say(f"settled after {settled_seconds:.0f} s; counting")
            evidence = self._evidence(instance, scene)
            verdict = judge(evidence)
            compare(verdict, evidence, await ask_tollwire(instance, scene.accounts))
        return Result(
            self._settings,
            verdict,
            self._strikes,
            aftermaths(evidence, self._strikes, load_ended_at),
            self._kills,
            settled_seconds,
            self._faults,
            self._errors,
        )

    async def _set_up(self, instance: Instance) -> Scene:
        write_rules(instance, MIX, self._settings.seed)
        made = await make_rows(instance, NO_RECEIPT_SECONDS)
        await instance.start_services()
        scene = await set_endpoints(instance, made)
        secrets = {account.name: account.secret for account in scene.accounts}
        config = SinkConfig(scene.sink_port, str(self._folder / "told.jsonl"), secrets)
        await instance.keep(Keeper(self._module("sink", config)))
        return scene

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    def _module(self, name: str, config: msgspec.Struct) -> Service:
        file = self._folder / f"{name}.json"
        file.write_bytes(msgspec.json.encode(config))
        unit = Service(name, f"tests.chaos.{name}", self._folder, {})
        unit.arguments = [str(file)]
        return unit

    async def _start_load(self, instance: Instance, scene: Scene) -> Service:
        config = LoadConfig(
            run=f"r{self._settings.seed}",
            seed=self._settings.seed,
            rate_per_second=self._settings.rate_per_second,
            api_urls=instance.api_urls,
            accounts=scene.accounts,
            habits=Habits(),
            log=str(self._folder / "client.jsonl"),
        )
        load = self._module("load", config)
        await load.start_async()
        return load

    async def _strike(self, instance: Instance, until: float) -> None:
        cast = Cast(random.Random(self._settings.seed), self._settings.copies)
        tasks: list[asyncio.Task[None]] = []
        for step in PLANS[self._settings.plan](cast):
            quiet_at = until - self._settings.quiet_seconds - step.fault.hold_seconds
            if time.monotonic() + step.after_seconds >= quiet_at:
                break
            await asyncio.sleep(step.after_seconds)
            task = asyncio.create_task(self._carry_out(step.fault, instance))
            if step.fault.overlaps:
                tasks.append(task)
            else:
                await asyncio.gather(task, *tasks)
        await asyncio.gather(*tasks, asyncio.sleep(max(until - time.monotonic(), 0.0)))

    async def _carry_out(self, fault: Fault, instance: Instance) -> None:
        struck_at = time.time()
        try:
            await fault.strike(instance)
            await asyncio.sleep(fault.hold_seconds)
            await fault.heal(instance)
        except Exception as error:  # noqa: BLE001 - a line of the result; the run goes on to its verdict
            self._errors.append(f"{fault.name}: {type(error).__name__}: {error}")
        self._strikes.append(Strike(fault.name, struck_at, time.time()))
        self._faults[fault.name] += 1
        self._kills += fault.kills

    async def _end_load(self, load: Service) -> None:
        load.child.send(signal.SIGTERM)
        while load.child.exit_code is None:  # noqa: ASYNC110 - a child gives no event, only its status
            await asyncio.sleep(LOOK_SECONDS)
        if load.child.exit_code != 0:
            self._errors.append(f"the load ended with {load.child.exit_code}")
        await load.stop_async()

    async def _settle(self, instance: Instance, scene: Scene) -> float:
        """Wait until the endpoint was told every end and nothing waits any more; return how long it took."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < SETTLE_LIMIT_SECONDS:
            if not any((await open_rows(instance)).values()) and self._all_told(instance, scene):
                break
            await asyncio.sleep(LOOK_SECONDS)
        return waited

    def _all_told(self, instance: Instance, scene: Scene) -> bool:
        return all(message.finals for message in self._evidence(instance, scene).messages.values())

    def _evidence(self, instance: Instance, scene: Scene) -> Evidence:
        return gather(
            read_client(self._folder / "client.jsonl"),
            [CarrierLog(kind, Journal(instance.carrier_log(kind.name)).entries()) for kind in CARRIERS],
            read_told(self._folder / "told.jsonl"),
            {account.name: account.charge for account in scene.accounts},
        )


def carry_out(settings: RunSettings, keep_folder: bool = False) -> Result:
    """Carry out a run; its folder is removed unless something was found or it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-chaos-"))
    result = asyncio.run(Chaos(settings, folder).run())
    if result.is_right and not keep_folder:
        shutil.rmtree(folder)
    else:
        print(f"Everything of this run is in {folder}")
    return result


def as_json(results: Sequence[Result]) -> Any:
    """The results in a form that can be written."""
    return msgspec.to_builtins(results)
