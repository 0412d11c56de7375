"""A PostgreSQL that forgets on a power cut, with a database for the simulation."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from cli.migrate import upgrade
from embedded.accounts import remove_folder
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database
from shared.runtime.postgres import Pool, open_pool
from tests.chaos.simulation.sql_server import take_over
from tests.support.flow import PoolSettings
from tests.support.folders import forgetful_folder


@contextmanager
def simulated_dsn() -> Iterator[str]:
    """The DSN of a migrated database of our own clock, on a server that lives as long as this."""
    folder = forgetful_folder("tollwire-simulation-")
    server = PostgresServer(folder / "postgresql", durable=False)
    try:
        server.start()
        asyncio.run(ensure_database(server, "simulation"))
        dsn = server.dsn(database="simulation")
        with ThreadPoolExecutor(max_workers=1) as thread:  # the migrations run a loop of their own
            thread.submit(upgrade, dsn).result()
        asyncio.run(prepare(dsn))
        yield dsn
    finally:
        server.stop()
        remove_folder(folder / "postgresql")
        folder.rmdir()


async def prepare(dsn: str) -> None:
    """Give a migrated database the simulation's clock."""
    connection = await asyncpg.connect(dsn)
    try:
        await take_over(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def one_connection(dsn: str) -> AsyncIterator[Pool]:
    """A pool of one: its session knows the time."""
    async with open_pool(PoolSettings(dsn, 1, 1), application_name="tollwire-simulation") as pool:
        yield pool
