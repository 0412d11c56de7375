"""What `helm test` runs: each URL is asked until it answers, and what never does is named."""

import asyncio

import pytest
from aiohttp import web

from cli.ask import ask_all


async def test_each_url_is_asked_until_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    statuses = iter([503, 200])

    async def ready(_request: web.Request) -> web.Response:
        return web.Response(status=next(statuses))

    app = web.Application()
    app.add_routes([web.get("/readyz", ready)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert await asyncio.to_thread(ask_all, [f"{url}/readyz"], pause=lambda _: None) == 0
    missing = [f"{url}/nowhere", "http://127.0.0.1:1/readyz"]
    assert await asyncio.to_thread(ask_all, missing, patience_seconds=0.0) == 2
    await runner.cleanup()
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"ok {url}/readyz"
    assert told[1] == f"failed {url}/nowhere 404"
    assert told[2].startswith("failed http://127.0.0.1:1/readyz ")
