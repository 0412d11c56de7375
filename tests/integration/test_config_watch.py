"""Following the configuration when the server's host vanishes without a word."""

import asyncio

from shared.runtime.postgres import Connection, open_pool
from shared.storage.config import ConfigWatch
from tests.support.flow import PoolSettings
from tests.support.postgres_proxy import open_proxy
from tests.support.servers import Database

CONNECTIONS = 4
# Far above the limits that are tried here, far below TCP's own.
IN_TIME_SECONDS = 30.0


async def load(_connection: Connection, version: int) -> int:
    return version


async def test_a_host_that_vanished_holds_one_look_up_and_no_connection(database: Database) -> None:
    async with open_proxy(database.dsn("api")) as (proxy, dsn):
        settings = PoolSettings(dsn, CONNECTIONS, CONNECTIONS)
        async with open_pool(settings, application_name="tests") as pool:
            watch = ConfigWatch(pool, load)
            await watch.refresh()
            proxy.strand()
            looks = 1
            async with asyncio.timeout(IN_TIME_SECONDS):
                while not await looked(watch):
                    looks += 1
                answers = await asyncio.gather(*(pool.fetchval("select 1") for _ in range(CONNECTIONS)))
            assert looks == 2
            assert answers == [1] * CONNECTIONS


async def looked(watch: ConfigWatch[int]) -> bool:
    try:
        await watch.refresh()
    except TimeoutError:
        return False
    return True
