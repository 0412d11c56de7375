"""The door for probes: alive, ready, counted (RULES 33)."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession

from shared.runtime import monitor
from shared.runtime.metrics import BUILD
from shared.runtime.monitor import Check, open_monitor
from shared.runtime.settings import Process


async def passing() -> None:
    return None


async def failing() -> None:
    raise ConnectionRefusedError("no answer on port 5432")


async def hanging() -> None:
    await asyncio.Event().wait()


async def ask(checks: dict[str, Check], path: str) -> tuple[int, str, Any]:
    async with (
        open_monitor(Process(health_port=0), checks) as port,
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get(path) as answer,
    ):
        body = await (answer.json() if "json" in answer.content_type else answer.text())
        return answer.status, answer.content_type, body


async def test_a_process_whose_loop_turns_is_alive_whatever_it_misses() -> None:
    assert await ask({"postgres": failing}, "/healthz") == (200, "application/json", {"status": "ok"})


async def test_a_process_is_ready_when_every_check_passes() -> None:
    status, _, body = await ask({"postgres": passing, "schema": passing}, "/readyz")
    assert (status, body) == (200, {"status": "ready", "checks": {"postgres": "ok", "schema": "ok"}})


async def test_a_failed_check_is_named_with_its_error() -> None:
    status, _, body = await ask({"postgres": failing, "schema": passing}, "/readyz")
    assert status == 503
    assert body == {
        "status": "not ready",
        "checks": {"postgres": "ConnectionRefusedError: no answer on port 5432", "schema": "ok"},
    }


async def test_a_check_that_hangs_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "CHECK_SECONDS", 0.01)
    status, _, body = await ask({"postgres": hanging, "schema": passing}, "/readyz")
    assert (status, body["checks"]) == (503, {"postgres": "TimeoutError", "schema": "ok"})


async def test_what_is_counted_is_shown_to_prometheus() -> None:
    BUILD.labels("test", "0.1.0").set(1)
    status, kind, body = await ask({}, "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert 'tollwire_build_info{service="test",version="0.1.0"} 1.0' in body
    assert "python_info" in body
