"""The proxy before PostgreSQL, in a thread of its own: the harness waits for services that need it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.postgres_proxy import Proxy

STOP_SECONDS = 5.0


class PatientProxy(Proxy):
    """A client that comes while the server is away is hung up on."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            await super().serve(reader, writer)
        except OSError:
            writer.transport.abort()


@dataclass(frozen=True, slots=True)
class ProxyControl:
    """What may be asked of the proxy from outside its thread. ``port``: where it listens."""

    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    port: int = 0

    def swallow_answers(self) -> None:
        """Pass on what clients say and keep what the server answers."""
        self._do(self.proxy.swallow_answers)

    def cut(self) -> None:
        """Close every connection and take no new one."""
        self._do(self.proxy.cut)

    def heal(self) -> None:
        """Be there again, with answers."""
        self._do(self.proxy.heal)

    def _do(self, act: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(act)


@contextmanager
def open_proxy(port: int) -> Iterator[ProxyControl]:
    """Run a proxy before a port of this machine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()

    proxy = PatientProxy("127.0.0.1", port)

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(proxy.serve, "127.0.0.1", 0)

    async def close(server: asyncio.Server) -> None:
        proxy.cut()
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(STOP_SECONDS)
    try:
        yield ProxyControl(proxy, loop, server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        loop.close()
