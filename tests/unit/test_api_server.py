"""The server's own answers: what is not HTTP, what is not there, what breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import structlog.testing
from aiohttp import web
from asyncpg import ConnectionDoesNotExistError, LockNotAvailableError
from msgspec import Struct

from api.admission import Admission
from api.answers import Answer
from api.authenticate import Authenticator
from api.key_uses import KeyUses
from api.limits import Limits
from api.problems import Refusal
from api.routing import BODY_SECONDS, Call, Operation, Serve, operation, read_body
from api.server import Endpoint, Front, Server
from api.settings import ApiSettings
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import DeadlinePassed
from shared.runtime.postgres import OutcomeUnknown


class Echo(Struct, forbid_unknown_fields=True):
    text: str


async def echo(_resources: Any, _call: Call, *, body: Echo) -> Echo:
    """Say it again."""
    return body


async def breaks(_resources: Any, _call: Call) -> Echo:
    """A bug."""
    raise ZeroDivisionError("the secret of the accounts")


LONG_SECONDS = 15.0
LOST = ConnectionDoesNotExistError("connection was closed in the middle of operation")
FAULTS = {
    "lost": LOST,
    "locked": LockNotAvailableError("canceling statement due to lock timeout"),
    "silent": TimeoutError(),
    "unheard": OutcomeUnknown("ledger.post", was_sent=True),
    "late": DeadlinePassed(was_flushed=True),
    "unreached": OutcomeUnknown("connect", was_sent=False),
    "busy": DeadlinePassed(was_flushed=False),
    "refused": Refusal(ProblemCode.UNAVAILABLE),
}


class Fault(Struct):
    name: str


async def look(_resources: Any, _call: Call, *, path: Fault) -> Echo:
    """Read, and meet this fault."""
    raise FAULTS[path.name]


async def change(_resources: Any, _call: Call, *, path: Fault) -> Echo:
    """Change something, and meet this fault."""
    raise FAULTS[path.name]


async def ask_by_post(_resources: Any, _call: Call, *, path: Fault) -> Echo:
    """Change nothing, and meet this fault."""
    raise FAULTS[path.name]


FAULTY = (
    operation("GET", "/faults/{name}", look, tag="service", scope=None),
    operation("POST", "/faults/{name}", change, tag="service", scope=None),
    operation("PUT", "/faults/{name}", change, tag="service", scope="admin"),
    operation("POST", "/questions/{name}", ask_by_post, tag="service", scope=None, is_question=True),
)

OPERATIONS = (
    operation("POST", "/echo", echo, tag="service", scope=None, bytes_max=1_000),
    operation("POST", "/guarded", echo, tag="service", scope="admin"),
    operation("GET", "/breaks", breaks, tag="service", scope=None),
)


@asynccontextmanager
async def serving(
    operations: tuple[Operation, ...],
    *,
    access_log_ratio: float = 0.0,
    fault: Exception | None = None,
    **options: float,
) -> AsyncIterator[int]:
    """Serve operations; yield the port. There is no key, or this fault when one is looked for."""

    async def load(_ids: Any) -> dict[str, Any]:
        if fault is not None:
            raise fault
        return {}

    async with Limits(None) as limits:
        admission = Admission(
            Authenticator(load),
            limits,
            KeyUses(None),  # type: ignore[arg-type]  # nothing is written here
            ApiSettings(postgres_dsn="postgresql://nowhere", keyring_file="none"),
        )
        routes: list[tuple[str, str, Serve]] = [
            (one.method, one.path, Endpoint(one, None, admission, access_log_ratio).serve)
            for one in operations
        ]
        runner = web.ServerRunner(Server(Front(routes), **options))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
        await runner.cleanup()


async def test_a_server_that_leaves_ends_each_connection_with_an_answer_that_says_so() -> None:
    front = Front([("GET", "/page", page), ("GET", "/answer", answer)])
    server = Server(front)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as one, aiohttp.ClientSession() as other:
        for session, path in ((one, "/page"), (other, "/answer")):
            async with session.get(url + path) as before:
                assert "Connection" not in before.headers
        leaving = asyncio.create_task(server.say_goodbye(20.0))
        await asyncio.sleep(0)
        assert not leaving.done()
        for session, path in ((one, "/page"), (other, "/answer"), (other, "/nothing")):
            async with session.get(url + path) as after:
                assert after.headers["Connection"] == "close"
        async with asyncio.timeout(10):
            await leaving
    await runner.cleanup()


@pytest.fixture
def long_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a machine stands still: a connection that is new, or has just asked, is not silent."""
    monkeypatch.setattr("api.server.SILENT_SECONDS", LONG_SECONDS)


@pytest.mark.usefixtures("long_silent")
async def test_a_server_that_leaves_closes_who_is_silent_and_waits_for_who_is_not() -> None:
    server = Server(Front([("GET", "/page", page)]))
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    silent = await asyncio.open_connection("127.0.0.1", port)
    for connection in await connected(server):
        connection.spoken_at -= 2 * LONG_SECONDS
    busy = await ask(port)
    leaving = asyncio.create_task(server.say_goodbye(20.0))
    async with asyncio.timeout(10):
        assert await silent[0].read() == b""
    assert not leaving.done()
    busy[1].write(REQUEST)
    assert b"Connection: close" in await busy[0].readuntil(b"\r\n\r\n")
    async with asyncio.timeout(10):
        await leaving
    for _, writer in (silent, busy):
        writer.close()
        await writer.wait_closed()
    await runner.cleanup()


@pytest.mark.usefixtures("long_silent")
async def test_a_server_that_leaves_waits_for_the_first_request_of_a_new_connection() -> None:
    server = Server(Front([("GET", "/page", page)]))
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    [connection] = await connected(server)
    leaving = asyncio.create_task(server.say_goodbye(20.0))
    await asyncio.sleep(0)  # its first look at the connections is behind it
    assert connection.transport is not None
    assert not connection.transport.is_closing()
    writer.write(REQUEST)
    assert b"Connection: close" in await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(10):
        await leaving
    writer.close()
    await writer.wait_closed()
    await runner.cleanup()


async def connected(server: Server) -> list[Any]:
    """The server's ends of its connections, when there are some."""
    while not server.connections:  # noqa: ASYNC110 - a server tells nobody of who connects
        await asyncio.sleep(0)
    return server.connections


REQUEST = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with one answer behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.readuntil(b"hello")
    return reader, writer


async def page(_request: web.BaseRequest, _params: dict[str, str]) -> web.StreamResponse:
    """What is answered by aiohttp's own class."""
    return web.Response(text="hello")


async def answer(_request: web.BaseRequest, _params: dict[str, str]) -> web.StreamResponse:
    """What is answered by ours."""
    return Answer(200, b"{}", {})


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read(65_536)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (b"nonsense\r\n\r\n", b"Invalid method encountered"),
        (b"GET /x HTTP/1.1\r\nno colon\r\n\r\n", b"Invalid header token"),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", b"Got more than 8190 bytes"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"the URL is not valid"),
    ],
)
async def test_what_is_not_http_is_answered_with_a_problem(request_, why):
    async with serving(OPERATIONS) as port:
        answer = await raw(port, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"application/problem+json" in head
    assert (
        b'"detail":"The request could not be read as HTTP/1.1: ' + why + b'","code":"malformed_request"'
        in body
    )


@pytest.mark.parametrize(("ratio", "lines"), [(1.0, 1), (0.0, 0)])
async def test_so_large_a_share_of_the_requests_leaves_a_line_without_their_contents(ratio, lines):
    with structlog.testing.capture_logs() as logged:
        async with serving(OPERATIONS, access_log_ratio=ratio) as port, aiohttp.ClientSession() as session:
            await session.post(f"http://127.0.0.1:{port}/echo", json={"text": "the secret of the accounts"})
    noted = [line for line in logged if line["event"] == "request"]
    assert len(noted) == lines
    for line in noted:
        assert (line["route"], line["method"], line["client_id"]) == ("/echo", "POST", None)
        assert "secret" not in str(line)


async def test_a_bug_is_answered_with_the_id_of_its_log_line_and_no_detail():
    async with serving(OPERATIONS) as port, aiohttp.ClientSession() as session:
        answer = await session.get(f"http://127.0.0.1:{port}/breaks")
        body = await answer.json(content_type="application/problem+json")
    assert (answer.status, body["code"]) == (500, "internal_error")
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert "secret" not in str(body)


@pytest.mark.parametrize(
    ("fault", "of_a_change", "of_a_question"),
    [
        ("lost", "outcome_unknown", "unavailable"),
        ("locked", "outcome_unknown", "unavailable"),
        ("silent", "outcome_unknown", "unavailable"),
        ("unheard", "outcome_unknown", "unavailable"),
        ("late", "outcome_unknown", "unavailable"),
        ("unreached", "unavailable", "unavailable"),
        ("refused", "unavailable", "unavailable"),
        ("busy", "busy", "busy"),
    ],
)
async def test_nothing_was_accepted_is_said_when_it_is_certain(fault, of_a_change, of_a_question):
    async with serving(FAULTY) as port, aiohttp.ClientSession() as session:
        for method, path, code in (
            ("POST", "faults", of_a_change),
            ("GET", "faults", of_a_question),
            ("POST", "questions", of_a_question),
        ):
            async with session.request(method, f"http://127.0.0.1:{port}/{path}/{fault}") as answer:
                body = await answer.json(content_type="application/problem+json")
                assert (answer.status, body["code"]) == (503, code), (method, path)


async def test_a_change_that_never_began_was_not_made():
    """Whatever went wrong, and however, while the key was looked up."""
    async with serving(FAULTY, fault=FAULTS["unheard"]) as port, aiohttp.ClientSession() as session:
        headers = {"X-API-Key": format_api_key(new_api_key(bytes(RANDOM_BYTES), is_test=False))}
        async with session.put(f"http://127.0.0.1:{port}/faults/lost", headers=headers) as answer:
            body = await answer.json(content_type="application/problem+json")
            assert (answer.status, body["code"]) == (503, "unavailable")


async def test_a_request_keeps_a_harmless_id_of_its_own_and_loses_others():
    async with serving(OPERATIONS) as port, aiohttp.ClientSession() as session:
        for given, is_kept in (("order-1234", True), ("x", False), ("<script>alert(1)", False)):
            async with session.get(
                f"http://127.0.0.1:{port}/none", headers={"X-Request-Id": given}
            ) as answer:
                assert (answer.headers["X-Request-Id"] == given) == is_kept


async def test_a_head_request_is_a_get_without_a_body():
    async with serving(OPERATIONS) as port, aiohttp.ClientSession() as session:
        answer = await session.head(f"http://127.0.0.1:{port}/breaks")
        assert (answer.status, await answer.read()) == (500, b"")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused_whether_it_says_so_or_not(declared):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100

    async with serving(OPERATIONS) as port, aiohttp.ClientSession() as session:
        data = b"x" * 4_000 if declared else pieces()
        headers = {"Content-Type": "application/json"}
        async with session.post(f"http://127.0.0.1:{port}/echo", data=data, headers=headers) as answer:
            assert answer.status == 413


async def test_a_body_in_pieces_is_read_whole():
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"te', b'xt":', b'"a"}'):
            yield piece
            await asyncio.sleep(0)

    async with serving(OPERATIONS) as port, aiohttp.ClientSession() as session:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with session.post(f"http://127.0.0.1:{port}/echo", data=pieces(), headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, {"text": "a"})
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "tollwire"


async def test_a_connection_that_never_asks_is_hung_up():
    async with serving(OPERATIONS, head_seconds=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /x HT")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_asked_once_is_kept():
    async with serving(OPERATIONS, head_seconds=1.0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.call_later(2.0, over.set_result, None)
        for wait in (False, True):
            if wait:
                await over
            writer.write(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404")
        writer.close()


IN_PIECES = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "pieces",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"2\r\n{}XX0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n{}"],
)
@pytest.mark.parametrize("comes", ["with the head", "later"])
async def test_a_body_in_broken_pieces_is_answered_once_and_at_once(pieces, comes):
    async with serving(OPERATIONS) as port, asyncio.timeout(BODY_SECONDS / 2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if comes == "later":
            writer.write(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n" + IN_PIECES + b"1\r\n ")
            await reader.readuntil(b"}")  # so the rest comes by itself
        else:
            writer.write(IN_PIECES)
        writer.write(pieces if comes == "with the head" else b"\r\n" + pieces)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.count(b"HTTP/1.1 400") + answer.count(b"HTTP/1.0 400") == 1
    assert answer.count(b'"code":"malformed_request"') == answer.count(b'"code"') == 1


@asynccontextmanager
async def reading(
    seconds: float = BODY_SECONDS,
) -> AsyncIterator[tuple[int, asyncio.Queue[BaseException | None]]]:
    """Read the body of whatever is posted; yield the port, and None for each that begins, then its error."""
    came: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def handle(request: web.BaseRequest) -> web.Response:
        came.put_nowait(None)
        try:
            await read_body(request, 100, seconds=seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came
            came.put_nowait(error)
        return web.Response()

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], came
    finally:
        await runner.cleanup()


def is_malformed(error: BaseException | None) -> bool:
    return isinstance(error, Refusal) and error.code is ProblemCode.MALFORMED_REQUEST


HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc"


async def test_a_body_that_does_not_come_is_not_waited_for():
    async with reading(seconds=0.05) as (port, came):
        answer = await raw(port, HALF_A_BODY)
        assert answer.startswith(b"HTTP/1.1 200")
        assert await came.get() is None
        assert is_malformed(await came.get())


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_fault_of_ours():
    async with reading() as (port, came), asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF_A_BODY)
        assert await came.get() is None
        writer.close()
        await writer.wait_closed()
        assert is_malformed(await came.get())


EXPECTING = (
    "POST {path} HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\nExpect: {expect}\r\n\r\n"
)


def expecting(
    path: str = "/echo", version: str = "1.1", length: int = 12, expect: str = "100-continue"
) -> bytes:
    """The head of a request whose client waits to be told to send the body."""
    return EXPECTING.format(path=path, version=version, length=length, expect=expect).encode()


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_who_waits_to_be_told_to_send_its_body_is_told(expect):
    async with serving(OPERATIONS) as port, asyncio.timeout(BODY_SECONDS / 2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(expecting(expect=expect))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b'{"text":"a"}')
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (expecting("/guarded"), b"401"),
        (expecting("/none"), b"404"),
        (expecting(length=1_001), b"413"),
        (expecting().replace(b"/json", b"/xml"), b"415"),
    ],
)
async def test_who_would_send_a_body_in_vain_is_told_that_instead(head, status):
    async with serving(OPERATIONS) as port, asyncio.timeout(BODY_SECONDS / 2):
        assert (await raw(port, head)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (expecting() + b'{"text":"a"}', b""),
        (expecting() + b'{"te', b'xt":"a"}'),
        (expecting(version="1.0"), b'{"text":"a"}'),
        (expecting(expect="a miracle"), b'{"text":"a"}'),
    ],
)
async def test_who_does_not_wait_to_be_told_is_told_nothing(first, rest):
    async with serving(OPERATIONS) as port, asyncio.timeout(BODY_SECONDS / 2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        await raw(port, REQUEST)  # so the rest comes by itself
        writer.write(rest)
        assert (await reader.readuntil(b"\r\n")).endswith(b" 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
