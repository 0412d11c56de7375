"""The HTTP door that carriers send their receipts to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web

from dlr.receive import BODY_MAX_BYTES, Receive
from dlr.settings import DlrSettings
from shared.runtime.http_connections import HEAD_SECONDS, Connection
from shared.runtime.http_headers import add_safe_headers
from shared.runtime.listening import told_by_settings

# Connections waiting to be accepted: a carrier may open hundreds at once after an outage.
BACKLOG: Final = 1024
# A carrier's request in flight at the stop finishes within this.
SHUTDOWN_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_door(
    settings: DlrSettings, receive: Receive, *, head_seconds: float = HEAD_SECONDS
) -> AsyncIterator[int]:
    """Serve POST /receipts/<carrier>; yields the port. Leaving it lets requests in flight finish.

    Raises:
        OSError: the port is taken, or the host is not of this machine.
    """
    app = web.Application(client_max_size=BODY_MAX_BYTES)
    app.on_response_prepare.append(add_safe_headers)
    app.add_routes([web.post("/receipts/{carrier}", receive.handle)])
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        # As aiohttp's TCPSite, which knows no connections but its own.
        with told_by_settings("RECEIPTS_", settings.receipts_host, settings.receipts_port):
            listening = await loop.create_server(
                lambda: Connection(_server(runner), loop=loop, head_seconds=head_seconds),
                settings.receipts_host,
                settings.receipts_port,
                backlog=BACKLOG,
                reuse_port=settings.reuse_port or None,
            )
        try:
            port = int(listening.sockets[0].getsockname()[1])
            _log.info("listening", url=f"http://{settings.receipts_host}:{port}/receipts")
            yield port
        finally:
            listening.close()
    finally:
        await runner.cleanup()


def _server(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("the door is shut")
    return runner.server
