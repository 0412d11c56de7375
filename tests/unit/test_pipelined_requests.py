"""Who sends many requests at once has one answered in a turn of the loop: all others have their turns too."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import pytest
import uvloop
from aiohttp import web

from api.server import Front, Server
from dlr.door import open_door
from dlr.receive import Receive
from dlr.settings import DlrSettings
from shared.runtime.keyring import Keyring

REQUESTS: Final = 1_000
TURN_MAX: Final = 2
NOWHERE: Final = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
NO_CARRIER: Final = b"POST /receipts/none HTTP/1.1\r\nHost: x\r\n\r\n"
LAST: Final = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
NOTHING: Any = None  # what stands behind the door is never asked

Serving = Callable[[], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def api() -> AsyncIterator[int]:
    runner = web.ServerRunner(Server(Front([])))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def door() -> AsyncIterator[int]:
    receive = Receive(NOTHING, NOTHING, Keyring("k1", {"k1": bytes(32)}), NOTHING)
    settings = DlrSettings(postgres_dsn="postgresql://nowhere", keyring_file="none", receipts_port=0)
    async with open_door(settings, receive) as port:
        yield port


async def most_in_a_turn(server: web.Server, is_done: asyncio.Event) -> int:
    """How many requests the server has begun in one turn of the loop, at most, until it is done."""
    most = before = server.requests_count
    while not is_done.is_set():
        await asyncio.sleep(0)
        most, before = max(most, server.requests_count - before), server.requests_count
    return most


async def heard(port: int, asked: bytes, is_done: asyncio.Event) -> bytes:
    """What is answered, to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asked)
    async with asyncio.timeout(30):
        answer = await reader.read()
    is_done.set()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("serving", [api, door])
@pytest.mark.parametrize("request_", [NOWHERE, NO_CARRIER])
def test_requests_that_come_in_one_go_are_handled_one_in_a_turn(
    loop: Callable[[], asyncio.AbstractEventLoop],
    serving: Serving,
    request_: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[web.Server] = []
    make = web.Server.__init__

    def remember(server: web.Server, *arguments: Any, **options: Any) -> None:
        make(server, *arguments, **options)
        made.append(server)

    async def work() -> None:
        is_done = asyncio.Event()
        async with serving() as port:
            looking = asyncio.create_task(most_in_a_turn(made[0], is_done))
            answer = await heard(port, request_ * (REQUESTS - 1) + LAST, is_done)
            most = await looking
        assert answer.count(b"HTTP/1.1 404 ") == REQUESTS
        assert most <= TURN_MAX

    monkeypatch.setattr(web.Server, "__init__", remember)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())
