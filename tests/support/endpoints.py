"""Clients' endpoints for tests: real servers on loopback that say exactly what a test wants, byte by byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

READ_SECONDS_MAX = 30


@dataclass
class Request:
    """A request as it arrived. Header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection_no: int


class Reply:
    """The way back to the client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def until_closed(self) -> None:
        """Wait until the other side has gone away."""
        await self._reader.read()


Script = Callable[[Request, Reply], Awaitable[None]]


@dataclass
class Endpoint:
    """A running server and what it has seen."""

    port: int
    scheme: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0

    def url(self, host: str = "127.0.0.1", target: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{target}"


def answer(status: int = 200, body: bytes = b"", *header_lines: str) -> bytes:
    """The bytes of an HTTP/1.1 answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *header_lines]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(data: bytes) -> Script:
    """Answer every request with these bytes and keep the connection."""

    async def script(_: Request, reply: Reply) -> None:
        await reply.send(data)

    return script


def says_and_closes(data: bytes) -> Script:
    """Answer with these bytes and close."""

    async def script(_: Request, reply: Reply) -> None:
        await reply.send(data)
        reply.close()

    return script


async def says_nothing(_: Request, reply: Reply) -> None:
    """Take the request and never answer."""
    await reply.until_closed()


async def _read_request(reader: asyncio.StreamReader, connection_no: int) -> Request:
    async with asyncio.timeout(READ_SECONDS_MAX):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *header_lines = head.strip().split("\r\n")
        pairs = (text.partition(":") for text in header_lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
    return Request(line, headers, body, connection_no)


@asynccontextmanager
async def endpoint(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """Run a server on a free port of 127.0.0.1 until the block ends."""
    running: set[asyncio.Task[None]] = set()
    it = Endpoint(0, "https" if tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.connections += 1
        it.open_connections += 1
        number = it.connections
        try:
            while not writer.is_closing():
                request = await _read_request(reader, number)
                it.requests.append(request)
                await script(request, Reply(reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            it.open_connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
