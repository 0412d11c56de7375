"""Connections of the ports that strangers reach: none is held for ever by who says or takes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage

from shared.runtime.untaken import Untaken

# The longest header line that is read; a key, a trace and an idempotency key take 1 kB together.
LINE_MAX_BYTES: Final = 8_190
# A head of 8 kB fits into a few packets; who needs longer holds a connection, not a conversation.
HEAD_SECONDS: Final = 20.0
# Longer than the 60 s of common proxies and load balancers, so that they close first and no request
# meets a connection that is just being closed.
KEEPALIVE_SECONDS: Final = 75.0

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class BrokenBody(ConnectionError):  # noqa: N818 - named for what it is
    """A body's pieces (Transfer-Encoding: chunked) are no such; what follows on the connection is nothing."""


class Connection(web.RequestHandler):
    """aiohttp's connection, hung up when the head of its first request does not come; it would wait for ever.

    So it would for a client that does not take its answer (``shared.runtime.untaken``).
    Requests that come in one go are handled in a turn of the loop each.
    A body that is declared compressed is handed on as it came, so a bomb is never unpacked.
    """

    __slots__ = ("_head_seconds", "_silence", "_untaken", "_wire")

    def __init__(self, server: web.Server, *, head_seconds: float = HEAD_SECONDS, **options: Any) -> None:
        super().__init__(
            server,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=LINE_MAX_BYTES,
            max_field_size=LINE_MAX_BYTES,
            **options,
        )
        self._head_seconds = head_seconds
        self._silence: asyncio.TimerHandle | None = None
        self._untaken: Untaken | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give a new connection so long for the head of its first request."""
        self._wire = cast("asyncio.Transport", transport)  # aiohttp forgets its own when it closes it
        super().connection_made(transport)
        if self._task_handler is not None:
            self._task_handler.add_done_callback(self._say_no_more)
        self._silence = asyncio.get_running_loop().call_later(self._head_seconds, self._hang_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timers with the connection."""
        if self._silence is not None:
            self._silence.cancel()
        self._let_go()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch whether the client takes its answer, now that there is more than the network will have."""
        super().pause_writing()
        self._hold()

    def resume_writing(self) -> None:
        """It has taken nearly all of it."""
        super().resume_writing()
        self._let_go()

    def data_received(self, data: bytes) -> None:
        """Tell who waits for a body that it is broken; aiohttp would let them wait, and answer after them."""
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_off(self._messages[-1][0].message)

    def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Handler
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        # From Python 3.12 on a task runs as soon as it is made: answers that wait for nothing, behind each
        # the next request, would keep the loop for as long as requests are there.
        if self._messages:
            request_handler = partial(_in_its_turn, request_handler)
        return super()._handle_request(request, start_time, request_handler)

    def _break_off(self, fault: str) -> None:
        """End the body that the fault came in; the connection ends when its request is answered."""
        request = self._current_request
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif request is not None:
            body = request.content
        else:
            return
        if not body.is_eof():
            broken = BrokenBody(fault.partition("\n")[0].rstrip(":"))
            body.set_exception(broken)
            # A reader that was just woken by the end of a good piece does not look, and waits for another.
            asyncio.get_running_loop().call_soon(body.set_exception, broken)
            self._lingering_time = 0.0  # else aiohttp would go on to read what it cannot

    def _say_no_more(self, _task: asyncio.Task[None]) -> None:
        """A closed connection is there until all of it is taken, also what was too little to watch."""
        if self._manager is not None and self._wire.get_write_buffer_size():
            self._hold()

    def _hold(self) -> None:
        if self._untaken is None:
            self._untaken = Untaken(self._wire)

    def _let_go(self) -> None:
        if self._untaken is not None:
            self._untaken.taken()
            self._untaken = None

    def _hang_up(self) -> None:
        if self._request_count == 0:
            self.force_close()


async def _in_its_turn(handle: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(0)
    return await handle(request)
