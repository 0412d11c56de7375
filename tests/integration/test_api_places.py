"""What changes things takes few connections for each client, however much of it comes at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.callback import CHANGES_BURST
from api.counted import IN_FLIGHT
from api.places import REPLAYS_MAX
from shared.storage.facts import FACTS_DROPPED
from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.locks import ACCOUNT, BLOCKED, held
from tests.support.own_time import within_own
from tests.support.servers import Database

# Fewer than the connections of the test's own HTTP client, more than those of the API to PostgreSQL.
AT_ONCE = 60
PATIENCE_SECONDS = 30.0
URL = "https://hooks.example.org/sms"
GREEDY = ACCOUNT.replace("$1", "'greedy'")


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def changed(database: Database, sql: str) -> None:
    """Change the database itself, for everybody and at once."""
    connection = await asyncpg.connect(database.dsn())
    await connection.execute(sql)
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


async def sent_by(rig: Rig, key: str, count: int) -> list[tuple[str, str, None]]:
    """Messages of a client, as the requests that cancel them."""
    to = [f"+4915112{number:06}" for number in range(count)]
    sent = await rig.call("POST", "/v1/messages/batch", key=key, body={"to": to, "text": "sale"})
    return [("DELETE", f"/v1/messages/{one['id']}", None) for one in sent.body["results"]]


# In a small pool its own reads wait behind its cancels, so that one connection is left for others.
@pytest.mark.parametrize(("pool_max", "reads"), [(4, 10), (5, 10), (25, 0)])
async def test_a_flood_of_cancels_is_a_few_commits(database, tmp_path, pool_max, reads):
    await prepare(database)
    pool = {"postgres_pool_min": "1", "postgres_pool_max": str(pool_max)}
    async with open_api(database, tmp_path, **pool) as rig:
        greedy, other = await rig.client("greedy", credit_micros=1_000_000_000), await rig.client("other")
        requests = await sent_by(rig, greedy, AT_ONCE)
        requests += [("GET", "/v1/messages?limit=1", None)] * reads
        blocked, answers = await flooded(rig, GREEDY, requests, greedy, other)
        assert blocked == 1
        assert [one.status for one in answers] == [200] * len(answers)
        assert {one.body["status"] for one in answers[:AT_ONCE]} == {"CANCELLED"}
        assert (await rig.call("GET", "/v1/balance", key=greedy)).body["open_holds"] == 0


async def test_cancels_of_one_client_keep_neither_cancels_nor_sends_of_another_waiting(rig):
    # Accounts are locked in the order of their ids: in one commit the other's would be locked, too.
    other, greedy = await rig.client("other"), await rig.client("greedy", credit_micros=1_000_000_000)
    requests, (own,) = await sent_by(rig, greedy, AT_ONCE), await sent_by(rig, other, 1)
    async with held(rig.database, GREEDY) as holder, asyncio.timeout(PATIENCE_SECONDS):
        asked = [asyncio.create_task(rig.call(method, path, key=greedy)) for method, path, _ in requests]
        while at_work() < len(requests) or not await holder.fetchval(BLOCKED):
            await holder.execute("select pg_sleep(0.01)")
        assert (await rig.call(*own[:2], key=other)).status == 200
        assert (await rig.send(other)).status == 202
        assert await holder.fetchval(BLOCKED)
    assert {one.status for one in await asyncio.gather(*asked)} == {200}


# The API's role is held to these where it reads; what cancels is the owner's, and goes on.
READS_WAIT = """
    alter table tollwire.messages enable row level security;
    create policy waits on tollwire.messages using (pg_advisory_lock_shared(1) is not null)
"""
# A test key's cancels look at their messages first.
READS_TAKE_LONG = READS_WAIT.replace("is not null", "is not null and pg_sleep(0.02) is not null")
READS_FAIL = "revoke select on tollwire.messages from tollwire_api"


@pytest.mark.parametrize("pool_max", [4, 5])
async def test_cancels_that_never_end_leave_their_client_its_reads_and_changes(database, tmp_path, pool_max):
    await prepare(database)
    async with open_api(database, tmp_path, postgres_pool_min="1", postgres_pool_max=str(pool_max)) as rig:
        key = await rig.client("busy")
        test_key = await rig.key("busy", is_test=True)
        (request,) = await sent_by(rig, test_key, 1)
        await rig.call(*request[:2], key=test_key)  # from then on there is nothing to tell reporting
        is_over, statuses = asyncio.Event(), set()

        async def cancel_on_and_on() -> None:
            while not is_over.is_set():
                statuses.add((await rig.call(*request[:2], key=test_key)).status)

        workers = []
        async with held(database, "select pg_advisory_xact_lock(1)") as holder:
            await changed(database, READS_TAKE_LONG)
            for asked in (1, 2):  # so that the second one comes while the first one's commit runs
                workers.append(asyncio.create_task(cancel_on_and_on()))
                while at_work() < asked or not await holder.fetchval(BLOCKED):
                    await holder.execute("select pg_sleep(0.01)")
        try:
            async with within_own(4):
                for _ in range(2):
                    assert (await rig.call("GET", "/v1/messages?limit=1", key=key)).status == 200
                assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
        finally:
            is_over.set()
        await asyncio.gather(*workers)
        assert statuses == {200}


async def test_what_is_cancelled_is_answered_before_reporting_hears_of_it(rig):
    key = await rig.client("acme")
    requests = await sent_by(rig, key, 2)
    async with held(rig.database, "select pg_advisory_xact_lock(1)") as holder:
        await changed(rig.database, READS_WAIT)
        async with within_own(2):
            answer = await rig.call(*requests[0][:2], key=key)
        assert (answer.status, answer.body["status"]) == (200, "CANCELLED")
        while not await holder.fetchval(BLOCKED):
            await holder.execute("select pg_sleep(0.01)")
        async with within_own(2):
            assert (await rig.call(*requests[1][:2], key=key)).status == 200
        assert await holder.fetchval(BLOCKED) == 1


async def test_a_cancellation_stands_though_reporting_cannot_hear_of_it(rig):
    key = await rig.client("acme")
    (request,) = await sent_by(rig, key, 1)
    await changed(rig.database, READS_FAIL)
    dropped = FACTS_DROPPED._value.get()
    assert (await rig.call(*request[:2], key=key)).status == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        while FACTS_DROPPED._value.get() != dropped + 1:
            await rig.call("GET", "/v1/balance", key=key)


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
