"""One HTTP/1.1 connection to an endpoint: a request out, a bounded answer in, one at a time.

Lean on purpose (docs/adr/0005-callback-http-client.md): no streams, no redirects, no cookies, no proxies, no
decompression. An answer is its status line: whatever goes wrong with the body afterwards, the status stands
and the connection is not used again.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import httptools

from dlr.guard import PostError
from dlr.watch import Watch
from shared.domain.callbacks import RETRY_AFTER_LENGTH_MAX, RejectReason

# What common servers accept in the other direction; a real answer has less than one.
HEADER_BYTES_MAX = 16_384
# Nobody needs an answer's body. A little is read, since a body that was read leaves the connection usable.
BODY_BYTES_MAX = 4_096
# For a client's attempt log, if it has opted in: the first line of an error page.
HEAD_BYTES_MAX = 1_024
# One read takes no more, so an endless answer costs this much memory and two reads.
READ_BYTES = 4_096

_RETRY_AFTER = b"retry-after"


class Answer(NamedTuple):
    """What is kept of an HTTP answer. ``head`` is the start of its body, as it came."""

    status: int
    retry_after: str | None
    head: bytes


class Connection(asyncio.BufferedProtocol):
    """A connection that carries one exchange after another; ``is_usable`` says whether it can take one."""

    def __init__(
        self, resolved_ip: str, watch: Watch["Connection"], on_closed: Callable[["Connection"], None]
    ) -> None:
        self.resolved_ip = resolved_ip
        self._watch = watch
        self.opened_at = 0.0
        self.idle_since = 0.0
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._parser = httptools.HttpResponseParser(self)
        # Line ends of hand-made servers. Confusion about where an answer ends hurts only the server itself.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._waiter: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self._received_bytes = 0
        self._status = 0
        self._retry_after: str | None = None
        self._head = b""
        self._body_bytes = 0
        self._keeps_alive = False
        self._is_complete = False
        self._has_surplus = False

    @property
    def is_usable(self) -> bool:
        """True when it is open and no exchange is under way."""
        return self._transport is not None and self._waiter is None and not self._transport.is_closing()

    @property
    def has_received(self) -> bool:
        """True when any byte came since the last request: then the server has had it."""
        return self._received_bytes > 0

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send a request and return its answer; ``deadline`` is a time of the event loop.

        Raises:
            PostError: TIMED_OUT, CLOSED_EARLY, ANSWER_MALFORMED or ANSWER_TOO_LARGE.
        """
        if self._transport is None:
            raise PostError(RejectReason.CLOSED_EARLY, "the connection was closed", self.resolved_ip)
        self._begin()
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        mark = self._watch.begin(self, deadline)
        self._transport.write(request)
        try:
            return await waiter
        finally:
            mark.end()
            if waiter.cancelled():
                self._waiter = None
                self.abort()

    def abort(self) -> None:
        """Close it now. What is not sent yet is not sent."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; with TLS the certificate has been checked by now."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.opened_at = self._loop.time()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend the one buffer that everything is read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came, and end the exchange as soon as it can be."""
        if self._waiter is None:
            # Nobody asked: the next answer could not be told from this one.
            self.abort()
            return
        self._received_bytes += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._on_malformed()
            return
        if self._is_complete:
            self._finish(is_reusable=self._keeps_alive and not self._has_surplus and self._has_sent_all())
        elif self._status:
            if self._body_bytes > BODY_BYTES_MAX or self._received_bytes > HEADER_BYTES_MAX + BODY_BYTES_MAX:
                self._finish(is_reusable=False)
        elif self._received_bytes > HEADER_BYTES_MAX:
            self._fail(RejectReason.ANSWER_TOO_LARGE, f"the answer's headers exceed {HEADER_BYTES_MAX} bytes")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason is the network's
        """End the exchange, if there is one, with what is known."""
        self._transport = None
        if self._waiter is not None:
            if self._status:
                self._finish(is_reusable=False)
            else:
                self._fail(RejectReason.CLOSED_EARLY, "the connection was closed before an answer came")
        self._on_closed(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Notice a second answer to one request."""
        self._has_surplus = self._is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep Retry-After, pass over the rest."""
        if len(name) == len(_RETRY_AFTER) and name.lower() == _RETRY_AFTER:
            self._retry_after = value[: RETRY_AFTER_LENGTH_MAX + 1].decode("latin-1")

    def on_headers_complete(self) -> None:
        """Keep the status, unless more is announced: 100 and 103 come before the answer."""
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:
            self._retry_after = None
        elif not self._status:
            self._status = status
            self._keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Keep the start."""
        self._body_bytes += len(body)
        missing_bytes = HEAD_BYTES_MAX - len(self._head)
        if missing_bytes > 0:
            self._head += body[:missing_bytes]

    def on_message_complete(self) -> None:
        """Notice the end of the answer."""
        self._is_complete = bool(self._status)

    # How an exchange ends.

    def _has_sent_all(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def end_late(self) -> None:
        """End the exchange under way, whose deadline has passed, with what is known."""
        if self._status:
            self._finish(is_reusable=False)
        else:
            self._fail(RejectReason.TIMED_OUT, "no answer came in time")

    def _on_malformed(self) -> None:
        if self._status:
            self._finish(is_reusable=False)
        else:
            self._fail(RejectReason.ANSWER_MALFORMED, "the answer is not HTTP/1.1")

    def _finish(self, *, is_reusable: bool) -> None:
        self._end(Answer(self._status, self._retry_after, self._head))
        self.idle_since = self._loop.time()
        if not is_reusable:
            self.abort()

    def _fail(self, reason: RejectReason, detail: str) -> None:
        self._end(PostError(reason, detail, self.resolved_ip))
        self.abort()

    def _end(self, result: Answer | PostError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if isinstance(result, Answer):
            waiter.set_result(result)
        else:
            waiter.set_exception(result)
