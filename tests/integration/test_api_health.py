"""What probes are told: PostgreSQL and its schema decide, NATS and Valkey are reported (RULES 33)."""

import asyncio

import asyncpg
import pytest
from prometheus_client import generate_latest

from tests.support.api_rig import open_api, prepare


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that stood still PostgreSQL's answer is later than a probe waits."""
    monkeypatch.setattr("api.health.PROBE_TIMEOUT_SECONDS", 10.0)


@pytest.mark.usefixtures("patient")
async def test_without_nats_and_valkey_the_api_is_ready_and_says_what_is_missing(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        ready = await rig.call("GET", "/readyz")
        assert (ready.status, ready.body["status"]) == (200, "ready")
        parts = {name: (part["ok"], part["required"]) for name, part in ready.body["parts"].items()}
        assert parts == {
            "postgres": (True, True),
            "schema": (True, True),
            "nats": (False, False),
            "valkey": (True, False),
        }
        assert ready.body["parts"]["valkey"]["detail"] == "not used"
        assert (await rig.call("GET", "/healthz")).body == {"status": "ok"}
        assert (await rig.send(await rig.client("acme"))).status == 202


@pytest.mark.usefixtures("patient")
async def test_a_query_that_a_balancer_adds_takes_no_process_out(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        for path in ("/healthz", "/readyz"):
            assert (await rig.call("GET", f"{path}?from=lb&n=1")).status == 200
        refused = await rig.call("GET", "/v1/errors?from=lb")
        assert (refused.status, refused.code) == (422, "validation_failed")


@pytest.mark.usefixtures("patient")
async def test_an_older_schema_makes_the_api_unready(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        connection = await asyncpg.connect(database.dsn())
        await connection.execute("update tollwire.schema_version set version_num = '0001'")
        await connection.close()
        async with asyncio.timeout(20):
            while (ready := await rig.call("GET", "/readyz")).status == 200:
                pass
        assert ready.body["parts"]["schema"]["ok"] is False


async def test_who_asks_at_once_shares_a_look(database, tmp_path):
    await prepare(database)
    waiting = "select count(*) from pg_locks where not granted"
    async with open_api(database, tmp_path) as rig:
        admin = await asyncpg.connect(database.dsn())
        most = 0
        async with admin.transaction():
            await admin.execute("lock table tollwire.schema_version")
            while not most:  # what was seen last is still fresh
                asked = asyncio.gather(*(rig.call("GET", "/readyz") for _ in range(20)))
                while not asked.done():
                    most = max(most, await admin.fetchval(waiting))
        await admin.close()
    assert most == 1


async def test_metrics_count_requests_by_route_and_never_by_client(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("acme")
        sent = await rig.send(key)
        await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)
        text = generate_latest().decode()
    assert 'tollwire_http_requests_total{code="202",method="POST",route="/v1/messages"}' in text
    assert 'route="/v1/messages/{id}"' in text
    assert sent.body["id"] not in text
    assert key[3:15] not in text


async def test_requests_under_way_are_answered_when_the_process_stops(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("acme")
        asking = [asyncio.create_task(rig.send(key, text=str(n))) for n in range(20)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert {(await task).status for task in asking} == {202}
