"""What changes things takes few connections for each client, however much of it comes at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.callback import CHANGES_BURST
from api.cancel import FLUSHES_IN_FLIGHT
from api.counted import IN_FLIGHT
from api.places import REPLAYS_MAX
from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.servers import Database

# Fewer than the connections of the test's own HTTP client, more than those of the API to PostgreSQL.
AT_ONCE = 60
PATIENCE_SECONDS = 30.0
BLOCKED = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)
ACCOUNT = (
    "select 1 from ledger.accounts where id ="
    " (select id from tollwire.clients where name = 'greedy') for update"
)


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


@asynccontextmanager
async def held(database: Database, lock: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a lock, as if what the API does under it took very long."""
    connection = await asyncpg.connect(database.dsn())
    try:
        async with connection.transaction():
            await connection.execute(lock)
            yield connection
    finally:
        await connection.close()


def at_work() -> int:
    """How many requests the API has in hand."""
    return int(next(iter(IN_FLIGHT.collect())).samples[0].value)


async def flooded(
    rig: Rig, lock: str, requests: list[tuple[str, str, Any]], key: str, other: str
) -> tuple[int, list[Answer]]:
    """Send requests while a lock that they need is held, and read with another client's key.

    Return the connections that waited for the lock when all had come, and the requests' answers.
    """
    async with held(rig.database, lock) as holder, asyncio.timeout(PATIENCE_SECONDS):
        asked = [asyncio.create_task(rig.call(method, path, key=key, body=b)) for method, path, b in requests]
        while at_work() < len(requests) or not await holder.fetchval(BLOCKED):
            await holder.execute("select pg_sleep(0.01)")
        read = await rig.call("GET", "/v1/messages?limit=1", key=other)
        blocked = await holder.fetchval(BLOCKED)
    assert read.status == 200
    return blocked, await asyncio.gather(*asked)


async def test_a_flood_of_cancels_is_a_few_commits(rig):
    greedy, other = await rig.client("greedy", credit_micros=1_000_000_000), await rig.client("other")
    to = [f"+4915112{number:06}" for number in range(AT_ONCE)]
    sent = await rig.call("POST", "/v1/messages/batch", key=greedy, body={"to": to, "text": "sale"})
    requests = [("DELETE", f"/v1/messages/{one['id']}", None) for one in sent.body["results"]]
    blocked, answers = await flooded(rig, ACCOUNT, requests, greedy, other)
    assert 1 <= blocked <= FLUSHES_IN_FLIGHT
    assert [(one.status, one.body["status"]) for one in answers] == [(200, "CANCELLED")] * AT_ONCE
    assert (await rig.call("GET", "/v1/balance", key=greedy)).body["open_holds"] == 0


URL = "https://hooks.example.org/sms"


@pytest.mark.parametrize(
    ("method", "path", "body", "table"),
    [
        ("POST", "/test", None, "callbacks"),
        ("PUT", "", {"url": URL + "/2"}, "callback_endpoints"),
        ("POST", "/rotate", {}, "callback_secrets"),
    ],
)
async def test_changes_of_callbacks_leave_others_their_connections(rig, method, path, body, table):
    greedy, other = await rig.client("greedy"), await rig.client("other")
    assert (await rig.call("PUT", "/v1/callback", key=greedy, body={"url": URL})).status == 201
    lock = f"lock table tollwire.{table} in exclusive mode"
    requests = [(method, f"/v1/callback{path}", body)] * 10
    blocked, answers = await flooded(rig, lock, requests, greedy, other)
    assert blocked == REPLAYS_MAX
    assert {one.status for one in answers} <= {200, 202}


async def test_a_rotation_that_finds_no_place_uses_no_change_up(rig, monkeypatch):
    monkeypatch.setattr("api.places.WAITING_MAX", 0)
    key = await rig.client("greedy")
    assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
    lock = "lock table tollwire.callback_secrets in exclusive mode"
    async with held(rig.database, lock) as holder, asyncio.timeout(PATIENCE_SECONDS):
        first = asyncio.create_task(rig.call("POST", "/v1/callback/rotate", key=key, body={}))
        while not await holder.fetchval(BLOCKED):
            await holder.execute("select pg_sleep(0.01)")
        for _ in range(CHANGES_BURST):
            refused = await rig.call("POST", "/v1/callback/rotate", key=key, body={})
            assert refused.code == "too_many_requests"
    assert (await first).status == 200
    assert (await rig.call("POST", "/v1/callback/rotate", key=key, body={})).status == 200
