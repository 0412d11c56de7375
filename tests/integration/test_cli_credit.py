"""`tollwire credit`: money is posted once, also when the answer is lost and the command is run again."""

import asyncio
import json

import msgspec
import pytest
from click.testing import CliRunner

from api.problems import Refusal
from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.problems import ProblemCode
from tests.support.faulty_http import Reply, faulty_server, http

# Longer than a command waits, so each is told at once.
LATER = {"Content-Type": "application/problem+json", "Retry-After": "1000"}


def problem(code: ProblemCode) -> Reply:
    refusal = Refusal(code)
    return http(refusal.status, msgspec.json.encode(refusal.problem("r1")), headers=LATER)


@pytest.mark.parametrize("kind", ["add", "adjust"])
@pytest.mark.parametrize(
    "answer", [problem(ProblemCode.OUTCOME_UNKNOWN), http(200, b'{"posted": "of another version"}')]
)
async def test_a_lost_answer_names_the_reference_that_posts_it_once(kind, answer):
    async with faulty_server(lambda _: answer) as server:
        words = ["credit", kind, "acme", "10.00", "--api-url", server.url, "--api-key", "x"]
        shown = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
        told = await asyncio.to_thread(CliRunner().invoke, tollwire, [*words, "--json"])
    asked = [msgspec.json.decode(request.body)["reference"] for request in server.requests]
    assert (shown.exit_code, told.exit_code) == (Exit.FAILED, Exit.FAILED)
    assert f"--reference {asked[0]}" in shown.output
    assert json.loads(told.output)["reference"] == asked[1] != asked[0]


async def test_a_refusal_that_posted_nothing_names_none():
    async with faulty_server(lambda _: problem(ProblemCode.NOT_FOUND)) as server:
        words = ["credit", "add", "acme", "10.00", "--api-url", server.url, "--api-key", "x"]
        shown = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert shown.exit_code == Exit.FAILED
    assert "--reference" not in shown.output
