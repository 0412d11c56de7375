"""A TCP proxy before PostgreSQL that can be cut, or made to swallow answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Close every connection and take no new one: the server is gone."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        """Be there again, with answers."""
        self._is_cut = False
        self._may_answer.set()

    def swallow_answers(self) -> None:
        """Pass on what clients say and keep what the server answers."""
        self._may_answer.clear()

    def strand(self) -> None:
        """Keep what the server answers to those who are here; who comes from now on is served.

        So it is when a host vanishes without a word and another takes its address.
        """
        self._may_answer.clear()
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    def say(self, data: bytes) -> None:
        """Say something to every client in the server's name."""
        for writer in self._clients:
            writer.write(data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if self._is_cut:
            writer.transport.abort()
            return
        may_answer = self._may_answer
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        self._clients.add(writer)
        try:
            await asyncio.gather(
                self._pass_on(reader, there_writer, None),
                self._pass_on(there_reader, writer, may_answer),
            )
        finally:
            self._writers -= {writer, there_writer}
            self._clients.discard(writer)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: asyncio.Event | None
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if may_pass is not None:
                    await may_pass.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_proxy(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a proxy and the DSN that leads through it."""
    parts = urlsplit(dsn)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    through = dsn.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")
    try:
        yield proxy, through
    finally:
        proxy.cut()
        server.close()
