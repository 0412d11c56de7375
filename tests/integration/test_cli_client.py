"""`tollwire client`: what cannot be done as a whole is not begun."""

import asyncio
import json

import asyncpg
import msgspec
import pytest
from click.testing import CliRunner, Result

from api.problems import Refusal
from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.problems import ProblemCode
from tests.support.api_rig import open_api, prepare
from tests.support.faulty_http import FaultyServer, faulty_server, http


async def run(server: FaultyServer, *words: str) -> Result:
    words = ("client", *words, "--api-url", server.url, "--api-key", "x")
    return await asyncio.to_thread(CliRunner().invoke, tollwire, words)


@pytest.mark.parametrize("command", ["create", "set"])
async def test_a_credit_limit_that_is_no_amount_is_refused_before_anything_is_asked(command):
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        done = await run(server, command, "beta", "--credit-limit", "12,50", "--messages-per-second", "5")
    assert (done.exit_code, server.requests) == (Exit.USAGE, [])
    assert "The amount is not right." in done.output


async def test_a_change_that_is_refused_leaves_the_credit_limit_as_it_was():
    refusal = Refusal(ProblemCode.NOT_FOUND)
    told = {"Content-Type": "application/problem+json"}
    answer = http(refusal.status, msgspec.json.encode(refusal.problem("r1")), headers=told)
    async with faulty_server(lambda _: answer) as server:
        done = await run(server, "set", "beta", "--credit-limit", "50", "--messages-per-second", "5")
    assert done.exit_code == Exit.FAILED
    assert [json.loads(request.body) for request in server.requests] == [{"messages_per_second": 5}]


async def test_what_waits_for_another_try_is_not_said_to_wait_for_its_time(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        sent = await rig.send(await rig.client("acme"))
        owner = await asyncpg.connect(database.dsn())
        # As it is while its carrier is stopped: given back for another try.
        await owner.execute(
            "update tollwire.outbox set dispatch_at = clock_timestamp() + interval '1 minute' "
            "where message_id = $1",
            sent.body["id"],
        )
        await owner.close()
        words = ("client", "show", "acme", "--api-url", rig.url, "--api-key", await rig.operator())
        done = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert "0 to send, 1 later (time, pace or a retry)" in done.stdout
    assert "for 1 message\n" in done.stdout


@pytest.mark.parametrize("command", ["create", "set"])
@pytest.mark.parametrize("limit", ["-1", "1000000000000.000001"])
async def test_a_credit_limit_that_no_account_has_is_refused_before_anything_is_asked(command, limit):
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        done = await run(server, command, "beta", f"--credit-limit={limit}", "--messages-per-second", "5")
    assert (done.exit_code, server.requests) == (Exit.USAGE, [])
    assert "The credit limit is not right." in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "beta"), "The client is made."),
        (("set", "beta", "--messages-per-second", "5"), "The other settings are changed."),
    ],
)
async def test_what_is_done_is_told_where_the_credit_limit_is_refused(words, told):
    refusal = Refusal(ProblemCode.FORBIDDEN)
    refused = http(
        refusal.status,
        msgspec.json.encode(refusal.problem("r1")),
        headers={"Content-Type": "application/problem+json"},
    )
    async with faulty_server(
        lambda request: refused if request.path.endswith("/credit") else http(200, b"{}")
    ) as server:
        done = await run(server, *words, "--credit-limit", "50")
        as_json = await run(server, *words, "--credit-limit", "50", "--json")
    assert (done.exit_code, told in done.stderr) == (Exit.FAILED, True)
    assert json.loads(as_json.stderr)["hint"].startswith(told)


async def test_a_change_is_shown_from_its_own_answer(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        await rig.client("acme")
        words = (
            "client",
            "set",
            "acme",
            "--suspend",
            "--api-url",
            rig.url,
            "--api-key",
            await rig.operator(),
        )
        done = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert (done.exit_code, "acme (suspended)" in done.stdout) == (Exit.DONE, True)
    assert "Waiting" not in done.stdout
