"""What the disk and the broker do when nothing else is asked of them."""

import asyncio
import time
from pathlib import Path
from typing import Final

import nats

from bench.programs import tools_program
from embedded.nats import NatsServer
from embedded.unit import running

SECONDS: Final = 2.0
LIMIT_SECONDS: Final = 60.0
# As long as a bundle of some messages; so many at a time, as Tollwire may have in flight.
PUBLISH_BYTES: Final = 200
PUBLISH_AT_ONCE: Final = 1_000


async def fsync_rate(folder: Path) -> float:
    """Writes of 8 kB a second, each made durable before the next."""
    words = ["fsync", f"out={folder / 'fsync'}", f"seconds={SECONDS}"]
    process = await asyncio.create_subprocess_exec(tools_program(), *words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(LIMIT_SECONDS):
        said, _ = await process.communicate()
    return float(said)


async def publish_rate(folder: Path) -> float:
    """Messages of 200 bytes a second into a stream on disk, each acknowledged."""
    async with running(NatsServer(folder / "publish-nats")) as server:
        connection = await nats.connect(server.url, token=server.token)
        try:
            stream = connection.jetstream(publish_async_max_pending=PUBLISH_AT_ONCE)
            await stream.add_stream(name="BENCH", subjects=["bench"])
            begun, published, body = time.monotonic(), 0, b"x" * PUBLISH_BYTES
            while time.monotonic() < begun + SECONDS:
                acks = [await stream.publish_async("bench", body) for _ in range(PUBLISH_AT_ONCE)]
                await asyncio.gather(*acks)
                published += len(acks)
            return published / (time.monotonic() - begun)
        finally:
            await connection.close()
