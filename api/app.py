"""The API as one thing: the table of operations and the pages behind one server, run as a loop."""

import asyncio
from typing import Final

import structlog
from aiohttp import web

from api.admission import Admission
from api.large_bodies import LargeBodies
from api.operations import OPERATIONS
from api.pages import pages
from api.resources import Resources
from api.routing import Serve
from api.server import Endpoint, Front, Server
from api.settings import ApiSettings
from shared.runtime.listening import told_by_settings
from shared.runtime.loops import Stop

# Connections that wait to be taken while the loop is busy with others.
BACKLOG: Final = 2_048
# After the stop: answers under way are given; a flush's own deadline is shorter.
DRAIN_SECONDS: Final = 15.0
# Before that: so long a connection that is in use may take to its next answer.
GOODBYE_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


def front(resources: Resources, admission: Admission, access_log_ratio: float = 0.0) -> Front:
    """Everything that is answered, by method and path; the log has a line of so large a share of it."""
    bodies = LargeBodies()
    endpoints = [
        Endpoint(operation, resources, admission, access_log_ratio, bodies) for operation in OPERATIONS
    ]
    routes: list[tuple[str, str, Serve]] = [
        (operation.method, operation.path, endpoint.serve)
        for operation, endpoint in zip(OPERATIONS, endpoints, strict=True)
    ]
    return Front(routes, pages(OPERATIONS), lambda request: admission.enter(admission.address(request)))


async def serve(settings: ApiSettings, resources: Resources, admission: Admission, stop: Stop) -> None:
    """Listen until the stop, say goodbye to every connection, give the answers under way and close.

    It stops to listen first: who connects anew goes to another process of the port, or is refused at once,
    which proxies and clients repeat elsewhere. Were it last, all who came back after their goodbye would wait
    in its queue, and be cut.

    Raises:
        OSError: the port is taken, or the host is not of this machine.
    """
    server = Server(front(resources, admission, settings.access_log_ratio))
    runner = web.ServerRunner(server, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, settings.host, settings.port, backlog=BACKLOG, reuse_port=settings.reuse_port or None
        )
        with told_by_settings("", settings.host, settings.port):
            await site.start()
        resources.health.is_listening = True
        port = runner.addresses[0][1]
        _log.info(
            "listening", url=f"http://{settings.host}:{port}", docs=f"http://{settings.host}:{port}/docs"
        )
        await stop.wait()
        resources.health.is_stopping = True
        await asyncio.sleep(0)  # who has connected already is let in
        await site.stop()
        await server.say_goodbye(GOODBYE_SECONDS)
    finally:
        await runner.cleanup()
