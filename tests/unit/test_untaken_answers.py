"""A client that asks and does not take its answer is cut off, and what is held for all has a bound."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvloop
from aiohttp import web

from api.answers import Answer
from shared.runtime import untaken
from shared.runtime.http_connections import Connection
from shared.runtime.untaken import TAKE_MIN_BYTES, TAKE_SECONDS

# More than a loopback connection keeps on its way (some 6 MB), and as little as is written without a pause.
LARGE: Final = 16 * 1024 * 1024
SMALL: Final = 60 * 1024
KERNEL_BYTES: Final = 4_096
LAST: Final = "GET /{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
MORE: Final = "GET /{size} HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_SECONDS: Final = 0.2

Loop = Callable[[], asyncio.AbstractEventLoop]
on_both_loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """So many bytes, as our own answer or as aiohttp's."""
    body = bytes(int(request.path[1:]))
    if request.keep_alive:
        return Answer(200, body, {})
    return web.Response(body=body)


@asynccontextmanager
async def serving(kernel_bytes: int | None = KERNEL_BYTES) -> AsyncIterator[tuple[web.Server, int]]:
    """A server whose connections keep so little outside of the process, and its port."""
    server = web.Server(answer)
    listener = socket.create_server(("127.0.0.1", 0))
    if kernel_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
    loop = asyncio.get_running_loop()
    made: list[Connection] = []

    def make() -> Connection:
        made.append(Connection(server, loop=loop))
        return made[-1]

    listening = await loop.create_server(make, sock=listener)
    try:
        yield server, listener.getsockname()[1]
    finally:
        listening.close()
        for one in made:
            one._wire.abort()


async def ask(port: int, request: str, size: int, kernel_bytes: int | None = KERNEL_BYTES) -> socket.socket:
    """Ask for so many bytes, and take none of them."""
    client = socket.socket()
    if kernel_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, request.format(size=size).encode())
    return client


async def until(is_so: Callable[[], bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - a connection gives no event of its end
            await asyncio.sleep(0)


async def taken(client: socket.socket, *, of: int) -> int:
    """Take up to so many bytes; return how many came until the end, or until they were cut off."""
    loop, count = asyncio.get_running_loop(), 0
    try:
        while count < of and (piece := await loop.sock_recv(client, 65_536)):
            count += len(piece)
    except ConnectionResetError:
        pass
    return count


def run(loop: Loop, work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)


@on_both_loops
@pytest.mark.parametrize("request_", [MORE, LAST])
@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_who_takes_nothing_of_an_answer_is_cut_off(
    loop: Loop, request_: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "TAKE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr("shared.runtime.http_connections.KEEPALIVE_SECONDS", PATIENCE_SECONDS)

    async def work() -> None:
        async with serving() as (server, port):
            client = await ask(port, request_, size)
            await until(lambda: server.requests_count == 1)
            await until(lambda: not server.connections)
            await until(lambda: not untaken._held)
            with client:
                assert await taken(client, of=size) < size
        assert untaken._sum.bytes == 0

    run(loop, work())


@on_both_loops
def test_who_takes_an_answer_slowly_gets_all_of_it(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untaken, "TAKE_SECONDS", 3.0)

    async def work() -> None:
        async with serving() as (server, port):
            left = 16 * TAKE_MIN_BYTES
            with await ask(port, MORE, left) as client:
                while left > 0:
                    got = await taken(client, of=min(left, TAKE_MIN_BYTES))
                    assert got > 0, "cut off"
                    left -= got
                    await asyncio.sleep(0.25)
                await until(lambda: not untaken._held)
                assert len(server.connections) == 1
        assert untaken._sum.bytes == 0

    run(loop, work())


@on_both_loops
def test_what_the_kernel_holds_for_a_slow_client_is_taken_in_its_own_time(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes more from the process when a third of its buffer is free, a megabyte later."""
    monkeypatch.setattr(untaken, "TAKE_SECONDS", 2.0)

    async def work() -> None:
        async with serving(kernel_bytes=None) as (server, port):
            with await ask(port, MORE, LARGE, kernel_bytes=None) as client:
                for _ in range(15):  # in each 2 s more than the least, and less than that megabyte
                    assert await taken(client, of=TAKE_MIN_BYTES // 2) >= TAKE_MIN_BYTES // 2
                    await asyncio.sleep(0.4)
                assert len(server.connections) == 1

    run(loop, work())


@on_both_loops
def test_what_is_held_for_all_has_a_bound_beyond_which_an_earlier_one_is_cut_off(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "UNTAKEN_MAX_BYTES", 2 * LARGE)

    async def work() -> None:
        async with serving() as (server, port):
            clients = []
            for _ in range(3):
                clients.append(await ask(port, MORE, LARGE - 1_000_000))
                await until(lambda: server.requests_count == len(clients))
            await until(lambda: len(server.connections) == 2)
            assert untaken._sum.bytes <= 2 * LARGE
            sizes = []
            for client in clients:
                with client:
                    sizes.append(await taken(client, of=LARGE - 1_000_000))
        # One of the first two: which of them the kernel took a last piece from, nobody can say.
        assert min(sizes[:2]) < LARGE - 1_000_000 <= min(max(sizes[:2]), sizes[2])

    run(loop, work())


@on_both_loops
def test_who_takes_is_cut_off_after_who_takes_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untaken, "UNTAKEN_MAX_BYTES", 2 * LARGE)

    async def work() -> None:
        async with serving() as (server, port):
            taking = await ask(port, MORE, LARGE - 1_000_000)
            await until(lambda: len(untaken._held) == 1)
            (held,) = untaken._held
            silent = await ask(port, MORE, LARGE - 1_000_000)
            await until(lambda: len(untaken._held) == 2)
            await asyncio.sleep(PATIENCE_SECONDS)  # by then the kernel has what it takes by itself
            for one in list(untaken._held):
                one._count()
            took = await taken(taking, of=2 * TAKE_MIN_BYTES)
            await until(lambda: held._held_bytes - held._transport.get_write_buffer_size() >= TAKE_MIN_BYTES)
            newest = await ask(port, MORE, LARGE - 1_000_000)
            await until(lambda: len(server.connections) == 2)
            with taking, silent, newest:
                assert took + await taken(taking, of=LARGE - 1_000_000 - took) >= LARGE - 1_000_000
                assert await taken(silent, of=LARGE - 1_000_000) < LARGE - 1_000_000

    run(loop, work())


def test_the_time_is_long_enough_for_a_slow_line_and_short_enough_for_the_memory() -> None:
    assert TAKE_MIN_BYTES / TAKE_SECONDS > 8_000
