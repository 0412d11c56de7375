"""Endpoints of clients that mean ill, or are ill: a process of its own, which answers as the path says.

python -m tests.chaos.hostile CONFIG.json
"""

import asyncio
import gzip
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

DRIP_SECONDS = 1.0
CHUNK = b"x" * 65_536
BOMB = gzip.compress(b"\0" * 200_000_000, compresslevel=9)
HEAD_MAX_BYTES = 65_536


class HostileConfig(msgspec.Struct, frozen=True):
    """What the process is told."""

    port: int


async def drip(writer: asyncio.StreamWriter) -> None:
    """A header, a byte a second."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(DRIP_SECONDS)


async def endless(writer: asyncio.StreamWriter) -> None:
    """A body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not writer.is_closing():
        writer.write(CHUNK)
        await writer.drain()


async def bomb(writer: asyncio.StreamWriter) -> None:
    """200 MB of zeros, compressed."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n"
    writer.write(head.encode() + BOMB)
    await writer.drain()


async def redirect(writer: asyncio.StreamWriter) -> None:
    """To where cloud machines keep their credentials."""
    writer.write(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/latest/meta-data/\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    await writer.drain()


BEHAVIOURS: Mapping[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = {
    "drip": drip,
    "endless": endless,
    "bomb": bomb,
    "redirect": redirect,
}


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a head, then do what the path says; every connection serves one request."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode("latin-1").strip("/")
        await BEHAVIOURS[path](writer)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # they hung up on us, as they should
    finally:
        writer.transport.abort()


async def serve(config: HostileConfig) -> None:
    """Be hostile until killed."""
    server = await asyncio.start_server(serve_one, "127.0.0.1", config.port, limit=HEAD_MAX_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=HostileConfig)))
