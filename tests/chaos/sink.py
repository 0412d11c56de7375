"""The clients' endpoint, a process of its own: verifies each callback, writes it down, then answers.

    python -m tests.chaos.sink CONFIG.json

A few callbacks are refused the first time they come, as endpoints do; a refused one was not told.
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.chaos.logs import Appender, Told

# One in so many is refused when it comes first, so that the second try is exercised all the time.
REFUSED_ONE_IN = 500
REFUSAL = 503
BACKLOG = 1024


class SinkConfig(msgspec.Struct, frozen=True):
    """What the process is told."""

    port: int
    log: str
    secrets: dict[str, str]


class Sink:
    """Takes callbacks."""

    def __init__(self, config: SinkConfig, log: Appender) -> None:
        self._hooks = {name: Webhook(secret) for name, secret in config.secrets.items()}
        self._log = log
        self._refused: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        """Verify, write, answer."""
        body = await request.read()
        told = self._read(request, body)
        self._log.add(told)
        return web.Response(status=told.answered)

    def _read(self, request: web.Request, body: bytes) -> Told:
        name = request.match_info["account"]
        webhook_id = request.headers.get("webhook-id", "")
        try:
            event = self._hooks[name].verify(body, dict(request.headers.items()))
            data = event["data"]
            sent_at = int(request.headers["webhook-timestamp"])
        except Exception as error:  # noqa: BLE001 - whatever it is goes to the log, and the verdict finds it
            said = f"{type(error).__name__}: {error}"
            return Told(time.time(), name, webhook_id, 0, answered=401, bad=said)
        return Told(
            at=time.time(),
            account=name,
            webhook_id=webhook_id,
            sent_at=sent_at,
            type=event["type"],
            id=data["id"],
            status=data["status"],
            sequence=data["sequence"],
            client_ref=data["client_ref"],
            charged=data["charged"],
            possible_duplicate=data["possible_duplicate"],
            late_receipt=data["late_receipt"],
            error=data["error"]["code"] if data["error"] else None,
            answered=self._answer(webhook_id),
        )

    def _answer(self, webhook_id: str) -> int:
        if int(webhook_id[-4:], 16) % REFUSED_ONE_IN or webhook_id in self._refused:
            return 204
        self._refused.add(webhook_id)
        return REFUSAL


async def serve(config: SinkConfig) -> None:
    """Take callbacks until killed."""
    with Appender(Path(config.log)) as log:
        app = web.Application()
        app.router.add_post("/{account}", Sink(config, log).take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", config.port, backlog=BACKLOG).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=SinkConfig)))
