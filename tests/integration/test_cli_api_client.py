"""The commands' API client against a server, a gateway and a network that fail in every way they know."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from api.problems import Refusal
from api.read_schemas import Balance
from cli import api_client
from cli.api_client import Api
from cli.failures import Exit, Failure, Refused, Unreachable
from cli.target import Target
from shared.domain.problems import ProblemCode
from tests.support.certificates import Authority
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http, nobody_listens

FINE = http(200, b'{"ok":true}')
HANGS = Reply(b"", "hang")
KEY = "order-1"


def problem(code: ProblemCode, **headers: str) -> Reply:
    refusal = Refusal(code)
    body = msgspec.json.encode(refusal.problem("r1"))
    return http(refusal.status, body, headers={"Content-Type": "application/problem+json", **headers})


def one_by_one(*replies: Reply) -> Callable[[Request], Reply]:
    waiting: Iterator[Reply] = iter(replies)
    return lambda _: next(waiting)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "BACKOFF_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(api_client, "BACKOFF_MAX_SECONDS", 0.01)


@asynccontextmanager
async def api_to(*replies: Reply, patience_seconds: float = 5.0) -> AsyncIterator[tuple[Api, FaultyServer]]:
    async with (
        faulty_server(one_by_one(*replies)) as server,
        Api(Target(server.url, "tw_key"), patience_seconds=patience_seconds) as api,
    ):
        yield api, server


async def test_the_key_the_idempotency_key_and_the_body_travel():
    async with api_to(FINE) as (api, server):
        answer = await api.request("POST", "/v1/messages", {"to": "+1"}, idempotency_key=KEY)
    assert answer.plain() == {"ok": True}
    [request] = server.requests
    assert request.body == b'{"to":"+1"}'
    assert request.headers["x-api-key"] == "tw_key"
    assert request.headers["idempotency-key"] == KEY
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "code",
    [
        ProblemCode.TOO_MANY_REQUESTS,
        ProblemCode.BUSY,
        ProblemCode.UNAVAILABLE,
        ProblemCode.IDEMPOTENCY_CONFLICT,
    ],
)
async def test_any_request_is_sent_again_when_nothing_was_done(code):
    async with api_to(problem(code), FINE) as (api, server):
        await api.request("POST", "/admin/v1/keys", {})
    assert len(server.requests) == 2


async def test_retry_after_is_waited_for_and_told():
    told: list[tuple[str, float]] = []
    async with api_to(problem(ProblemCode.TOO_MANY_REQUESTS, **{"Retry-After": "1"}), FINE) as (api, _):
        api.tell = lambda reason, seconds: told.append((reason, seconds))
        started_at = time.monotonic()
        await api.get("/v1/balance")
    assert time.monotonic() - started_at >= 1.0
    assert [reason for reason, _ in told] == ["Too many requests"]


@pytest.mark.parametrize(
    "reply",
    [
        problem(ProblemCode.OUTCOME_UNKNOWN),
        problem(ProblemCode.INTERNAL_ERROR),
        http(502, b"<html>bad gateway</html>"),
        http(503, b"no upstream"),
        Reply(b"", "close"),
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "reset"),
    ],
)
async def test_what_may_have_been_done_is_sent_again_only_when_twice_is_once(reply):
    async with api_to(reply, FINE) as (api, server):
        await api.request("POST", "/v1/messages/batch", {}, idempotency_key=KEY)
    assert [request.headers["idempotency-key"] for request in server.requests] == [KEY, KEY]
    async with api_to(reply, FINE) as (api, server):
        with pytest.raises(Failure) as caught:
            await api.request("POST", "/admin/v1/keys", {})
    assert caught.value.may_be_done
    assert len(server.requests) == 1


async def test_what_was_once_uncertain_stays_so_when_later_tries_are_refused():
    async with api_to(http(502, b""), problem(ProblemCode.UNAUTHORIZED)) as (api, _):
        with pytest.raises(Refused) as caught:
            await api.request("POST", "/v1/messages", {}, idempotency_key=KEY)
    assert caught.value.may_be_done


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (ProblemCode.UNAUTHORIZED, Exit.UNAUTHORIZED),
        (ProblemCode.FORBIDDEN, Exit.UNAUTHORIZED),
        (ProblemCode.ADDRESS_NOT_ALLOWED, Exit.UNAUTHORIZED),
        (ProblemCode.CLIENT_SUSPENDED, Exit.FAILED),
        (ProblemCode.INSUFFICIENT_CREDIT, Exit.FAILED),
    ],
)
async def test_a_refusal_is_told_at_once_with_its_exit_code(code, exit_code):
    async with api_to(problem(code)) as (api, server):
        with pytest.raises(Refused) as caught:
            await api.get("/v1/balance")
    assert caught.value.problem.code == code
    assert caught.value.exit_code == exit_code
    assert not caught.value.may_be_done
    assert len(server.requests) == 1


async def test_patience_ends_with_the_last_refusal():
    busy = [problem(ProblemCode.BUSY)] * 10_000
    async with api_to(*busy, patience_seconds=1.0) as (api, server):
        with pytest.raises(Refused) as caught:
            await api.get("/v1/balance")
    assert caught.value.problem.code == ProblemCode.BUSY
    assert len(server.requests) > 1


async def test_nobody_at_the_address_is_told_at_once_unless_somebody_was_there():
    with nobody_listens() as url:
        async with Api(Target(url, ""), patience_seconds=1.0) as api:
            with pytest.raises(Unreachable) as caught:
                await api.get("/v1/balance")
            waits: list[float] = []
            api.tell, api.outlives_restarts = (lambda _, seconds: waits.append(seconds)), True
            with pytest.raises(Unreachable):
                await api.get("/v1/balance")
    assert caught.value.exit_code == Exit.UNREACHABLE
    assert not caught.value.may_be_done
    assert waits


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "It refuses connections: nothing listens there."),
        (HANGS, "It does not answer in time."),
        (Reply(b"", "close"), "It ended the connection without an answer."),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "close"), "It broke off in the middle"),
    ],
)
async def test_why_nobody_answers_is_told_in_words(monkeypatch, answer, told):
    if answer == HANGS:
        monkeypatch.setattr(api_client, "REQUEST_SECONDS", 0.2)
    async with AsyncExitStack() as stack:
        if answer is None:
            url = stack.enter_context(nobody_listens())
        else:
            url = (await stack.enter_async_context(faulty_server(lambda _: answer))).url
        api = await stack.enter_async_context(Api(Target(url, ""), patience_seconds=0.05))
        with pytest.raises(Unreachable) as caught:
            await api.get("/v1/balance")
    assert caught.value.detail.startswith(told)


async def test_a_certificate_that_nobody_signed_is_told_in_words(tmp_path):
    context = Authority(tmp_path).server("127.0.0.1")
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        async with Api(Target(f"https://127.0.0.1:{port}", ""), patience_seconds=0.05) as api:
            with pytest.raises(Unreachable) as caught:
                await api.get("/v1/balance")
    assert caught.value.detail.startswith("It fails at TLS: ")


async def test_an_answer_of_something_else_is_told_without_a_traceback():
    async with api_to(http(200, b"<html>"), http(404, b"<html>nothing</html>")) as (api, _):
        with pytest.raises(Failure, match="not understood"):
            (await api.get("/v1/balance")).read(Balance)
        with pytest.raises(Failure, match="answers 404"):
            await api.get("/v1/balance")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_told_and_not_followed(status):
    async with faulty_server(lambda _: FINE) as other:
        there = other.url.replace("//", "//user:pass@") + "/v1/messages?token=secret"
        async with api_to(http(status, headers={"Location": there})) as (api, server):
            with pytest.raises(Failure) as caught:
                await api.request("POST", "/v1/messages", {}, idempotency_key=KEY)
    assert (len(server.requests), other.requests) == (1, [])
    assert f"a redirect to {other.url}/v1/messages." in caught.value.title
    assert "--api-url" in caught.value.hint
    assert not caught.value.may_be_done


async def test_an_answer_without_end_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(api_client, "ANSWER_BYTES_MAX", 1_000)
    async with api_to(http(200, b"x" * 5_000)) as (api, _):
        with pytest.raises(Failure, match="more than 1000 bytes"):
            await api.get("/v1/balance")


@pytest.mark.parametrize("code", [ProblemCode.UNAUTHORIZED, ProblemCode.FORBIDDEN, ProblemCode.NOT_FOUND])
async def test_of_a_key_that_is_refused_it_is_told_where_it_came_from(code, capsys):
    told = "The key is that of TOLLWIRE_API_KEY."
    async with (
        faulty_server(lambda _: problem(code)) as server,
        Api(Target(server.url, "tw_key", told)) as api,
    ):
        with pytest.raises(Refused) as caught:
            await api.get("/admin/v1/clients")
    caught.value.show(as_json=False)
    lines = capsys.readouterr().err.splitlines()
    is_of_the_key = code is not ProblemCode.NOT_FOUND
    assert (f"  {told}" in lines) is is_of_the_key
    assert lines[-1] == f"  {code} ({caught.value.problem.status})"
