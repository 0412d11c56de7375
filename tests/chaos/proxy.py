"""The proxy before PostgreSQL, when it may be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.postgres_proxy import Proxy


class PatientProxy(Proxy):
    """A client that comes while the server is away is hung up on."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            await super().serve(reader, writer)
        except OSError:
            writer.transport.abort()


@asynccontextmanager
async def open_proxy(port: int) -> AsyncIterator[tuple[PatientProxy, int]]:
    """Yield a proxy before a port of this machine, and its own port."""
    proxy = PatientProxy("127.0.0.1", port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        proxy.cut()
        server.close()
