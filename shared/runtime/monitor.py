"""The small door of every process: /healthz, /readyz, /metrics (RULES 33)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.runtime.settings import Process

# A check that takes longer is a failed check: probes ask every few seconds.
CHECK_SECONDS: Final = 2.0

Check = Callable[[], Awaitable[object]]


async def healthz(_request: web.BaseRequest) -> web.Response:
    """The event loop turns; nothing else is asked."""
    return web.json_response({"status": "ok"})


async def metrics(_request: web.BaseRequest) -> web.Response:
    """Everything that is counted, in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run all checks side by side; "ok" or the error of each."""
    answers = await asyncio.gather(*(_run(check) for check in checks.values()))
    return dict(zip(checks, answers, strict=True))


async def _run(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # noqa: BLE001 - a failed check is the answer
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "ok"


@asynccontextmanager
async def open_monitor(settings: Process, checks: Mapping[str, Check]) -> AsyncIterator[int]:
    """Serve the three paths on the health port; yields the port. Not ready while any check fails."""

    async def readyz(_request: web.BaseRequest) -> web.Response:
        answers = await run_checks(checks)
        is_ready = all(answer == "ok" for answer in answers.values())
        body = {"status": "ready" if is_ready else "not ready", "checks": answers}
        return web.json_response(body, status=200 if is_ready else 503)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.health_host, settings.health_port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
