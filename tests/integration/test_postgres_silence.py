"""A PostgreSQL that says nothing more: no host is waited for in vain, and no place of a pool is lost."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from api.health import Health
from embedded.postgres import PostgresServer
from shared.runtime import postgres as runtime
from shared.runtime import postgres_pool
from shared.runtime.postgres import Pool, call, open_engine, open_pool, open_read_pool
from shared.runtime.postgres_hosts import Hosts
from tests.support.postgres_proxy import Proxy, open_proxy

# Far above the limits that are tried here: what has not ended by then, waits without end.
IN_TIME_SECONDS = 60.0
SHORT_SECONDS = 3.0
PLACES = 2
ASK = "select * from pg_backend_pid()"


@dataclass
class Settings:
    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = PLACES


@asynccontextmanager
async def two_hosts(postgres: PostgresServer) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and the DSN of it and, after it, of the server itself."""
    async with open_proxy(postgres.dsn()) as (proxy, through):
        first = through.rpartition("@")[2].partition("/")[0]
        head, _, tail = postgres.dsn().rpartition("@")
        yield proxy, f"{head}@{first},{tail}"


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "START_SECONDS", 0.0)


@pytest.mark.usefixtures("one_attempt")
async def test_a_process_starts_by_the_second_host_when_the_first_says_nothing(
    postgres: PostgresServer,
) -> None:
    async with two_hosts(postgres) as (proxy, dsn):
        proxy.swallow_answers()
        async with open_pool(Settings(dsn), application_name="test") as pool:
            assert await pool.fetchval("select not pg_is_in_recovery()")


async def test_a_call_finds_the_second_host_when_the_first_falls_silent(postgres: PostgresServer) -> None:
    async with (
        two_hosts(postgres) as (proxy, dsn),
        open_pool(Settings(dsn, postgres_pool_max=1), application_name="test") as pool,
    ):
        port = await pool.fetchval("select inet_client_port()")
        proxy.cut()
        proxy.heal()
        proxy.swallow_answers()
        assert len(await call(pool, ASK, deadline_seconds=10.0)) == 1
        assert await pool.fetchval("select inet_client_port()") != port


async def test_the_read_pool_finds_the_second_host_when_the_first_says_nothing(
    postgres: PostgresServer,
) -> None:
    async with (
        two_hosts(postgres) as (proxy, dsn),
        open_read_pool(dsn, PLACES, application_name="test") as pool,
    ):
        proxy.swallow_answers()
        assert await pool.fetchval("select 1") == 1


async def test_whoever_waits_too_briefly_for_a_silent_host_finds_the_other_the_next_time(
    postgres: PostgresServer,
) -> None:
    async with two_hosts(postgres) as (proxy, dsn):
        proxy.swallow_answers()
        hosts = Hosts(dsn)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT_SECONDS):
                await hosts.connect(timeout=4 * IN_TIME_SECONDS)
        async with asyncio.timeout(IN_TIME_SECONDS):  # half of a share
            connection = await hosts.connect(timeout=4 * IN_TIME_SECONDS)
        await connection.close()


async def test_what_a_host_says_tells_more_than_anothers_silence(postgres: PostgresServer) -> None:
    head, _, tail = postgres.dsn().rpartition("@")
    async with open_proxy(postgres.dsn()) as (proxy, through):
        proxy.swallow_answers()
        silent = through.rpartition("@")[2].partition("/")[0]
        host = tail.partition("/")[0]
        dsn = f"{head}@{host},{silent}/postgres?sslmode=require"
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            await Hosts(dsn).connect(timeout=2.0)


async def test_the_engine_finds_the_second_host_when_the_first_says_nothing(postgres: PostgresServer) -> None:
    async with two_hosts(postgres) as (proxy, dsn):
        proxy.swallow_answers()
        async with (
            open_engine(Settings(dsn), application_name="test") as engine,
            engine.connect() as connection,
        ):
            assert await connection.scalar(text("select 1")) == 1


@asynccontextmanager
async def through_proxy(postgres: PostgresServer, **options: float) -> AsyncIterator[tuple[Pool, Proxy]]:
    """A pool through a proxy, which says nothing more afterwards."""
    async with (
        open_proxy(postgres.dsn()) as (proxy, dsn),
        open_pool(Settings(dsn), application_name="test", **options) as pool,
    ):
        yield pool, proxy
        proxy.cut()


async def ended_by(work: Coroutine[Any, Any, object]) -> BaseException | None:
    """How it ended, which it must have done."""
    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task}, timeout=IN_TIME_SECONDS)
    if not done:
        task.cancel()
    assert done, "it waits without end"
    return task.exception()


async def assert_whole(pool: Pool, proxy: Proxy) -> None:
    """Every place of the pool can be had again, all at the same time."""
    proxy.heal()

    async def have(here: asyncio.Barrier) -> None:
        async with pool.acquire() as connection:
            await connection.fetchval("select 1")
            await here.wait()

    barrier = asyncio.Barrier(PLACES)
    async with asyncio.timeout(IN_TIME_SECONDS):
        await asyncio.gather(*(have(barrier) for _ in range(PLACES)))


async def test_a_bare_query_ends_by_the_pools_own_limit(postgres: PostgresServer) -> None:
    async with through_proxy(postgres) as (pool, proxy):
        proxy.swallow_answers()
        assert isinstance(await ended_by(pool.fetch("select 1")), TimeoutError)
        assert pool.get_size() == 0  # cut: who is silent may never confirm that the query is cancelled
        await assert_whole(pool, proxy)


async def test_transactions_on_silent_connections_end_and_give_every_place_back(
    postgres: PostgresServer,
) -> None:
    async with through_proxy(postgres, answer_seconds=SHORT_SECONDS) as (pool, proxy):
        all_began = asyncio.Barrier(PLACES)

        async def transact() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await all_began.wait()
                proxy.swallow_answers()
                await connection.fetchval("select 1")

        ends = await asyncio.gather(*(ended_by(transact()) for _ in range(PLACES)))
        assert [type(end) for end in ends] == [TimeoutError] * PLACES
        await assert_whole(pool, proxy)


async def test_a_cancelled_query_gives_its_place_back(postgres: PostgresServer) -> None:
    async with through_proxy(postgres) as (pool, proxy):
        proxy.swallow_answers()

        async def impatient() -> None:
            async with asyncio.timeout(SHORT_SECONDS):
                await pool.fetchval("select 1")

        assert isinstance(await ended_by(impatient()), TimeoutError)
        await assert_whole(pool, proxy)


async def test_no_goodbye_is_said_to_idle_connections_that_expire(postgres: PostgresServer) -> None:
    async with through_proxy(postgres) as (pool, proxy), pool.acquire() as used:
        async with pool.acquire() as idle:
            await idle.fetchval("select 1")
        assert pool.get_size() == PLACES
        await pool.expire_connections()
        assert pool.get_size() == 1
        assert await used.fetchval("select 1") == 1
        await pool.release(used)
        await assert_whole(pool, proxy)


async def test_who_waits_for_a_place_is_told_that_there_is_none(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "CONNECT_SECONDS", SHORT_SECONDS)
    async with through_proxy(postgres) as (pool, proxy):
        held = [await pool.acquire(timeout=IN_TIME_SECONDS) for _ in range(PLACES)]
        assert isinstance(await ended_by(pool.fetchval("select 1")), TimeoutError)
        for connection in held:
            await pool.release(connection)
        await assert_whole(pool, proxy)


async def test_a_probe_does_not_wait_for_a_place(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "CONNECT_SECONDS", 2 * IN_TIME_SECONDS)
    async with through_proxy(postgres) as (pool, _):
        held = [await pool.acquire() for _ in range(PLACES)]
        health = Health(pool, {})
        health.is_listening = True
        assert await ended_by(health.look()) is None
        readiness = await health.look()
        assert (readiness.status, readiness.parts["postgres"].detail) == ("unready", "TimeoutError")
        for connection in held:
            await pool.release(connection)
