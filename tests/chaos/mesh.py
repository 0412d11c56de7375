"""The ways between the NATS servers of a cluster: each a forwarder of ours, so that they can be parted.

A server reaches each other one over a port of its own. What is cut is one server against the rest, in both
directions: silently, as when packets are dropped (nobody is told, and what was under way arrives after the
heal), or by closing the connections, and refusing new ones.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from embedded.ports import LOOPBACK

STOP_SECONDS = 5.0
CHUNK_BYTES = 65_536


class Way:
    """From one server to the route port of another."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.passed_bytes = 0
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._is_refused = False
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._may_pass.clear()

    def cut(self) -> None:
        """Close what is open, and take nothing new."""
        self._is_refused = True
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        """Pass everything on again."""
        self._is_refused = False
        self._may_pass.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await self._may_pass.wait()
        if self._is_refused:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pass_on(reader, there_writer), self._pass_on(there_reader, writer))
        finally:
            self._writers -= both

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._may_pass.wait()
                self.passed_bytes += len(data)  # before: who has it may ask at once, from another thread
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class Mesh:
    """All ways of a cluster, by (from, to); what is asked of them goes to their own thread."""

    loop: asyncio.AbstractEventLoop
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def ports_of(self, name: str) -> list[int]:
        """Where a server reaches the others."""
        return [port for (here, _), port in self.ports.items() if here == name]

    def part(self, alone: str, *, is_silent: bool) -> None:
        """Part one server from all others."""
        for way in self._around(alone):
            self.loop.call_soon_threadsafe(way.hold if is_silent else way.cut)

    def heal(self) -> None:
        """Join all again."""
        for way in self.ways.values():
            self.loop.call_soon_threadsafe(way.heal)

    def passed_bytes(self, alone: str) -> int:
        """How much went between a server and the others so far."""
        return sum(way.passed_bytes for way in self._around(alone))

    def _around(self, alone: str) -> list[Way]:
        return [way for ends, way in self.ways.items() if alone in ends]


@contextmanager
def open_mesh(route_ports: dict[str, int]) -> Iterator[Mesh]:
    """A forwarder for each pair of servers, by name, in a thread of its own: the harness may wait."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mesh", daemon=True)
    thread.start()
    mesh = Mesh(loop)

    async def listen() -> list[asyncio.Server]:
        servers = []
        for here in route_ports:
            for there in route_ports.keys() - {here}:
                way = Way(route_ports[there])
                server = await asyncio.start_server(way.serve, LOOPBACK, 0)
                mesh.ways[here, there] = way
                mesh.ports[here, there] = server.sockets[0].getsockname()[1]
                servers.append(server)
        return servers

    servers = asyncio.run_coroutine_threadsafe(listen(), loop).result(STOP_SECONDS)
    try:
        yield mesh
    finally:
        asyncio.run_coroutine_threadsafe(_close(mesh, servers), loop).result(STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        loop.close()


async def _close(mesh: Mesh, servers: Sequence[asyncio.Server]) -> None:
    for way in mesh.ways.values():
        way.cut()
        way.heal()
    for server in servers:
        server.close()
        await server.wait_closed()
