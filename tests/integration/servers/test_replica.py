"""Lists, statements and balances come from a streaming replica while it keeps up, else from the primary."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import REGISTRY

from embedded.postgres import PostgresServer
from embedded.unit import running
from tests.chaos.topology import StandbyServer
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

LAG_MAX_SECONDS = 1.0
WAIT_SECONDS = 20.0


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


async def test_who_is_no_replica_is_not_asked(database: Database, tmp_path: Path) -> None:
    await prepare(database)
    async with open_api(database, tmp_path, postgres_read_dsn=database.dsn("api")) as rig:
        key = await rig.client("acme")
        before = answered_by("replica")
        for _ in range(5):
            assert (await rig.call("GET", "/v1/balance", key=key)).status == 200
        assert answered_by("replica") == before
