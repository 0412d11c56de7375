"""Opening PostgreSQL: what a connection is like, and which servers are refused."""

import asyncio
import socket
from dataclasses import dataclass

import asyncpg
import pytest
from sqlalchemy import text

from embedded.postgres import PostgresServer
from shared.runtime import postgres as runtime
from shared.runtime.clock import SKEW_MAX_SECONDS, Clock, ClockSkew, open_clock
from shared.runtime.postgres import ServerTooOld, open_engine, open_pool
from shared.runtime.settings import SettingsError
from tests.support.postgres_proxy import open_proxy


@dataclass
class Settings:
    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = 3


async def test_json_goes_in_and_comes_out_as_values(postgres: PostgresServer) -> None:
    value = {"msisdn": "+4915112345678", "parts": [1, 2.5, None, True], "ä": "\U0001f600"}
    async with open_pool(Settings(postgres.dsn()), application_name="test") as pool:
        assert await pool.fetchval("select $1::jsonb", value) == value
        assert await pool.fetchval("select $1::jsonb[]", [value, value]) == [value, value]
        assert await pool.fetchval("select $1::jsonb ->> 'ä'", value) == "\U0001f600"


async def test_a_connection_says_who_it_is_and_compiles_nothing(postgres: PostgresServer) -> None:
    async with open_pool(Settings(postgres.dsn()), application_name="tollwire-api") as pool:
        assert await pool.fetchval("show application_name") == "tollwire-api"
        assert await pool.fetchval("show jit") == "off"


async def test_small_packets_leave_at_once(postgres: PostgresServer) -> None:
    async with (
        open_pool(Settings(postgres.dsn()), application_name="test") as pool,
        pool.acquire() as connection,
    ):
        sock = connection._con._transport.get_extra_info("socket")  # type: ignore[attr-defined] # no public way
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_connection_comes_back_without_a_second_round_trip(postgres: PostgresServer) -> None:
    settings = Settings(postgres.dsn(), postgres_pool_max=1)
    async with open_pool(settings, application_name="test") as pool:
        await pool.execute("set application_name = 'kept'")
        assert await pool.fetchval("show application_name") == "kept"


async def test_an_old_server_is_refused_in_clear_words(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SERVER_VERSION_MIN", 990000)
    with pytest.raises(ServerTooOld, match=r"PostgreSQL 99 or newer is needed, this server is 1\d"):
        async with open_pool(Settings(postgres.dsn()), application_name="test"):
            pass


async def test_a_server_that_is_down_is_waited_for(postgres: PostgresServer) -> None:
    async with open_proxy(postgres.dsn()) as (proxy, dsn), asyncio.timeout(30):
        proxy.cut()
        opening = open_pool(Settings(dsn), application_name="test")
        entering = asyncio.create_task(opening.__aenter__())
        await asyncio.wait([entering], timeout=0.1)
        assert not entering.done()
        proxy.heal()
        pool = await entering
        assert await pool.fetchval("select 1") == 1
        await opening.__aexit__(None, None, None)


async def test_a_server_that_stays_down_is_an_error_in_the_end(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "START_SECONDS", 0.1)
    async with open_proxy(postgres.dsn()) as (proxy, dsn):
        proxy.cut()
        with pytest.raises((OSError, asyncpg.PostgresError)):
            async with open_pool(Settings(dsn), application_name="test"):
                pass


async def test_a_wrong_password_is_not_waited_for(postgres: PostgresServer) -> None:
    user, _, rest = postgres.dsn().removeprefix("postgresql://").partition(":")
    wrong = f"postgresql://{user}:wrong@{rest.partition('@')[2]}"
    with pytest.raises(SettingsError, match="TOLLWIRE_POSTGRES_PASSWORD"):
        async with asyncio.timeout(10), open_pool(Settings(wrong), application_name="test"):
            pass


async def test_of_several_hosts_the_one_that_answers_is_taken(postgres: PostgresServer) -> None:
    head, _, tail = postgres.dsn().partition("@")
    several = f"{head}@127.0.0.1:1,{tail}"
    async with open_pool(Settings(several), application_name="test") as pool:
        assert await pool.fetchval("select not pg_is_in_recovery()")


async def test_the_engine_reads_from_the_same_server(postgres: PostgresServer) -> None:
    async with (
        open_engine(Settings(postgres.dsn()), application_name="tollwire-reads") as engine,
        engine.connect() as connection,
    ):
        assert await connection.scalar(text("show application_name")) == "tollwire-reads"


async def test_the_clock_takes_the_databases_time(postgres: PostgresServer) -> None:
    async with open_pool(Settings(postgres.dsn()), application_name="test") as pool:
        clock = Clock(offset_seconds=1000.0)
        offset_seconds = await clock.refresh(pool)
        there_ms = await pool.fetchval("select extract(epoch from clock_timestamp()) * 1000")
        assert abs(clock.now_ms() - float(there_ms)) < 60_000
        assert abs(offset_seconds) < 60


async def test_a_machine_whose_clock_is_far_off_does_not_serve(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = f"select clock_timestamp() + interval '{SKEW_MAX_SECONDS + 60} seconds'"
    monkeypatch.setattr("shared.runtime.clock.READ_TIME", ahead)
    async with open_pool(Settings(postgres.dsn()), application_name="test") as pool:
        with pytest.raises(ClockSkew, match=r"clock is -360 s off the database's"):
            async with open_clock(pool):
                pass
