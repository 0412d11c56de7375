"""Following the configuration when the server's host vanishes without a word, or is slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from shared.runtime.loops import Stop
from shared.runtime.postgres import Connection, Pool, open_pool
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


async def test_looks_at_a_slow_server_leave_the_other_connections_alone(database: Database) -> None:
    settings = PoolSettings(database.dsn(), CONNECTIONS, CONNECTIONS)  # a role's lock_timeout is shorter
    async with (
        asyncpg_connection(database) as other,
        open_pool(settings, application_name="tests") as pool,
    ):
        watch = ConfigWatch(pool, load)
        await watch.refresh()
        async with other.transaction():
            await other.execute("lock table tollwire.config_version in access exclusive mode")
            before = await backends(pool)
            assert not await looked(watch)
            anew = await backends(pool)
            assert not before & anew  # its host might have been away
            assert not await looked(watch)
            assert len(anew & await backends(pool)) == CONNECTIONS - 1
        assert await looked(watch)


async def test_what_a_look_saw_is_loaded_once_and_again_where_the_load_failed(database: Database) -> None:
    loads: list[int] = []

    async def fails_first(_connection: Connection, version: int) -> int:
        loads.append(version)
        if len(loads) == 1:
            raise LookupError("not this time")
        return version

    async with open_pool(PoolSettings(database.dsn("api"), 1, 1), application_name="tests") as pool:
        watch = ConfigWatch(pool, fails_first)
        await watch.catch_up()
        assert loads == [], "nobody has looked"
        (version,) = await watch.look()
        with pytest.raises(LookupError):
            await watch.catch_up()
        await watch.catch_up()
        assert watch.current == version
        async with pool.acquire():  # the only connection: who asked for one would wait for it, in vain
            await watch.catch_up()
        assert loads == [version, version]


async def test_what_a_look_saw_is_loaded_by_the_loop_until_the_stop(database: Database) -> None:
    loaded: asyncio.Queue[int] = asyncio.Queue()
    async with open_pool(PoolSettings(database.dsn("api"), 2, 2), application_name="tests") as pool:
        watch = ConfigWatch(pool, load)
        watch.on_change(loaded.put_nowait)
        stop = Stop()
        loop = asyncio.create_task(watch.keep_up(stop))
        async with asyncio.timeout(IN_TIME_SECONDS):
            (version,) = await watch.look()
            assert await loaded.get() == version
            await raise_version(database)
            (version,) = await watch.look()
            assert await loaded.get() == version
            stop.request("the test is over")
            await loop
        assert watch.current == version
        assert loaded.empty()


async def test_a_load_that_fails_in_the_loop_is_tried_again_without_another_look(database: Database) -> None:
    loads: asyncio.Queue[int] = asyncio.Queue()

    async def fails_twice(_connection: Connection, version: int) -> int:
        loads.put_nowait(version)
        if loads.qsize() < 3:
            raise LookupError("not this time")
        return version

    async with open_pool(PoolSettings(database.dsn("api"), 2, 2), application_name="tests") as pool:
        watch = ConfigWatch(pool, fails_twice)
        in_force = asyncio.Event()
        watch.on_change(lambda _version: in_force.set())
        stop = Stop()
        loop = asyncio.create_task(watch.keep_up(stop))
        async with asyncio.timeout(IN_TIME_SECONDS):
            (version,) = await watch.look()
            await in_force.wait()
            stop.request("the test is over")
            await loop
        assert loads.qsize() == 3
        assert watch.current == version


async def raise_version(database: Database) -> None:
    async with asyncpg_connection(database) as connection:
        await connection.execute("update tollwire.config_version set version = version + 1")


@asynccontextmanager
async def asyncpg_connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn())
    try:
        yield connection
    finally:
        await connection.close()


async def backends(pool: Pool) -> set[int]:
    """The processes that serve the pool's connections, all of them in use at once."""
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(pool.acquire()) for _ in range(CONNECTIONS)]
        return {one.get_server_pid() for one in held}


async def looked(watch: ConfigWatch[int]) -> bool:
    try:
        await watch.refresh()
    except TimeoutError:
        return False
    return True
