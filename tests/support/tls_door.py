"""A door with TLS before a server that has none: the wheels of PostgreSQL and Valkey are built without."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# What a client of PostgreSQL asks first: "may I speak TLS?" (protocol, 54.2.11).
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Door:
    """Takes TLS on one side, passes plain bytes on to the server; counts who came in."""

    def __init__(self, port: int, context: ssl.SSLContext, *, is_postgres: bool) -> None:
        self._port = port
        self._context = context
        self._is_postgres = is_postgres
        self.entered = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            if self._is_postgres:
                if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.drain()
            await writer.start_tls(self._context)
            self.entered += 1
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_pass_on(reader, there_writer), _pass_on(there_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def open_door(
    port: int, context: ssl.SSLContext, *, is_postgres: bool = False
) -> AsyncIterator[tuple[Door, int]]:
    """Yield the door before the server at ``port``, and the door's own port."""
    door = Door(port, context, is_postgres=is_postgres)
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
    try:
        yield door, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
