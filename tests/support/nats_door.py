"""A TCP door before a server that can fall silent, as a host does that vanished, or say something else."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# The less a silent door still takes in, the sooner bytes wait at who speaks to it.
RECEIVE_BYTES = 32_768


class NatsDoor:
    """Passes bytes on until it is told otherwise.

    Attributes:
        port: where it listens, on 127.0.0.1.
        clients: how many are connected now.
        greeting: what who comes hears in place of the server; None: the server itself.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.clients = 0
        self.greeting: bytes | None = None
        self._target_port = target_port
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``."""
        return f"nats://127.0.0.1:{self.port}"

    def fall_silent(self) -> None:
        """Take nothing in and say nothing, to who is here and who comes; no connection is closed."""
        self._may_pass.clear()

    def speak(self) -> None:
        """Be as before."""
        self._may_pass.set()

    async def drop(self) -> None:
        """Cut who is connected; who comes again is served."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_clients(self, number: int) -> None:
        """Return when so many are connected."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.clients == number)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["NatsDoor"]:
        """Listen while the block lasts."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        server = await asyncio.start_server(self._take, sock=listener, limit=RECEIVE_BYTES)
        self.port = listener.getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.drop()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1)
        try:
            await self._may_pass.wait()
            if self.greeting is not None:
                writer.write(self.greeting)
                await reader.read()
                return
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                await self._pass_both_ways((reader, writer), there)
            finally:
                there[1].transport.abort()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            await self._count(-1)

    async def _count(self, more: int) -> None:
        async with self._changed:
            self.clients += more
            self._changed.notify_all()

    async def _pass_both_ways(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        ways = [
            asyncio.create_task(self._pass_on(here[0], there[1])),
            asyncio.create_task(self._pass_on(there[0], here[1])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(RECEIVE_BYTES):
            await self._may_pass.wait()
            writer.write(data)
            await writer.drain()
