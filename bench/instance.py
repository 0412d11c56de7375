"""A whole Tollwire of the bench's own: embedded servers with fsync on, and the services that it is told."""

import asyncio
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.processes import Usage, usage
from bench.wal import make_wal_files
from cli.bootstrap import bootstrap
from cli.database import DATABASE
from cli.home import Home
from cli.migrate import upgrade
from cli.port_choice import PortChoice
from cli.servers import Servers
from cli.services import Launch, Service, plan
from embedded.unit import Unit, running
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection

ALL: Final = ("ledger", "api", "worker", "dlr")
# What one machine may be asked is no question here: how fast it answers is.
OPEN_DOORS: Final = {
    "TOLLWIRE_ADDRESS_REQUESTS_PER_MINUTE": "10000000",
    "TOLLWIRE_ADDRESS_REQUESTS_BURST": "1000000",
    "TOLLWIRE_TOTAL_REQUESTS_PER_MINUTE": "10000000",
    "TOLLWIRE_TOTAL_REQUESTS_BURST": "1000000",
}
# A disk, where /tmp may be memory: fsync is part of what is measured.
SCRATCH: Final = Path("/var/tmp")
OPEN_TO_ALL: Final = 0o755


class Instance:
    """It runs while the context that made it does."""

    def __init__(self, home: Home, ports: PortChoice, servers: Servers, launches: Sequence[Launch]) -> None:
        self.home = home
        self.folder = home.path.parent
        self.ports = ports
        self.servers = servers
        self.units: dict[str, Unit] = {unit.name: unit for unit in servers.units}
        self.started_seconds: dict[str, float] = {}
        self.launches = {launch.name: launch for launch in launches}

    async def start(self, name: str) -> None:
        """Start one of its services."""
        begun = time.monotonic()
        service = Service(self.home, self.launches[name])
        await service.start_async()
        self.started_seconds[name] = time.monotonic() - begun
        self.units[name] = service

    async def stop(self, name: str) -> None:
        """Stop one of its services."""
        await self.units.pop(name).stop_async()

    async def stop_services(self) -> None:
        """Stop all services, the last one first."""
        for name in [name for name in reversed(self.units) if name in self.launches]:
            await self.stop(name)

    @property
    def api_port(self) -> int:
        """Where the API listens."""
        return self.ports.port_of("api")

    @property
    def receipts_port(self) -> int:
        """Where carriers' receipts are taken."""
        return self.ports.port_of("dlr")

    def health_port(self, service: str) -> int:
        """Where a service tells its metrics."""
        return self.launches[service].health_port

    def usage(self) -> dict[str, Usage]:
        """What each process has cost.

        Raises:
            RuntimeError: one has died.
        """
        found = {}
        for name, unit in self.units.items():
            if unit.child.pid is None:
                raise RuntimeError(f"{name} died; the end of its log: {unit.child.log}")
            found[name] = usage(unit.child.pid)
        return found

    @asynccontextmanager
    async def database(self, role: str = "") -> AsyncIterator[Connection]:
        """A connection in the role of a service, or as the superuser."""
        postgres = self.servers.postgres
        if postgres is None:
            raise RuntimeError("the bench runs its own PostgreSQL")
        dsn = self.servers.dsn(role) if role else postgres.dsn(database=DATABASE)
        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def value(self, sql: str, *arguments: object) -> Any:
        """One value, asked as the superuser."""
        async with self.database() as connection:
            return await connection.fetchval(sql, *arguments)


@contextmanager
def scratch_folder(under: Path | None = None) -> Iterator[Path]:
    """A folder of the bench's own that is gone afterwards."""
    place = under or (SCRATCH if os.access(SCRATCH, os.W_OK) else None)
    folder = Path(tempfile.mkdtemp(prefix="tollwire-bench-", dir=place))
    folder.chmod(OPEN_TO_ALL)  # root's PostgreSQL runs as nobody, who must get through
    try:
        yield folder
    finally:
        Home(folder / "home").remove()
        shutil.rmtree(folder)


@asynccontextmanager
async def instance(
    folder: Path,
    *,
    services: Sequence[str] = ALL,
    scale: Mapping[str, int] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Instance]:
    """A new instance below the folder, with the services named running.

    Args:
        folder: every account must be able to pass through it.
        services: which are started; others may be later (``start``).
        scale: how many of each; their names then are ``api-1``, ``api-2`` …
        environ: more settings for every service.
    """
    home = Home(folder / "home")
    home.make()
    ports = PortChoice({}, {"TOLLWIRE_PORT": "0"})
    servers = Servers(home, ports, {})
    counts = {**dict.fromkeys(ALL, 1), "simulator": 0, **(scale or {})}
    launches = [
        dataclasses.replace(launch, environ={**launch.environ, **OPEN_DOORS, **(environ or {})})
        for launch in plan(home, ports, servers, counts, {})
    ]
    made = Instance(home, ports, servers, launches)
    async with AsyncExitStack() as stack:
        for unit in servers.units:
            await stack.enter_async_context(running(unit))
        await _prepare(home, servers)
        if servers.postgres is not None:
            await make_wal_files(servers.postgres.dsn())
        stack.push_async_callback(made.stop_services)
        for launch in launches:
            if launch.name.partition("-")[0] in services:
                await made.start(launch.name)
        yield made


async def _prepare(home: Home, servers: Servers) -> None:
    await servers.make_database()
    await asyncio.to_thread(upgrade, servers.migrate_dsn)
    await servers.set_passwords()
    Keyring.generate(home.keyring)
    await bootstrap(
        servers.dsn("api"),
        Keyring.load(home.keyring),
        simulator_url="http://127.0.0.1:9",  # discard: nothing is ever sent there
        receipt_secret="unused",
        home=home,
    )


def verify_command(instance: Instance, *options: str) -> list[str]:
    """The words of `tollwire ledger verify` for this instance."""
    dsn = instance.servers.dsn("ledger")
    keyring = str(instance.home.keyring)
    return [
        sys.executable,
        "-P",
        "-m",
        "cli",
        "ledger",
        "verify",
        "--dsn",
        dsn,
        "--keyring",
        keyring,
        *options,
    ]
