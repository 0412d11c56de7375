"""Runs bench/prototype: the same machine, the same servers, the same load generator, the whole way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import asyncpg

from bench import books
from bench.command import Command
from bench.load import MICROSECONDS, Outcome, Plan, Requests
from bench.programs import compiled
from bench.recordings import read_counts
from bench.waiting import until
from bench.wal import make_wal_files
from embedded.nats import NatsServer
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.unit import running

SOURCES: Final = Path(__file__).resolve().parent.parent / "prototype"
TUNING: Final = {"LINGER": "0.02", "BUNDLE": "100"}
TEXTS: Final = 1_000
# It tells nobody when it is ready: connected, and subscribed.
SETTLE_SECONDS: Final = 1.5
WAIT_SECONDS: Final = 60.0
PORTS: Final = ("API", "SINK", "SIM")
_COUNTS: Final = """
    select (select count(*) from messages where status = 3),
           (select count(*) from credit_locks where state = 1),
           (select count(*) from outbox), (select sum(held) from accounts),
           (select count(*) from callbacks where done_at is not null)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the prototype."""

    load: Outcome
    rate: float  # messages a second from the first request to the last callback


class Prototype:
    """Its servers are up; each run makes its tables anew and starts its processes."""

    def __init__(self, folder: Path, postgres: PostgresServer, nats: NatsServer) -> None:
        self._folder = folder
        self._postgres = postgres
        self._nats = nats
        texts = [
            {"to": f"4479{number:08d}", "text": f"Hello bench message {number:08d} from Tollwire ok"}
            for number in range(TEXTS)
        ]
        (folder / "prototype").mkdir(exist_ok=True)
        self._requests = Requests(folder / "prototype", ["tw_abcdefgh_0123456789abcdef"], texts)

    async def run(self, plan: Plan) -> Run:
        """Carry messages the whole way; ``plan.port`` is its own.

        Raises:
            WrongCount: it was not exact.
        """
        ports = {name: free_port() for name in PORTS}
        plan = replace(plan, port=ports["API"])
        await self._make_tables()
        async with self._processes(ports) as counts:
            load = await self._requests.run(plan)
            wanted = len(load.accepted)

            async def is_done() -> bool:
                return read_counts(counts).count >= wanted

            books.expect("the prototype called back", await until(is_done, WAIT_SECONDS), True)
            ended_us = read_counts(counts).last_us
            await self._expect_exact(wanted)
        return Run(load, wanted * MICROSECONDS / (ended_us - load.begun_us))

    @asynccontextmanager
    async def _processes(self, ports: dict[str, int]) -> AsyncIterator[Path]:
        bench = compiled(SOURCES, "prototype")
        scheme, _, address = self._nats.url.partition("://")
        environ = {
            **TUNING,
            **{f"{name}_PORT": str(port) for name, port in ports.items()},
            "DSN": self._postgres.dsn(),
            "NATS": f"{scheme}://{self._nats.token}@{address}",
        }
        out = self._folder / "prototype"
        units = [
            Command("sim", out, [bench, "sim", ports["SIM"], out / "sim.out"], ready=ports["SIM"]),
            Command("sink", out, [bench, "sink", ports["SINK"], out / "sink.out"], ready=ports["SINK"]),
            Command("api", out, [sys.executable, "api.py"], environ=environ, ready=ports["API"], at=SOURCES),
            Command("worker", out, [sys.executable, "worker.py"], environ=environ, at=SOURCES),
            Command("dlr", out, [sys.executable, "dlr.py"], environ=environ, at=SOURCES),
        ]
        async with AsyncExitStack() as stack:
            for unit in units:
                await stack.enter_async_context(running(unit))
            await asyncio.sleep(SETTLE_SECONDS)
            yield out / "sink.out.cnt"

    async def _make_tables(self) -> None:
        connection = await asyncpg.connect(self._postgres.dsn())
        try:
            await connection.execute((SOURCES / "schema.sql").read_text())
        finally:
            await connection.close()

    async def _expect_exact(self, wanted: int) -> None:
        connection = await asyncpg.connect(self._postgres.dsn())

        async def is_exact() -> bool:
            return [tuple(row) for row in await connection.fetch(_COUNTS)] == [(wanted, wanted, 0, 0, wanted)]

        try:
            books.expect("the prototype's counts are right", await until(is_exact, WAIT_SECONDS), True)
        finally:
            await connection.close()


@asynccontextmanager
async def prototype(folder: Path) -> AsyncIterator[Prototype]:
    """The prototype on servers of its own, with fsync on."""
    postgres = PostgresServer(folder / "prototype-postgresql")
    nats = NatsServer(folder / "prototype-nats")
    async with running(postgres), running(nats):
        await make_wal_files(postgres.dsn())
        yield Prototype(folder, postgres, nats)
