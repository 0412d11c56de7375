"""Endpoints that mean harm, or are badly made: each costs a bounded time and a bounded memory."""

import asyncio
import gzip
from uuid import UUID

import pytest

from dlr.connection import BODY_BYTES_MAX, HEADER_BYTES_MAX, READ_BYTES
from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from shared.domain.callbacks import Posted, Rejected, RejectReason
from tests.support.endpoints import Reply, Request, answer, endpoint, says, says_and_closes, says_nothing

LAPTOP = CallbackSettings(callback_allow_private=True)
IMPATIENT = CallbackSettings(callback_allow_private=True, callback_deadline_seconds=3.0)
SECRETS = (b"s" * 32,)


def delivery(url: str, number: int = 1) -> Delivery:
    return Delivery(UUID(int=number), 7, url, SECRETS, b"{}")


class Flood:
    """Sends a head, then a chunk over and over until the client hangs up, and counts what the kernel took."""

    def __init__(self, head: bytes, chunk: bytes) -> None:
        self.head = head
        self.chunk = chunk
        self.was_stopped = asyncio.Event()

    async def script(self, _: Request, reply: Reply) -> None:
        try:
            await reply.send(self.head)
            while True:
                await reply.send(self.chunk)
        finally:
            self.was_stopped.set()


async def test_an_endless_body_is_cut_and_the_status_stands() -> None:
    flood = Flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with endpoint(flood.script) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url()))
        await flood.was_stopped.wait()

    assert isinstance(outcome, Posted)
    assert (outcome.status, outcome.answer_head) == (200, b"x" * 1_024)


async def test_endless_chunks_of_one_byte_are_cut_too() -> None:
    flood = Flood(
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 2_000 + b"\r\nx\r\n"
    )
    async with endpoint(flood.script) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url()))
        await flood.was_stopped.wait()

    assert isinstance(outcome, Posted)
    assert outcome.status == 500
    assert len(outcome.answer_head) <= (HEADER_BYTES_MAX + BODY_BYTES_MAX + READ_BYTES) // 2_000


@pytest.mark.parametrize(
    "name", [b"x" * 65_536, b"x: y\r\n" * 10_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000]
)
async def test_endless_headers_are_rejected(name: bytes) -> None:
    start = b"" if name.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    flood = Flood(start, name)
    async with endpoint(flood.script) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url()))
        await flood.was_stopped.wait()

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.ANSWER_TOO_LARGE


async def test_a_gzip_bomb_is_kept_as_the_bytes_it_came_in() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    data = answer(200, bomb, "Content-Encoding: gzip")
    async with endpoint(says_and_closes(data)) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Posted)
    assert outcome.answer_head == bomb[:1_024]


async def test_headers_that_drip_end_at_the_deadline() -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        await says_nothing(_, reply)

    async with endpoint(script) as it, CallbackPoster(IMPATIENT) as poster:
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.detail) == (RejectReason.TIMED_OUT, "no answer came in time")


async def test_a_body_that_drips_ends_at_the_deadline_and_the_status_stands() -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n.")
        await says_nothing(_, reply)

    async with endpoint(script) as it, CallbackPoster(IMPATIENT) as poster:
        outcome = await poster.post(delivery(it.url()))
        again = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Posted)
    assert isinstance(again, Posted)
    assert (outcome.status, outcome.answer_head) == (200, b".")
    assert it.connections == 2, "a connection with an unread body is not used again"


@pytest.mark.parametrize(
    "tail",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 500 No\r\n", b"garbage"],
)
async def test_what_comes_after_an_answer_is_never_taken_for_the_next_one(tail: bytes) -> None:
    async with endpoint(says(answer(404) + tail)) as it, CallbackPoster(LAPTOP) as poster:
        outcomes = [await poster.post(delivery(it.url(), number)) for number in range(3)]

    assert [outcome.status for outcome in outcomes if isinstance(outcome, Posted)] == [404, 404, 404]
    assert it.connections == 3


async def test_what_comes_unasked_on_an_idle_connection_closes_it() -> None:
    unasked = asyncio.Event()
    hung_up = asyncio.Event()

    async def script(request: Request, reply: Reply) -> None:
        await reply.send(answer(404 if request.connection_no == 1 else 201))
        if request.connection_no == 1:
            await unasked.wait()
            await reply.send(answer(200))
            await says_nothing(request, reply)
            hung_up.set()

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        first = await poster.post(delivery(it.url(), 1))
        unasked.set()
        await hung_up.wait()
        second = await poster.post(delivery(it.url(), 2))

    assert isinstance(first, Posted)
    assert isinstance(second, Posted)
    assert (first.status, second.status) == (404, 201)


async def test_a_kept_connection_that_was_closed_is_replaced_without_using_up_an_attempt() -> None:
    async def script(request: Request, reply: Reply) -> None:
        if request.connection_no == 1 and len(it.requests) == 2:
            reply.close()  # the request came on a connection that this server has just given up
            return
        await reply.send(answer(200))

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        outcomes = [await poster.post(delivery(it.url(), number)) for number in range(2)]

    assert [outcome.status for outcome in outcomes if isinstance(outcome, Posted)] == [200, 200]
    assert it.connections == 2
    assert it.requests[1].headers["webhook-id"] == it.requests[2].headers["webhook-id"]


async def test_it_is_replaced_once_only() -> None:
    async def script(_: Request, reply: Reply) -> None:
        if len(it.requests) == 1:
            await reply.send(answer(200))
        else:
            reply.close()

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        await poster.post(delivery(it.url()))
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.CLOSED_EARLY
    assert len(it.requests) == 3


async def test_it_is_not_replaced_when_any_byte_of_an_answer_came() -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.send(answer(200) if len(it.requests) == 1 else b"HTTP/1.1 2")
        if len(it.requests) > 1:
            reply.close()

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        await poster.post(delivery(it.url()))
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.CLOSED_EARLY
    assert len(it.requests) == 2


async def test_an_answer_before_the_request_is_read_is_taken() -> None:
    large = Delivery(UUID(int=1), 7, "", SECRETS, b"x" * 19_000)

    async def script(_: Request, reply: Reply) -> None:
        await reply.send(answer(413, b"", "Connection: close"))

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(Delivery(large.callback_id, 7, it.url(), SECRETS, large.body))

    assert isinstance(outcome, Posted)
    assert outcome.status == 413


async def test_a_cancelled_callback_closes_its_connection() -> None:
    arrived = asyncio.Event()
    hung_up = asyncio.Event()

    async def script(request: Request, reply: Reply) -> None:
        arrived.set()
        await says_nothing(request, reply)
        hung_up.set()

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        task = asyncio.create_task(poster.post(delivery(it.url())))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hung_up.wait()


async def test_connections_are_bounded_and_the_longest_idle_one_makes_room() -> None:
    tight = CallbackSettings(callback_allow_private=True, callback_connections_max=1)
    arrived = asyncio.Event()

    async def silence(request: Request, reply: Reply) -> None:
        arrived.set()
        await says_nothing(request, reply)

    async with (
        endpoint(says(answer(200))) as one,
        endpoint(says(answer(201))) as other,
        endpoint(silence) as silent,
        CallbackPoster(tight) as poster,
    ):
        first = await poster.post(delivery(one.url()))
        second = await poster.post(delivery(other.url()))
        waiting = asyncio.create_task(poster.post(delivery(silent.url())))
        await arrived.wait()
        refused = await poster.post(delivery(one.url()))
        waiting.cancel()
        await asyncio.wait([waiting])

    assert isinstance(first, Posted)
    assert isinstance(second, Posted)
    assert isinstance(refused, Rejected)
    assert refused.reason is RejectReason.NO_CONNECTION_FREE
