"""`tollwire send --csv --wait` that sent all and cannot follow it: it says what is sent."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import api_client, send_file
from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.problems import ProblemCode
from tests.support import batch_answers
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server

ROWS = 1
HANGS = Reply(b"", "hang")


def words(server: FaultyServer, folder: Path) -> list[str]:
    file = str(batch_answers.file_of(ROWS, folder))
    return ["send", "--csv", file, "--wait", "--api-url", server.url, "--api-key", batch_answers.KEY]


async def send(server: FaultyServer, folder: Path, *more: str) -> Result:
    runner = CliRunner(env={"TOLLWIRE_HOME": str(folder / "home")})
    return await asyncio.to_thread(runner.invoke, tollwire, [*words(server, folder), *more])


def takes_all_and_then(answer: Reply) -> Callable[[Request], Reply]:
    def answers(request: Request) -> Reply:
        if request.body:
            return batch_answers.batch(request)
        return answer if request.path.startswith("/v1/messages") else batch_answers.account(request)

    return answers


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        (batch_answers.refused(ProblemCode.FORBIDDEN), Exit.FAILED),
        (batch_answers.refused(ProblemCode.BUSY), Exit.FAILED),
        (HANGS, Exit.UNREACHABLE),
    ],
)
async def test_what_was_sent_is_told_where_it_can_no_longer_be_followed(
    monkeypatch, tmp_path, answer, exit_code
):
    if answer == HANGS:  # what is answered must not be lost by a pause of the machine
        monkeypatch.setattr(api_client, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(send_file, "PATIENCE_SECONDS", 0.1)
    async with faulty_server(takes_all_and_then(answer)) as server:
        shown = await send(server, tmp_path)
        told = await send(server, tmp_path, "--json")
    assert (shown.exit_code, told.exit_code) == (exit_code, exit_code)
    assert "What was accepted is sent. The same command follows it again" in shown.stderr
    document, failure = json.loads(told.stdout), json.loads(told.stderr)
    assert (document["accepted"], "books" in document) == (ROWS, False)
    assert (failure["run"], "What was accepted is sent." in failure["hint"]) == (document["run"], True)
    assert sum(len(batch_answers.rows_of(request)) for request in server.requests if request.body) == ROWS


async def test_broken_off_in_its_wait_it_tells_what_is_sent(tmp_path):
    async with faulty_server(takes_all_and_then(HANGS)) as server:
        follows = asyncio.Event()

        def answers(request: Request, answer: Callable[[Request], Reply] = server.answer) -> Reply:
            if not request.body and request.path.startswith("/v1/messages"):
                follows.set()
            return answer(request)

        server.answer = answers
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", *words(server, tmp_path), "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TOLLWIRE_HOME": str(tmp_path / "home")},
            # Jobs in a shell's background, in which these tests may run, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        async with asyncio.timeout(20):
            await follows.wait()
            process.send_signal(signal.SIGINT)
            document, failure = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert json.loads(document)["accepted"] == ROWS
    assert json.loads(failure)["run"] == json.loads(document)["run"]
