"""CPU that one callback costs the process that posts it: ours against aiohttp's client (docs/adr/0005).

    .venv/bin/python bench/callback_client.py

Both sign, both keep connections, both are told not to follow redirects and not to decompress; only ours looks
at addresses and bounds the answer. The receiver is another process. About 10 s.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import UUID

import aiohttp
import uvloop

from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from dlr.signing import webhook_id
from shared.domain.callbacks import is_success
from shared.domain.signatures import signature_list

AT_ONCE = 32
SECONDS_EACH = 3.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
SECRETS = (b"s" * 32,)
BODY = (
    b'{"type":"message.delivered","timestamp":"2026-11-21T10:00:00.123Z","data":{'
    + b'"x":1,' * 100
    + b'"y":2}}'
)

Post = Callable[[int], Awaitable[bool]]


class Sink(asyncio.Protocol):
    """Answers each request; a request of this bench is one write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"POST /"))


def serve(ready: "multiprocessing.connection.Connection") -> None:
    """Run the sink until killed."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def measure(name: str, post: Post) -> None:
    """Post from AT_ONCE tasks for a while and print what one cost."""
    count = 0
    ends = time.monotonic() + SECONDS_EACH

    async def one_after_another() -> None:
        nonlocal count
        while time.monotonic() < ends:
            if not await post(count):
                raise RuntimeError("the sink did not answer 2xx")
            count += 1

    await post(0)
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.gather(*[one_after_another() for _ in range(AT_ONCE)])
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(f"{name:8} {count:8} callbacks {count / wall:8.0f}/s {cpu / count * 1e6:6.1f} µs of CPU each")


async def ours(url: str) -> None:
    """The poster."""
    async with CallbackPoster(CallbackSettings(callback_allow_private=True)) as poster:

        async def post(number: int) -> bool:
            return is_success(await poster.post(Delivery(UUID(int=number), 1, url, SECRETS, BODY)))

        await measure("ours", post)


async def theirs(url: str) -> None:
    """aiohttp's client, as lean as it goes."""
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def post(number: int) -> bool:
            name, timestamp = webhook_id(UUID(int=number)), int(time.time())
            headers = {
                "webhook-id": name,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature_list(SECRETS, name, timestamp, BODY),
                "content-type": "application/json",
            }
            async with session.post(url, data=BODY, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(1_024)
                return answer.status == 200

        await measure("aiohttp", post)


async def bench(url: str) -> None:
    """One after the other, so that they do not share the loop."""
    await ours(url)
    await theirs(url)


def main() -> None:
    """Start the sink, measure, stop it."""
    mine, its = multiprocessing.Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(its,))
    sink.start()
    try:
        uvloop.run(bench(f"http://127.0.0.1:{mine.recv()}/callbacks"))
    finally:
        sink.terminate()
        sink.join()


if __name__ == "__main__":
    main()
