"""A server that keeps each request until it is told to answer: what waits for it waits for no clock."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.faulty_http import Reply, Request, read_request


@dataclass
class HeldServer:
    """`requests` keeps what arrived."""

    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _held: deque[tuple[Request, asyncio.Future[Reply]]] = field(default_factory=deque)
    _to_all: Reply | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def answer(self, reply: Reply) -> Request:
        """Answer the request that has waited longest, and return it."""
        request, answer = self._held.popleft()
        answer.set_result(reply)
        return request

    def answer_all(self, reply: Reply) -> None:
        """Answer so whatever waits, and whatever comes."""
        self._to_all = reply
        while self._held:
            self.answer(reply)

    async def until_held(self, number: int) -> None:
        """Return when so many wait for their answers."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self._held) == number)

    async def until_connections(self, number: int) -> None:
        """Return when so many connections are open."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self._tasks) == number)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    request = await read_request(reader)
                    reply = await self._reply(request)
                    writer.write(reply.raw)
                    await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)
            async with self._changed:
                self._changed.notify_all()

    async def _reply(self, request: Request) -> Reply:
        self.requests.append(request)
        if self._to_all is not None:
            return self._to_all
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._held.append((request, answer))
        async with self._changed:
            self._changed.notify_all()
        return await answer

    async def end(self) -> None:
        """Cut all connections off."""
        for task in (left := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def held_server() -> AsyncIterator[HeldServer]:
    """Run such a server on a free port."""
    held = HeldServer()
    server = await asyncio.start_server(held.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    held.url = f"http://{host}:{port}"
    try:
        yield held
    finally:
        server.close()
        await held.end()
