"""Sets up what a run needs around the instance, each as a process of its own, and reads the logs."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from simulator.journal import Journal
from tests.chaos.clock_faults import find_library, may_step
from tests.chaos.evidence import CarrierLog, Evidence, gather
from tests.chaos.hostile import HostileConfig
from tests.chaos.instance import CARRIERS, SERVICES, Instance, open_instance
from tests.chaos.load import LoadConfig
from tests.chaos.logs import ClientLine, read_client, read_told
from tests.chaos.orders import Habits
from tests.chaos.plan import Plan
from tests.chaos.processes import Keeper, Service
from tests.chaos.proxy import ProxyControl, open_proxy
from tests.chaos.scene import ACCOUNTS, HOSTILE_ACCOUNTS, Scene, make_rows, set_endpoints, write_rules
from tests.chaos.sink import SinkConfig

# In per cent; what is left of 100 is delivered. Throttling is a fault of its own: it slows everything.
MIX = {
    "temporary": 2.0, "refused": 1.0, "undeliverable": 3.0, "enroute_then_delivered": 2.0,
    "receipt_first": 2.0, "receipt_twice": 2.0, "undelivered_after_delivered": 1.0,
    "delivered_after_undelivered": 1.0, "enroute_after_delivered": 2.0, "unknown_reference": 1.0,
    "duplicate_reference": 1.0, "slow": 0.5, "closes": 0.3, "closes_lost": 0.3, "closes_mid_reply": 0.3,
    "garbage": 0.3, "silent": 0.1,
}  # fmt: skip
# The silent ones end by it, and those of which one of two submits may still be delivered.
NO_RECEIPT_SECONDS = 30


class LibraryMissing(Exception):  # noqa: N818 - named for what is missing
    """The plan needs libfaketime, which is not installed: pip install libfaketime."""


@dataclass
class Stage:
    """An instance with clients that send and endpoints that are told."""

    folder: Path
    instance: Instance
    scene: Scene
    rules: dict[str, dict[str, object]]
    proxy: ProxyControl | None
    habits: Habits
    loads: list[Keeper] = field(default_factory=list)

    async def start_load(self, name: str, config: LoadConfig) -> None:
        """Start a client."""
        keeper = Keeper(module(self.folder, name, "load", config))
        await keeper.unit.start_async()
        self.instance.keepers[name] = keeper
        self.loads.append(keeper)

    def load_config(self, name: str, seed: int, rate_per_second: float) -> LoadConfig:
        """What a client is told."""
        return LoadConfig(
            run=f"{name}{seed}",
            seed=seed,
            rate_per_second=rate_per_second,
            api_urls=self.instance.api_urls,
            accounts=self.scene.accounts,
            habits=self.habits,
            log=str(self.folder / f"{name}.client.jsonl"),
        )

    def stop_loads(self) -> None:
        """Ask the clients to offer nothing more."""
        for load in self.loads:
            load.send(signal.SIGTERM)

    @property
    def loads_run(self) -> bool:
        """True while a client waits for words."""
        return any(load.unit.child.exit_code is None for load in self.loads)

    def evidence(self) -> Evidence:
        """Read the three logs."""
        client: list[ClientLine] = []
        for file in sorted(self.folder.glob("*.client.jsonl")):
            client += read_client(file)
        logs = [
            CarrierLog(kind, Journal(self.instance.carrier_log(kind.name)).entries()) for kind in CARRIERS
        ]
        charges = {account.name: account.charge for account in self.scene.accounts}
        return gather(client, logs, read_told(self.folder / "told.jsonl"), charges, self.scene.hostile)


@asynccontextmanager
async def open_stage(folder: Path, plan: Plan, copies: int, seed: int) -> AsyncIterator[Stage]:
    """Everything but the load.

    Raises:
        LibraryMissing: the plan steps clocks, and there is nothing to step them with.
    """
    async with open_instance(folder, copies, plan.topology) as instance:
        rules = write_rules(instance, MIX, seed)
        if not plan.has_proxy:
            yield await _set(Stage(folder, instance, Scene([], 0, 0), rules, None, plan.habits), plan)
            return
        with open_proxy(instance.postgres.port) as proxy:
            instance.postgres_port = proxy.port
            yield await _set(Stage(folder, instance, Scene([], 0, 0), rules, proxy, plan.habits), plan)


async def _set(stage: Stage, plan: Plan) -> Stage:
    instance, folder = stage.instance, stage.folder
    accounts = [*ACCOUNTS, *(HOSTILE_ACCOUNTS if plan.has_hostile else ())]
    made = await make_rows(instance, accounts, NO_RECEIPT_SECONDS)
    await instance.start_services(prepare=_prepare_clock(folder) if plan.has_clocks else None)
    stage.scene = await set_endpoints(instance, made)
    secrets = {account.name: account.secret for account in stage.scene.accounts}
    sink = SinkConfig(stage.scene.sink_port, str(folder / "told.jsonl"), secrets)
    await instance.keep(Keeper(module(folder, "sink", "sink", sink)))
    if plan.has_hostile:
        hostile = HostileConfig(stage.scene.hostile_port)
        await instance.keep(Keeper(module(folder, "hostile", "hostile", hostile)))
    return stage


def _prepare_clock(folder: Path) -> Callable[[Service], None]:
    library = find_library()
    if library is None:
        raise LibraryMissing("libfaketime is not installed")

    def prepare(unit: Service) -> None:
        if unit.name.rpartition("-")[0] in SERVICES:
            may_step(unit, library, folder)

    return prepare


def module(folder: Path, name: str, program: str, config: msgspec.Struct) -> Service:
    """A process of the harness with its configuration."""
    file = folder / f"{name}.json"
    file.write_bytes(msgspec.json.encode(config))
    unit = Service(name, f"tests.chaos.{program}", folder, {})
    unit.arguments = [str(file)]
    return unit
