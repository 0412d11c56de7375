"""Lists, statements and balances come from a streaming replica while it keeps up, else from the primary."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import REGISTRY

from api.reader import Reader, Source
from embedded.postgres import PostgresServer
from embedded.unit import running
from shared.runtime.postgres import open_read_pool
from tests.chaos.topology import StandbyServer
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.postgres_proxy import open_proxy
from tests.support.servers import Database

# More than a machine stands still: while it does the replica tells nothing of what it has.
LAG_MAX_SECONDS = 5.0
WAIT_SECONDS = 30.0


def answered_by(who: str) -> float:
    return REGISTRY.get_sample_value("tollwire_api_reads_total", {"by": who}) or 0.0


@pytest.fixture
async def standby(
    postgres: PostgresServer, database: Database, servers_folder: Path
) -> AsyncIterator[StandbyServer]:
    async with running(StandbyServer(servers_folder / "standby", postgres)) as server:
        yield server


@asynccontextmanager
async def superuser(server: PostgresServer, database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.dsn(database=database.name))
    try:
        yield connection
    finally:
        await connection.close()


async def balance_by(rig: Rig, key: str, who: str) -> dict[str, str]:
    """Ask until that one answers; the look at the replica tells nobody when it is done."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            before = answered_by(who)
            answer = await rig.call("GET", "/v1/balance", key=key)
            assert answer.status == 200
            if answered_by(who) > before:
                return dict(answer.body)


async def test_a_replica_answers_what_decides_nothing_and_only_while_it_keeps_up(
    database: Database, standby: StandbyServer, tmp_path: Path
) -> None:
    await prepare(database)
    dsn = standby.dsn(user="tollwire_api", database=database.name)
    settings = {"postgres_read_dsn": dsn, "postgres_read_lag_max_seconds": str(LAG_MAX_SECONDS)}
    async with open_api(database, tmp_path, **settings) as rig:
        key = await rig.client("acme")
        shown = await balance_by(rig, key, "replica")
        assert shown["available"] == "10.0000"
        before = answered_by("replica")
        for path in ("/v1/messages", "/v1/ledger", "/v1/callback/attempts"):
            assert (await rig.call("GET", path, key=key)).status == 200
        assert answered_by("replica") == before + 3

        async with superuser(standby, database) as behind:
            await behind.execute("select pg_wal_replay_pause()")
            sent = await rig.send(key)
            # A message by its id is always the primary's: who was answered 202 must find it.
            assert (await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)).status == 200
            shown = await balance_by(rig, key, "primary")
            assert shown["available"] == "9.9250"
            assert (await rig.call("GET", "/v1/messages", key=key)).body["messages"][0]["id"] == sent.body[
                "id"
            ]
            await behind.execute("select pg_wal_replay_resume()")
        again = await balance_by(rig, key, "replica")
        assert again["available"] == "9.9250"
        assert datetime.fromisoformat(again["as_of"]) > datetime.fromisoformat(sent.body["created_at"])

        standby.stop()
        assert (await balance_by(rig, key, "primary"))["available"] == "9.9250"


async def test_an_account_that_the_replica_does_not_know_yet_is_shown_by_the_primary(
    database: Database, standby: StandbyServer, tmp_path: Path
) -> None:
    await prepare(database)
    dsn = standby.dsn(user="tollwire_api", database=database.name)
    settings = {"postgres_read_dsn": dsn, "postgres_read_lag_max_seconds": str(WAIT_SECONDS)}
    async with open_api(database, tmp_path, **settings) as rig, superuser(standby, database) as behind:
        await balance_by(rig, await rig.client("acme"), "replica")
        await behind.execute("select pg_wal_replay_pause()")
        key = await rig.client("late")
        for path in ("/v1/balance", "/v1/ledger"):
            before = answered_by("primary")
            assert (await rig.call("GET", path, key=key)).status == 200
            assert answered_by("primary") == before + 1
        await behind.execute("select pg_wal_replay_resume()")


@asynccontextmanager
async def reader_of(database: Database, standby: StandbyServer) -> AsyncIterator[Reader]:
    """A reader that asks the standby."""
    dsn = standby.dsn(user="tollwire_api", database=database.name)
    async with (
        asyncpg.create_pool(database.dsn("api"), min_size=0) as primary,
        open_read_pool(dsn, 5, application_name="tests") as replica,
    ):
        reader = Reader(primary, replica, lag_max_seconds=WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS):
            while not await reader.read(is_replica):
                await reader.look()
        yield reader


async def is_replica(source: Source) -> bool:
    return bool(await source.pool.fetchval("select pg_is_in_recovery()"))


async def test_a_read_that_is_itself_at_fault_takes_the_replica_from_nobody(
    database: Database, standby: StandbyServer
) -> None:
    async with reader_of(database, standby) as reader:
        asked: list[bool] = []

        async def hold_nul(source: Source) -> None:
            asked.append(source.as_of is not None)
            await source.pool.fetchval("select $1::text", "a\0b")

        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            await reader.read(hold_nul)
        assert asked == [True]  # and the primary was not asked the same
        assert await reader.read(is_replica)

        async def be_too_slow(source: Source) -> bool:
            async with source.pool.acquire() as connection, connection.transaction():
                await connection.execute("set local statement_timeout = 1000")
                is_at_replica = bool(await connection.fetchval("select pg_is_in_recovery()"))
                await connection.execute(f"select pg_sleep({60 if is_at_replica else 0})")
                return is_at_replica

        assert not await reader.read(be_too_slow)
        assert await reader.read(is_replica)

        standby.stop()
        assert not await reader.read(is_replica)


async def test_a_silent_host_holds_up_neither_the_standby_nor_where_there_is_none_the_primary(
    database: Database, standby: StandbyServer
) -> None:
    head, _, primary = database.dsn("api").rpartition("@")
    name = standby.dsn(database=database.name).rpartition("@")[2].partition("/")[0]
    async with open_proxy(standby.dsn()) as (proxy, through):
        proxy.swallow_answers()
        silent = through.rpartition("@")[2].partition("/")[0]
        host, _, path = primary.partition("/")
        for hosts, has_standby in (
            ([silent, name, host], True),
            ([silent, host, name], True),
            ([host, silent, name], True),
            ([silent, host], False),
        ):
            dsn = f"{head}@{','.join(hosts)}/{path}"
            async with open_read_pool(dsn, 1, application_name="tests") as pool:
                assert await pool.fetchval("select pg_is_in_recovery()") is has_standby


async def test_who_is_no_replica_is_not_asked(database: Database, tmp_path: Path) -> None:
    await prepare(database)
    async with open_api(database, tmp_path, postgres_read_dsn=database.dsn("api")) as rig:
        key = await rig.client("acme")
        before = answered_by("replica")
        for _ in range(5):
            assert (await rig.call("GET", "/v1/balance", key=key)).status == 200
        assert answered_by("replica") == before
