"""The simulated carrier's doors: submits of any shape, rules at runtime, the log, the reset, the process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.runtime.settings import SettingsError
from simulator.rules import Rules
from simulator.service import listening, read_rules
from simulator.settings import Settings
from tests.support.faulty_http import nobody_listens
from tests.support.receipt_desk import receipt_desk
from worker.carriers.simulated import simulator_carrier_settings

SECRET = "s3cret"
BEARER = {"Authorization": f"Bearer {SECRET}"}
ONE = {"id": "m-1", "to": "+4915112345678", "text": "hi"}


@asynccontextmanager
async def door(rules: Rules | None = None, **told) -> AsyncIterator[aiohttp.ClientSession]:
    settings = Settings(simulator_port=0, simulator_secret=SECRET, **told)
    async with (
        listening(settings, rules or Rules()) as (url, _),
        aiohttp.ClientSession(url, headers=BEARER) as session,
    ):
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: object, **changed) -> tuple[int, Any]:
    async with session.post(path, json=body, **changed) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer wrong"}, {"Authorization": ""}])
async def test_a_submit_without_the_secret_is_refused(headers):
    async with door() as session:
        for path in ("/submit", "/submit/bulk"):
            status, _ = await post(session, path, ONE, headers=headers)
            assert status == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/submit", {"id": "m"}, 400),
        ("/submit", {**ONE, "to": "12345"}, 400),
        ("/submit", {**ONE, "extra": 1}, 400),
        ("/submit", [ONE], 400),
        ("/submit", {**ONE, "text": "x" * 10_001}, 400),
        ("/submit/bulk", ONE, 400),
        ("/submit/bulk", [], 413),
        ("/submit/bulk", [ONE] * 1_001, 413),
    ],
)
async def test_a_submit_of_another_shape_is_refused_and_not_logged(path, body, status):
    async with door() as session:
        assert (await post(session, path, body))[0] == status
        async with session.get("/log") as answer:
            assert await answer.json() == {"submits": [], "next": 0}


async def test_rules_change_at_runtime_or_stay_as_they_were():
    async with door() as session:
        assert (await post(session, "/submit", ONE))[0] == 200
        async with session.put("/rules", json={"rules": [{"outcome": "refused"}]}) as answer:
            assert answer.status == 200
        assert (await post(session, "/submit", {**ONE, "id": "m-2"}))[0] == 422
        async with session.put("/rules", json={"rules": [{"outcome": "brilliant"}]}) as answer:
            assert answer.status == 400
            assert "brilliant" in await answer.text()
        async with session.get("/rules") as answer:
            assert (await answer.json())["rules"][0]["outcome"] == "refused"


async def test_the_log_is_read_in_pages_or_by_id():
    async with door() as session:
        for number in range(5):
            await post(session, "/submit", {**ONE, "id": f"m-{number % 4}"})
        async with session.get("/log", params={"limit": "2", "after": "1"}) as answer:
            page = await answer.json()
        assert [line["id"] for line in page["submits"]] == ["m-1", "m-2"]
        assert page["next"] == 3
        async with session.get("/log", params={"id": "m-0"}) as answer:
            assert [line["count"] for line in (await answer.json())["submits"]] == [1, 2]
        for limit in ("5001", "-1"):
            async with session.get("/log", params={"limit": limit}) as answer:
                assert (answer.status, "0 to 5000" in await answer.text()) == (400, True)
        async with session.get("/log", params={"after": "x"}) as answer:
            assert answer.status == 400
        async with session.get("/stats") as answer:
            stats = await answer.json()
        assert (stats["messages"], stats["messages_taken_more_than_once"]) == (4, 1)
        assert stats["counts"] == {"submits": 5, "taken": 5}


async def test_a_reset_forgets_messages_and_receipts():
    with nobody_listens() as nowhere:
        async with door(simulator_receipt_url=nowhere) as session:
            await post(session, "/submit/bulk", [ONE, {**ONE, "id": "m-2"}])
            assert (await post(session, "/reset", None))[0] == 200
            async with session.get("/stats") as answer:
                stats = await answer.json()
    assert (stats["counts"], stats["messages"], stats["receipts"]["waiting"]) == ({}, 0, 0)


async def test_latency_delays_the_reply_and_the_receipt_after_it():
    async with receipt_desk(simulator_carrier_settings("http://x"), SECRET.encode()) as desk:
        rules = Rules(latency_seconds=0.1, jitter_seconds=0.1, receipt_delay_seconds=0.0)
        async with door(rules, simulator_receipt_url=desk.url) as session:
            clock = asyncio.get_running_loop().time
            begin = clock()
            await post(session, "/submit", ONE)
            assert clock() - begin >= 0.1
            await desk.until(1)
            assert clock() - begin >= 0.1


async def test_what_the_gateway_took_is_not_sent_again_by_the_next_life(tmp_path: Path):
    async with receipt_desk(simulator_carrier_settings("http://x"), SECRET.encode()) as desk:
        told = {"simulator_receipt_url": desk.url, "simulator_log": str(tmp_path / "log")}
        for life, message_id in enumerate(("m-1", "m-2"), start=1):
            async with door(Rules(receipt_delay_seconds=0.0), **told) as session:
                await post(session, "/submit", {**ONE, "id": message_id})
                await desk.until(life)
                await until_acked(session, 1)
    assert len({receipt.reference for receipt in desk.receipts}) == len(desk.receipts) == 2


async def until_acked(session: aiohttp.ClientSession, count: int) -> None:
    """Return once the simulator knows that its receipts were taken."""
    sent = 0
    while sent < count:
        async with session.get("/stats") as answer:
            sent = (await answer.json())["receipts"]["sent"]


def test_a_file_of_rules_is_read_at_the_start_or_refused_by_name(tmp_path: Path):
    path = tmp_path / "rules.json"
    path.write_text('{"seed": 5}', encoding="utf-8")
    assert read_rules(str(path)).seed == 5
    path.write_text('{"sead": 5}', encoding="utf-8")
    for wrong in (path, tmp_path / "missing.json"):
        with pytest.raises(SettingsError, match="TOLLWIRE_SIMULATOR_RULES"):
            read_rules(str(wrong))


@asynccontextmanager
async def simulator_process(
    environ: dict[str, str],
) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    """Run the real process on a free port; yield it and a session to it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line: dict[str, str] = {}
            while line.get("event") != "listening":
                line = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession(line["url"], headers=BEARER) as session:
            yield process, session
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_simulator_still_knows_what_it_took_and_pays_its_receipts(tmp_path: Path):
    async with receipt_desk(simulator_carrier_settings("http://x"), SECRET.encode()) as desk:
        desk.refuse = 1_000_000
        rules = tmp_path / "rules.json"
        rules.write_text('{"recognise_repeated_id": true, "receipt_delay_seconds": 0}', encoding="utf-8")
        environ = {
            "TOLLWIRE_SIMULATOR_PORT": "0",
            "TOLLWIRE_SIMULATOR_SECRET": SECRET,
            "TOLLWIRE_SIMULATOR_RECEIPT_URL": desk.url,
            "TOLLWIRE_SIMULATOR_RULES": str(rules),
            "TOLLWIRE_SIMULATOR_LOG": str(tmp_path / "log"),
            "TOLLWIRE_HEALTH_PORT": "0",
        }
        async with simulator_process(environ) as (process, session):
            _, first = await post(session, "/submit", ONE)
            await desk.until_refused(1)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        desk.refuse = 0
        async with simulator_process(environ) as (process, session):
            await desk.until(1)
            assert (await post(session, "/submit", ONE))[1] == first
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert [receipt.reference for receipt in desk.receipts] == [first["reference"]]
