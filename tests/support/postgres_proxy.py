"""A TCP proxy before PostgreSQL that can be cut, or made to swallow answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias
from urllib.parse import urlsplit

# What the first packet of a connection is that asks for more than TLS: version 3.0 of the protocol.
PROTOCOL: Final = 0x30000
SSL_REQUEST: Final = 80877103


class Proxy:
    """Passes bytes on until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.is_gone = asyncio.Event()
        """Set while it takes no connection."""
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_asked: bytes | None = None
        self._last_answered: bytes | None = None
        self.settings_asked: set[str] = set()
        """The settings that any connection asked for as it began."""

    def cut(self) -> None:
        """Close every connection and take no new one: the server is gone."""
        self.is_gone.set()
        for writer in self._writers:
            writer.transport.abort()

    def hang_up(self) -> None:
        """As ``cut``, but what was written is still heard."""
        self.is_gone.set()
        for writer in self._writers:
            writer.close()

    def heal(self) -> None:
        """Be there again, with answers."""
        self._last_asked = self._last_answered = None
        self.is_gone.clear()
        self._may_answer.set()

    def swallow_answers(self) -> None:
        """Pass on what clients say and keep what the server answers."""
        self._may_answer.clear()

    def break_instead_of_answering(self, asked: bytes) -> None:
        """Go when the server has done what a client asks with this in it: nobody hears its answer."""
        self._last_asked = asked

    def break_after_answering(self, answered: bytes) -> None:
        """Go when a client has heard an answer with this in it."""
        self._last_answered = answered

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
        if self.is_gone.is_set():
            writer.transport.abort()
            return
        line = _Line(self._may_answer)
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        self._clients.add(writer)
        try:
            await asyncio.gather(
                self._pass_on(reader, there_writer, partial(self._hear, line)),
                self._pass_on(there_reader, writer, partial(self._answer, line)),
            )
        finally:
            self._writers -= {writer, there_writer}
            self._clients.discard(writer)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listen: "_Listen"
    ) -> None:
        try:
            while data := await reader.read(65_536):
                is_last = await listen(data)
                writer.write(data)
                await writer.drain()
                if is_last:
                    self.hang_up()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _hear(self, line: "_Line", data: bytes) -> bool:
        if not line.has_begun:
            line.has_begun = int.from_bytes(data[4:8]) != SSL_REQUEST
            self.settings_asked |= _settings_asked(data)
        line.is_last = self._last_asked is not None and self._last_asked in data
        return False

    async def _answer(self, line: "_Line", data: bytes) -> bool:
        if line.is_last:
            self.cut()
            raise ConnectionAbortedError
        await line.may_answer.wait()
        return self._last_answered is not None and self._last_answered in data


@dataclass(slots=True)
class _Line:
    """One client's connection; ``is_last`` when the next answer is the one that never comes."""

    may_answer: asyncio.Event
    is_last: bool = False
    has_begun: bool = False


def _settings_asked(packet: bytes) -> set[str]:
    """The names in a connection's first packet; none in one that is not its real beginning."""
    if int.from_bytes(packet[4:8]) != PROTOCOL:
        return set()
    return {name.decode() for name in packet[8:].split(b"\0")[::2] if name}


_Listen: TypeAlias = Callable[[bytes], Awaitable[bool]]


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
