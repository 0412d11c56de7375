"""A server that answers as it is told, down to the byte, and then closes, hangs or goes on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

Then = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True)
class Request:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """The bytes to answer, and what happens to the connection then."""

    raw: bytes
    then: Then = "keep"


def http(
    status: int, body: bytes = b"", *, headers: dict[str, str] | None = None, then: Then = "keep"
) -> Reply:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return Reply("\r\n".join(lines).encode() + b"\r\n\r\n" + body, then)


@dataclass
class FaultyServer:
    """`answer` decides about each request; `requests` keeps them, `connections` counts the open ones.

    What is written to one of the `writers` comes unasked on that connection.
    """

    answer: Callable[[Request], Reply]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    connections_seen: int = 0
    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def until_connections(self, count: int) -> None:
        """Return when so many connections are open."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.connections == count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        task = asyncio.current_task()
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        self.writers.append(writer)
        await self._count(1)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await self._count(-1)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        self.requests.append(request)
        self.arrived.set()
        reply = self.answer(request)
        writer.write(reply.raw)
        if reply.then == "reset":
            writer.transport.abort()
            return False
        await writer.drain()
        if reply.then == "hang":
            await reader.read()  # until the other side gives up
        return reply.then == "keep"

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.connections += change
            self.connections_seen += max(change, 0)
            self.changed.notify_all()


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(first.split()[1], headers, body)


@asynccontextmanager
async def faulty_server(answer: Callable[[Request], Reply]) -> AsyncIterator[FaultyServer]:
    """Run such a server on a free port."""
    faulty = FaultyServer(answer)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    faulty.url = f"http://{host}:{port}"
    try:
        yield faulty
    finally:
        server.close()
        for task in (left := list(faulty.tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def nobody_listens() -> Iterator[str]:
    """An address whose port is taken and not listened on: whoever connects is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
