"""One callback, one real server: what arrives there, and what comes back here."""

import asyncio
import json
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from shared.domain.callbacks import Posted, Rejected, RejectReason
from shared.domain.signatures import new_secret, parse_secret
from tests.support.endpoints import Reply, Request, answer, endpoint, says, says_and_closes, says_nothing

LAPTOP = CallbackSettings(callback_allow_private=True)
IMPATIENT = CallbackSettings(callback_allow_private=True, callback_deadline_seconds=1.0)
SECRET = new_secret(b"s" * 32)
OLD_SECRET = new_secret(b"o" * 32)
BODY = b'{"type":"message.delivered"}'


def delivery(url: str, number: int = 1, *secrets: str) -> Delivery:
    keys = tuple(parse_secret(secret) for secret in secrets or (SECRET,))
    return Delivery(UUID(int=number), 7, url, keys, BODY)


async def outcome_of(data: bytes, settings: CallbackSettings = LAPTOP) -> Posted | Rejected:
    async with endpoint(says_and_closes(data)) as it, CallbackPoster(settings) as poster:
        return await poster.post(delivery(it.url()))


async def test_a_callback_arrives_signed_and_its_answer_comes_back() -> None:
    async with endpoint(says(answer(200, b"thanks"))) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url(target="/hook?client=7")))

    assert isinstance(outcome, Posted)
    assert (outcome.status, outcome.resolved_ip, outcome.answer_head) == (200, "127.0.0.1", b"thanks")
    assert 0 <= outcome.duration_ms < 5_000
    [request] = it.requests
    assert request.line == "POST /hook?client=7 HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{it.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["webhook-id"] == f"msg_{UUID(int=1).hex}"
    assert Webhook(SECRET).verify(request.body, request.headers) == json.loads(BODY)


async def test_a_retry_keeps_the_id_and_takes_a_new_timestamp() -> None:
    seconds = iter([1_800_000_000.9, 1_800_000_005.1])
    async with (
        endpoint(says(answer(500))) as it,
        CallbackPoster(LAPTOP, unix_seconds=lambda: next(seconds)) as poster,
    ):
        await poster.post(delivery(it.url()))
        await poster.post(delivery(it.url()))

    first, second = it.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] == "1800000000"
    assert second.headers["webhook-timestamp"] == "1800000005"
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert first.body == second.body


async def test_during_a_rotation_receivers_with_either_secret_verify() -> None:
    async with endpoint(says(answer())) as it, CallbackPoster(LAPTOP) as poster:
        await poster.post(delivery(it.url(), 1, SECRET, OLD_SECRET))

    [request] = it.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    Webhook(SECRET).verify(request.body, request.headers)
    Webhook(OLD_SECRET).verify(request.body, request.headers)


async def test_callbacks_one_after_another_share_a_connection() -> None:
    async with endpoint(says(answer(204))) as it, CallbackPoster(LAPTOP) as poster:
        outcomes = [await poster.post(delivery(it.url(), number)) for number in range(20)]

    assert {outcome.status for outcome in outcomes if isinstance(outcome, Posted)} == {204}
    assert (len(it.requests), it.connections) == (20, 1)


async def test_callbacks_at_the_same_time_have_connections_of_their_own() -> None:
    arrived = asyncio.Barrier(4)

    async def script(_: Request, reply: Reply) -> None:
        await arrived.wait()
        await reply.send(answer())

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        outcomes = await asyncio.gather(*[poster.post(delivery(it.url(), number)) for number in range(4)])

    assert all(isinstance(outcome, Posted) for outcome in outcomes)
    assert it.connections == 4


@pytest.mark.parametrize("status", [200, 204, 299, 301, 304, 400, 410, 429, 500, 503, 599])
async def test_a_status_comes_back_as_it_is(status: int) -> None:
    outcome = await outcome_of(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    assert isinstance(outcome, Posted)
    assert outcome.status == status


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with endpoint(says(answer())) as inside, CallbackPoster(LAPTOP) as poster:
        location = f"Location: {inside.url(target='/latest/meta-data')}"
        async with endpoint(says(answer(307, b"", location))) as outside:
            redirected = await poster.post(delivery(outside.url()))
        metadata = "Location: http://169.254.169.254/latest/meta-data"
        async with endpoint(says(answer(302, b"", metadata))) as outside:
            to_metadata = await poster.post(delivery(outside.url()))

    assert isinstance(redirected, Posted)
    assert isinstance(to_metadata, Posted)
    assert (redirected.status, to_metadata.status, inside.connections) == (307, 302, 0)


async def test_retry_after_comes_back_as_it_was_sent() -> None:
    outcome = await outcome_of(answer(429, b"", "RETRY-AFTER: 120"))

    assert isinstance(outcome, Posted)
    assert outcome.retry_after == "120"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n3\r\n, t\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7;x=y\r\nfine, t\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nfine, t",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfine, t",
        b"HTTP/1.1 200 OK\nContent-Length: 7\n\nfine, t",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nfine, t",
        b"HTTP/1.1 103 Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nfine, t",
    ],
)
async def test_every_shape_of_a_http_answer_is_read(data: bytes) -> None:
    outcome = await outcome_of(data)

    assert isinstance(outcome, Posted)
    assert (outcome.status, outcome.answer_head, outcome.retry_after) == (200, b"fine, t", None)


async def test_an_answer_may_come_a_byte_at_a_time() -> None:
    async def script(_: Request, reply: Reply) -> None:
        for byte in answer(201, b"slow"):
            await reply.send(bytes([byte]))

    async with endpoint(script) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Posted)
    assert (outcome.status, outcome.answer_head) == (201, b"slow")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"-ERR unknown command\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"\x00\x01\x02\x03",
    ],
)
async def test_what_is_not_http_is_rejected(data: bytes) -> None:
    outcome = await outcome_of(data)

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.resolved_ip) == (RejectReason.ANSWER_MALFORMED, "127.0.0.1")


async def test_no_answer_at_all_is_rejected() -> None:
    outcome = await outcome_of(b"")

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.CLOSED_EARLY


async def test_silence_ends_at_the_deadline_and_the_connection_is_closed() -> None:
    async with endpoint(says_nothing) as it, CallbackPoster(IMPATIENT) as poster:
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.TIMED_OUT
    assert 900 <= outcome.duration_ms < 10_000


async def test_a_port_where_nobody_listens_is_rejected() -> None:
    async with endpoint(says(answer())) as it:
        url = it.url()
    async with CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(url))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.CONNECT_FAILED
    assert outcome.detail == "the host refuses connections on this port"


async def test_a_url_that_is_not_allowed_is_rejected_without_a_connection() -> None:
    async with CallbackPoster(CallbackSettings()) as poster:
        outcome = await poster.post(delivery("http://127.0.0.1:8088/"))

    assert outcome == Rejected(
        RejectReason.URL_REFUSED, "a callback URL begins with https://, not http://", 0
    )
