"""Invariant: whatever bytes an endpoint sends, the exchange ends with a bounded answer or a named reason."""

import asyncio
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from dlr.connection import HEAD_BYTES_MAX, Answer, Connection
from dlr.guard import PostError
from dlr.watch import Watch
from shared.domain.callbacks import RETRY_AFTER_LENGTH_MAX, RejectReason

PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.0 503 No\r\n", b"HTTP/1.1 999 \r\n",
        b"HTTP/1.1 101 X\r\n", b"HTTP/1.1 200\r\n", b"Content-Length: 3\r\n", b"Content-Length: 99999999\r\n",
        b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n", b"Retry-After: 5\r\n",
        b"Retry-After: " + b"9" * 500 + b"\r\n", b": \r\n", b" folded\r\n", b"\r\n", b"\n", b"\r", b"abc",
        b"3\r\nabc\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"x" * 2_000,
        b"X: " + b"y" * 9_000,
    ]
)  # fmt: skip
ENDINGS = (RejectReason.ANSWER_MALFORMED, RejectReason.ANSWER_TOO_LARGE, RejectReason.CLOSED_EARLY)


async def exchange(chunks: list[bytes]) -> Answer | PostError:
    """Send a request into a pair of sockets whose other end says the chunks and closes."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    closed: asyncio.Future[None] = loop.create_future()
    watch: Watch[Connection] = Watch(Connection.end_late)
    connection = Connection("127.0.0.1", watch, lambda _: closed.set_result(None))
    await loop.create_connection(lambda: connection, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    running = asyncio.create_task(connection.exchange(b"request", loop.time() + 30))
    await reader.readexactly(len(b"request"))
    for chunk in chunks:
        writer.write(chunk)
        await asyncio.sleep(0)
    writer.close()
    try:
        return await running
    except PostError as error:
        return error
    finally:
        connection.abort()
        await closed
        watch.close()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([[], [b"HTTP/1.1 200 OK\r\n"]]), st.lists(PIECES | st.binary(max_size=40), max_size=12)
)
def test_any_bytes_end_in_an_answer_or_a_named_reason(start: list[bytes], chunks: list[bytes]) -> None:
    ending = asyncio.run(exchange(start + chunks))

    if isinstance(ending, PostError):
        assert ending.reason in ENDINGS
    else:
        assert 200 <= ending.status <= 999
        assert len(ending.head) <= HEAD_BYTES_MAX
        assert len(ending.retry_after or "") <= RETRY_AFTER_LENGTH_MAX + 1
