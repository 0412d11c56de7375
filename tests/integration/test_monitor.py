"""The door for probes: alive, ready, counted (RULES 33)."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shared.runtime import monitor, tracing
from shared.runtime.loops import STOP_OF_PROCESS, Stop
from shared.runtime.metrics import BUILD, LOOP_LAG
from shared.runtime.monitor import Check, open_monitor
from shared.runtime.settings import Process


async def passing() -> None:
    return None


async def failing() -> None:
    raise ConnectionRefusedError("no answer on port 5432")


async def hanging() -> None:
    await asyncio.Event().wait()


async def ask(checks: dict[str, Check], path: str, *, accept: str = "*/*") -> tuple[int, str, Any]:
    async with (
        open_monitor(Process(health_port=0), checks) as port,
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get(path, headers={"Accept": accept}) as answer,
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
    BUILD.labels("test", "0.1.0", "6922c56").set(1)
    status, kind, body = await ask({}, "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert 'tollwire_build_info{commit="6922c56",service="test",version="0.1.0"} 1.0' in body
    assert "python_info" in body


async def test_an_observation_names_its_trace_to_whoever_reads_openmetrics() -> None:
    tracing.configure("test", {"OTEL_TRACES_SAMPLER_ARG": "1"}, exporter=InMemorySpanExporter())
    try:
        with tracing.request("request", {}):
            trace_id = tracing.current_trace_id()
            LOOP_LAG.observe(0.004, tracing.exemplar())
        assert tracing.exemplar() is None
    finally:
        tracing.shutdown()
    _, kind, body = await ask(
        {}, "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    )
    assert kind == "application/openmetrics-text"
    assert f'# {{trace_id="{trace_id}"}} 0.004' in body
    # What another test's process did not know any more is NaN, which the library reads of no counter.
    body = "".join(line for line in body.splitlines(keepends=True) if not line.endswith(" NaN\n"))
    assert list(text_string_to_metric_families(body))  # type: ignore[no-untyped-call]  # as the library has it


async def test_a_start_fails_until_its_checks_pass_once_and_never_again_after_that() -> None:
    answers = iter([failing, passing, failing])

    async def next_check() -> None:
        await next(answers)()

    async with (
        open_monitor(Process(health_port=0), {"postgres": failing}, startup={"schema": next_check}) as port,
        ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        seen = []
        for _ in range(3):
            async with session.get("/startupz") as answer:
                seen.append((answer.status, (await answer.json())["status"]))
    assert seen == [(503, "not started"), (200, "started"), (200, "started")]


async def test_readiness_fails_first_when_the_process_is_told_to_stop() -> None:
    stop = Stop()
    before = STOP_OF_PROCESS.set(stop)
    try:
        async with (
            open_monitor(Process(health_port=0), {"postgres": passing}) as port,
            ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            seen = []
            for path in ("/readyz", "/readyz", "/healthz"):
                async with session.get(path) as answer:
                    seen.append((path, answer.status))
                stop.request("SIGTERM")
    finally:
        STOP_OF_PROCESS.reset(before)
    assert seen == [("/readyz", 200), ("/readyz", 503), ("/healthz", 200)]
