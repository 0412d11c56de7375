"""A whole instance of Tollwire for chaos: embedded servers with fsync on, and one or more of each service.

Not `tollwire up`: there each restart waits longer than the one before, and no process can be started for a
crash point or with a wrong clock. The servers, the migrations and the services are the same.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.migrate import upgrade
from embedded.nats import NatsServer
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database, set_passwords
from embedded.valkey import ValkeyServer, find_valkey
from shared.runtime.keyring import Keyring
from tests.chaos.archive import back_up, keep_archive
from tests.chaos.mesh import Mesh, open_mesh
from tests.chaos.processes import Keeper, Service
from tests.chaos.topology import (
    STANDBY,
    StandbyServer,
    cluster_nodes,
    commit_with_standby,
    mount_small_disk,
    unmount,
)

DATABASE = "tollwire"
SERVICES = ("api", "worker", "dlr", "ledger")
# Work goes in batches, a few at a time. After a crash of PostgreSQL each new connection plans every function
# anew, which on two cores is most of what a restart costs.
POOL_MAX = "6"
# What a new cluster with the schema takes, and some minutes of load.
SMALL_DISK_MB = 700
SIMULATOR_SECRET = "a secret that both know"


@dataclass(frozen=True, slots=True)
class CarrierKind:
    """One simulated carrier: whether it recognises repeated ids, and whether its receipts name our ids."""

    name: str
    prefix: str
    recognises: bool
    echoes: bool


# Every run has both, side by side: the seed is so to say run twice, at the same moment (RULES 40).
CARRIERS = (
    CarrierKind("knows", "49", recognises=True, echoes=True),
    CarrierKind("blind", "44", recognises=False, echoes=False),
)


@dataclass
class Instance:
    """Everything that runs. ``keepers`` by name: postgresql, nats, valkey, api-1, …, carrier-blind."""

    folder: Path
    copies: int
    keepers: dict[str, Keeper] = field(default_factory=dict)
    api_urls: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    # What services are told instead of PostgreSQL's own address: a proxy's.
    postgres_port: int = 0
    # Which server is the primary.
    primary: str = "postgresql"
    nats_names: list[str] = field(default_factory=list)
    # The ways between the NATS servers, where there are three.
    mesh: Mesh | None = None
    _mounted: list[Path] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def postgres(self) -> PostgresServer:
        """The database: the primary, where there are two."""
        unit = self.keepers[self.primary].unit
        if not isinstance(unit, PostgresServer):
            raise TypeError(unit.name)
        return unit

    @property
    def keyring_file(self) -> Path:
        """What seals secrets."""
        return self.folder / "keyring.json"

    def of(self, service: str) -> list[Keeper]:
        """All processes of a service."""
        return [keeper for name, keeper in self.keepers.items() if name.rpartition("-")[0] == service]

    def service(self, name: str) -> Service:
        """The unit of one process of ours."""
        unit = self.keepers[name].unit
        if not isinstance(unit, Service):
            raise TypeError(name)
        return unit

    def dsn(self, user: str) -> str:
        """How the harness reaches the database as a role."""
        return self.postgres.dsn(user=user, database=DATABASE)

    def _service_dsn(self, service: str) -> str:
        """How a service does: over the proxy if there is one, and to whichever server is the primary."""
        own = f"127.0.0.1:{self.postgres.port}"
        hosts = f"127.0.0.1:{self.postgres_port}" if self.postgres_port else own
        if STANDBY in self.keepers:
            unit = self.keepers[STANDBY].unit
            hosts += f",127.0.0.1:{unit.port}" if isinstance(unit, PostgresServer) else ""
        return self.dsn(f"tollwire_{service}").replace(f"@{own}/", f"@{hosts}/")

    async def keep(self, keeper: Keeper) -> Keeper:
        """Start and keep something."""
        self.keepers[keeper.name] = keeper
        await keeper.start()
        return keeper

    async def start_servers(self, topology: str) -> None:
        """PostgreSQL with the schema, NATS, and Valkey where there is one.

        ``topology``: single, standby, standby-async, small-disk, archive or cluster.
        """
        self.folder.chmod(0o755)  # root's PostgreSQL runs as nobody, who must get through
        if topology == "small-disk":
            mount_small_disk(self.folder / "postgresql", SMALL_DISK_MB)
            self._mounted.append(self.folder / "postgresql")
        if topology == "archive":
            keep_archive(self.folder / "postgresql")
        await self.keep(Keeper(PostgresServer(self.folder / "postgresql")))
        await self._start_nats(is_cluster=topology == "cluster")
        program = find_valkey()
        if program is not None:
            await self.keep(Keeper(ValkeyServer(self.folder / "valkey", program=program)))
        await ensure_database(self.postgres, DATABASE)
        await asyncio.to_thread(upgrade, self.dsn("postgres"))
        await set_passwords(self.postgres)
        Keyring.generate(self.keyring_file)
        if topology == "archive":
            await asyncio.to_thread(back_up, self.postgres)
        if topology.startswith("standby"):
            await self.keep(Keeper(StandbyServer(self.folder / STANDBY, self.postgres)))
        if topology == "standby":
            await commit_with_standby(self.postgres)

    async def _start_nats(self, *, is_cluster: bool) -> None:
        nodes: list[NatsServer] = [NatsServer(self.folder / "nats")]
        if is_cluster:
            cluster = cluster_nodes(self.folder, "a token of three")
            mesh = self._stack.enter_context(open_mesh({node.name: node.route_port for node in cluster}))
            for node in cluster:
                node.ways = mesh.ports_of(node.name)
            self.mesh = mesh
            nodes = [*cluster]
        self.nats_names = [node.name for node in nodes]
        await asyncio.gather(*(self.keep(Keeper(node)) for node in nodes))

    @property
    def nats(self) -> list[NatsServer]:
        """The NATS servers, one or three."""
        units = [self.keepers[name].unit for name in self.nats_names]
        return [unit for unit in units if isinstance(unit, NatsServer)]

    async def start_services(self, prepare: Callable[[Service], None] | None = None) -> None:
        """The carriers and ours, all side by side; ``prepare`` may change each before it starts."""
        self.ports["dlr"] = free_port()
        units = [self._carrier(kind) for kind in CARRIERS]
        for service in SERVICES:
            units += [self._service(service, number) for number in range(1, self.copies + 1)]
        if prepare is not None:
            for unit in units:
                prepare(unit)
        await asyncio.gather(*(self.keep(Keeper(unit)) for unit in units))

    def carrier_log(self, name: str) -> Path:
        """What a carrier keeps of what reached it."""
        return self.folder / f"{name}.jsonl"

    def carrier_url(self, name: str) -> str:
        """Where a carrier takes submits; its port is fixed by the first call."""
        port = self.ports.setdefault(f"carrier-{name}", free_port(self.ports.values()))
        return f"http://127.0.0.1:{port}"

    def _carrier(self, kind: CarrierKind) -> Service:
        health = free_port(self.ports.values())
        url = self.carrier_url(kind.name)
        environ = {
            "TOLLWIRE_SIMULATOR_PORT": url.rpartition(":")[2],
            "TOLLWIRE_SIMULATOR_RECEIPT_URL": f"http://127.0.0.1:{self.ports['dlr']}/receipts/{kind.name}",
            "TOLLWIRE_SIMULATOR_SECRET": SIMULATOR_SECRET,
            "TOLLWIRE_SIMULATOR_LOG": str(self.carrier_log(kind.name)),
            "TOLLWIRE_SIMULATOR_RULES": str(self.folder / f"{kind.name}.rules.json"),
            "TOLLWIRE_HEALTH_PORT": str(health),
        }
        return Service(f"carrier-{kind.name}", "simulator", self.folder, environ, health)

    def _service(self, service: str, number: int) -> Service:
        name = f"{service}-{number}"
        health = self.ports[f"{name} health"] = free_port(self.ports.values())
        environ = {**self._servers_environ(service), "TOLLWIRE_HEALTH_PORT": str(health)}
        match service:
            case "api":
                # Each its own: the client knows all of them, as a load balancer does.
                port = self.ports[name] = free_port(self.ports.values())
                environ["TOLLWIRE_PORT"] = str(port)
                self.api_urls.append(f"http://127.0.0.1:{port}")
            case "dlr":
                environ["TOLLWIRE_RECEIPTS_PORT"] = str(self.ports["dlr"])
                environ["TOLLWIRE_REUSE_PORT"] = "true" if self.copies > 1 else "false"
        return Service(name, service, self.folder, environ, health)

    def _servers_environ(self, service: str) -> dict[str, str]:
        valkey = self.keepers["valkey"].unit if "valkey" in self.keepers else None
        return {
            "TOLLWIRE_POSTGRES_DSN": self._service_dsn(service),
            "TOLLWIRE_POSTGRES_POOL_MAX": POOL_MAX,
            "TOLLWIRE_NATS_URL": ",".join(node.url for node in self.nats),
            "TOLLWIRE_NATS_TOKEN": self.nats[0].token,
            "TOLLWIRE_NATS_REPLICAS": str(len(self.nats)),
            "TOLLWIRE_VALKEY_URL": valkey.url if isinstance(valkey, ValkeyServer) else "",
            "TOLLWIRE_KEYRING_FILE": str(self.keyring_file),
            "TOLLWIRE_CALLBACK_ALLOW_PRIVATE": "true",
            "TOLLWIRE_CALLBACK_HTTPS_ONLY": "false",
            "TOLLWIRE_EXPIRE_HOLDS_SECONDS": "2",
            "TOLLWIRE_ARCHIVE_FOLDER": str(self.folder / "archive"),
        }

    async def stop(self) -> None:
        """Stop everything, services first."""
        servers = {"postgresql", STANDBY, "valkey", *self.nats_names}
        ours = [keeper for name, keeper in self.keepers.items() if name not in servers]
        for keeper in ours:
            keeper.send_to_all(signal.SIGCONT)
        await asyncio.gather(*(keeper.stop() for keeper in ours))
        await asyncio.gather(*(self.keepers[name].stop() for name in servers & self.keepers.keys()))
        self._stack.close()
        for folder in self._mounted:
            unmount(folder)


@asynccontextmanager
async def open_instance(folder: Path, copies: int, topology: str) -> AsyncIterator[Instance]:
    """An instance whose servers run; services are started when clients and carriers are set up."""
    instance = Instance(folder, copies)
    try:
        await instance.start_servers(topology)
        yield instance
    finally:
        await instance.stop()
