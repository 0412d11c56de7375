"""The small door of every process: /healthz, /startupz, /readyz, /metrics (RULES 33)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from shared.runtime.http_headers import add_safe_headers
from shared.runtime.listening import told_by_settings
from shared.runtime.loops import STOP_OF_PROCESS
from shared.runtime.settings import Process

# A check that takes longer is a failed check: probes ask every few seconds.
CHECK_SECONDS: Final = 2.0

Check = Callable[[], Awaitable[object]]


async def healthz(_request: web.BaseRequest) -> web.Response:
    """The event loop turns; nothing else is asked."""
    return web.json_response({"status": "ok"})


async def metrics(request: web.BaseRequest) -> web.Response:
    """Everything that is counted; as OpenMetrics, with exemplars, for whoever asks for that."""
    generate, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=generate(REGISTRY), headers={"Content-Type": content_type})


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


class Probes:
    """Whether the process has started, and whether it may be given work."""

    def __init__(self, checks: Mapping[str, Check], startup: Mapping[str, Check]) -> None:
        self._checks = checks
        self._startup = startup
        self._has_started = False
        self._stop = STOP_OF_PROCESS.get()

    async def startupz(self, _request: web.BaseRequest) -> web.Response:
        """200 for ever once every check of the start has passed: a later outage is no failed start."""
        answers = {} if self._has_started else await run_checks(self._startup)
        self._has_started = _all_pass(answers)
        return _answer(self._has_started, "started", answers)

    async def readyz(self, _request: web.BaseRequest) -> web.Response:
        """503 while any check fails, and from the moment when the process was asked to stop."""
        if self._stop is not None and self._stop.requested:
            return web.json_response({"status": "stopping", "checks": {}}, status=503)
        answers = await run_checks(self._checks)
        return _answer(_all_pass(answers), "ready", answers)


def _all_pass(answers: Mapping[str, str]) -> bool:
    return all(answer == "ok" for answer in answers.values())


def _answer(is_good: bool, word: str, answers: Mapping[str, str]) -> web.Response:
    body = {"status": word if is_good else f"not {word}", "checks": answers}
    return web.json_response(body, status=200 if is_good else 503)


@asynccontextmanager
async def open_monitor(
    settings: Process, checks: Mapping[str, Check], *, startup: Mapping[str, Check] | None = None
) -> AsyncIterator[int]:
    """Serve the four paths on the health port; yields the port.

    Args:
        settings: host and port.
        checks: what /readyz asks, every time.
        startup: what /startupz asks until all of it has passed once; nothing by default.
    """
    probes = Probes(checks, startup or {})
    app = web.Application()
    app.on_response_prepare.append(add_safe_headers)
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/startupz", probes.startupz),
            web.get("/readyz", probes.readyz),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.health_host, settings.health_port)
        with told_by_settings("HEALTH_", settings.health_host, settings.health_port):
            await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
