"""Every answer carries the safe headers and no program's version, whatever it is and at whichever port."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dlr.deliver import Deliver
from dlr.door import open_door
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.receive import Receive
from dlr.settings import DlrSettings
from dlr.settle import Settle
from shared.runtime.clock import open_clock
from shared.runtime.http_headers import SAFE_HEADERS
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.monitor import open_monitor
from shared.runtime.server_settings import NatsAccess
from shared.runtime.settings import Process
from shared.storage.facts import FactPublisher
from tests.support.api_rig import NO_NATS, open_api, prepare
from tests.support.flow import open_flow
from tests.support.servers import Database

ASKED = [
    ("GET", "/v1/balance", 200),
    ("POST", "/v1/messages", 202),
    ("GET", "/v1/messages/nothing", 404),
    ("GET", "/nowhere", 404),
    ("PUT", "/v1/messages", 405),
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/docs/docs.js", 200),
    ("GET", "/", 302),
    ("HEAD", "/v1/balance", 200),
]
# Pages of ours may run their own files and be kept for a while.
OF_PAGES = {"Cache-Control", "Content-Security-Policy"}


def assert_safe(headers: Mapping[str, str], where: object) -> None:
    missing = {name for name, value in SAFE_HEADERS.items() if headers.get(name) != value}
    if headers.get("ETag") or headers.get("Location"):
        assert "default-src 'self'" in headers["Content-Security-Policy"], where
        missing -= OF_PAGES
    assert missing == set(), where


async def test_the_apis_answers(database: Database, tmp_path: Path) -> None:
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = {"X-API-Key": await rig.client("acme")}
        for method, path, status in ASKED:
            body: Any = {"json": {"to": "+4915112345678", "text": "hello"}} if method == "POST" else {}
            sent = rig.session.request(method, rig.url + path, headers=key, allow_redirects=False, **body)
            async with sent as answer:
                assert answer.status == status, (method, path, await answer.text())
                assert_safe(answer.headers, (method, path))
        async with rig.session.get(rig.url + "/v1/balance") as answer:
            assert answer.status == 401
            assert_safe(answer.headers, "no key")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
        writer.write(b"NOT HTTP AT ALL\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        assert " 400 " in text.partition("\r\n")[0]
        assert all(f"{name}: {value}" in text for name, value in SAFE_HEADERS.items())


async def test_the_answers_to_carriers(database: Database, tmp_path: Path) -> None:
    Keyring.generate(tmp_path / "keyring.json")
    keyring = Keyring.load(tmp_path / "keyring.json")
    settings = DlrSettings(postgres_dsn=database.dsn("dlr"), keyring_file="", receipts_port=0)
    async with (
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        open_jetstream(NatsAccess(nats_url=NO_NATS)) as jetstream,
        FactPublisher(jetstream) as facts,
        CallbackPoster(CallbackSettings()) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock) as deliver,
        Settle(flow.pool, facts, deliver) as settle,
        Receive(flow.pool, settle, keyring, clock) as receive,
        open_door(settings, receive) as port,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{port}/receipts/nobody"
        for method, where, status in [("POST", url, 404), ("GET", url, 405), ("POST", f"{url}/x", 404)]:
            async with session.request(method, where, data=b"{}") as answer:
                assert answer.status == status
                assert_safe(answer.headers, (method, where))


@pytest.mark.parametrize("path", ["/healthz", "/startupz", "/readyz", "/metrics", "/nowhere"])
async def test_the_health_port(path: str) -> None:
    async with (
        open_monitor(Process(health_port=0), {}) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        assert_safe(answer.headers, path)
