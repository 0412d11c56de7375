"""`tollwire dlq replay` of many that stops midway: what is sent, and paid for, is told."""

import asyncio
import json
from uuid import uuid4

import pytest
from click.testing import CliRunner

from cli import api_client
from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.problems import ProblemCode
from tests.support import batch_answers
from tests.support.faulty_http import Reply, faulty_server, http

HANGS = Reply(b"", "hang")


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        (batch_answers.refused(ProblemCode.UNAUTHORIZED), Exit.FAILED),
        (HANGS, Exit.UNREACHABLE),
    ],
)
async def test_what_was_replayed_is_told_where_the_rest_is_not(monkeypatch, answer, exit_code):
    if answer == HANGS:  # what is answered must not be lost by a pause of the machine
        monkeypatch.setattr(api_client, "REQUEST_SECONDS", 2.0)
    monkeypatch.setitem(api_client.Api.__init__.__kwdefaults__, "patience_seconds", 0.1)
    new = batch_answers.accepted("+4915112345678")
    replies = iter([http(202, json.dumps(new).encode())])
    ids = [str(uuid4()), str(uuid4())]
    async with faulty_server(lambda _: next(replies, answer)) as server:
        words = ["dlq", "replay", *ids, "--api-url", server.url, "--api-key", "x", "--json"]
        shown = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert shown.exit_code == exit_code
    (replayed,) = json.loads(shown.stdout)["replayed"]
    assert (replayed["replay_of"], replayed["message"]["id"]) == (ids[0], new["id"])
    assert "The same command goes on" in json.loads(shown.stderr)["hint"]
