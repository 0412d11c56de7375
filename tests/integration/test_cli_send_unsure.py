"""`tollwire send` of one message whose outcome is not known: it names what makes two tries one."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner, Result

from api.problems import Refusal
from cli import api_client
from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.problems import ProblemCode
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http

# Longer than a command waits, so each is told at once.
LATER = {"Content-Type": "application/problem+json", "Retry-After": "1000"}
HANGS = Reply(b"", "hang")
MESSAGE_ID = "0190163d-8694-739b-aea5-966c26f8ad91"
ACCEPTED = {
    "id": MESSAGE_ID, "status": "QUEUED", "to": "+4915112345678", "from": "ACME", "lane": "normal",
    "encoding": "GSM7", "segments": 1, "client_ref": None, "created_at": "2026-11-21T10:00:00.000Z",
    "price": {"amount": "0.0750", "currency": "EUR"},
    "balance": {"available": "1.0000", "currency": "EUR"},
}  # fmt: skip


def problem(code: ProblemCode) -> Reply:
    refusal = Refusal(code)
    return http(refusal.status, msgspec.json.encode(refusal.problem("r1")), headers=LATER)


async def send(server: FaultyServer, *more: str) -> Result:
    words = ["send", "+4915112345678", "hello", "--api-url", server.url, "--api-key", "x", *more]
    return await asyncio.to_thread(CliRunner().invoke, tollwire, words)


def keys(server: FaultyServer) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.requests if request.body]


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        (problem(ProblemCode.OUTCOME_UNKNOWN), Exit.FAILED),
        (http(202, b'{"id": "of another version"}'), Exit.FAILED),
        (http(500, b"a proxy's own words"), Exit.FAILED),
        (http(524, b"a proxy's own words"), Exit.FAILED),
        (HANGS, Exit.UNREACHABLE),
    ],
)
async def test_a_lost_answer_names_the_key_that_sends_it_once(monkeypatch, answer, exit_code):
    if answer == HANGS:  # what is answered must not be lost by a pause of the machine
        monkeypatch.setattr(api_client, "REQUEST_SECONDS", 2.0)
    monkeypatch.setitem(api_client.Api.__init__.__kwdefaults__, "patience_seconds", 0.1)
    async with faulty_server(lambda _: answer) as server:
        shown = await send(server)
        made = keys(server)[0]
        again = await send(server, "--idempotency-key", made, "--json")
    assert (shown.exit_code, again.exit_code) == (exit_code, exit_code)
    assert "It may have been sent." in shown.output
    assert f"--idempotency-key {made}: then it is sent once" in shown.output
    assert json.loads(again.stderr)["idempotency_key"] == made
    assert set(keys(server)) == {made}


async def test_a_key_that_may_send_and_not_read_ends_with_no_code_that_denies_the_message():
    def answers(request: Request) -> Reply:
        return http(202, msgspec.json.encode(ACCEPTED)) if request.body else problem(ProblemCode.FORBIDDEN)

    async with faulty_server(answers) as server:
        shown = await send(server, "--wait")
    assert shown.exit_code == Exit.FAILED
    assert MESSAGE_ID in shown.output


async def test_a_refusal_that_sent_nothing_names_none():
    async with faulty_server(lambda _: problem(ProblemCode.INSUFFICIENT_CREDIT)) as server:
        shown = await send(server)
    assert shown.exit_code == Exit.FAILED
    assert "--idempotency-key" not in shown.output


def accepts_and_then(answer: Reply) -> Callable[[Request], Reply]:
    accepted = http(202, json.dumps(ACCEPTED).encode())
    return lambda request: accepted if request.body else answer


async def test_an_accepted_message_is_named_where_it_can_no_longer_be_followed():
    async with faulty_server(accepts_and_then(problem(ProblemCode.BUSY))) as server:
        shown = await send(server, "--wait")
        told = await send(server, "--wait", "--json")
    assert (shown.exit_code, told.exit_code) == (Exit.FAILED, Exit.FAILED)
    assert f"The message is accepted. `tollwire message show {MESSAGE_ID}`" in shown.stderr
    assert json.loads(told.stderr)["message_id"] == MESSAGE_ID


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_broken_off_it_names_the_key(words):
    async with faulty_server(lambda _: HANGS) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "send", "+4915112345678", "hello"),
            *("--api-url", server.url, "--api-key", "x", *words),
            stderr=asyncio.subprocess.PIPE,
            # Jobs in a shell's background, in which these tests may run, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        async with asyncio.timeout(20):
            await server.arrived.wait()
            process.send_signal(signal.SIGINT)
            _, told = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert f"--idempotency-key {keys(server)[0]}: then it is sent once" in told.decode()
    if words:
        document = json.loads(told)
        assert (document["idempotency_key"], document["exit_code"]) == (keys(server)[0], Exit.INTERRUPTED)


async def test_an_api_that_comes_back_within_seconds_is_waited_for():
    server = FaultyServer(lambda _: http(202, json.dumps(ACCEPTED).encode()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sending = asyncio.create_task(send(server))
        done, _ = await asyncio.wait({sending}, timeout=1)
        assert not done
        async with await asyncio.start_server(server.serve, sock=taken):
            shown = await sending
    assert shown.exit_code == Exit.DONE
    assert MESSAGE_ID in shown.stdout
    assert f"Nothing answers at {server.url}; waiting for it, 10 s at most." in shown.stderr
