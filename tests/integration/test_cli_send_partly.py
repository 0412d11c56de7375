"""`tollwire send --csv` where a batch was accepted in part: that part is never sent a second time."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import send_run
from cli.__main__ import tollwire
from cli.failures import Exit
from cli.send_batches import PROBES
from shared.domain.problems import ProblemCode
from tests.support import batch_answers
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http

ROWS = PROBES + 4
DAYS_AGO_MS = 73 * 3_600_000


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_run, "ITEM_PAUSE_SECONDS", 0)


async def send(server: FaultyServer, folder: Path, *words: str) -> Result:
    file = str(batch_answers.file_of(ROWS, folder))
    words = ("send", "--csv", file, *words, "--api-url", server.url, "--api-key", batch_answers.KEY)
    environ = {"TOLLWIRE_HOME": str(folder / "home")}
    return await asyncio.to_thread(CliRunner(env=environ).invoke, tollwire, words)


def accepts_part_and_then(answer: Reply) -> Callable[[Request], Reply]:
    """The first whole batch in part, and to everything after it the answer."""
    has_met_a_batch = False

    def answers(request: Request) -> Reply:
        nonlocal has_met_a_batch
        if not request.body:
            return batch_answers.account(request)
        if len(batch_answers.rows_of(request)) == 1:
            return batch_answers.batch(request)
        if has_met_a_batch:
            return answer
        has_met_a_batch = True
        return batch_answers.batch(request, ProblemCode.BUSY)

    return answers


def age(folder: Path) -> None:
    """Make what the home remembers of a send older than its idempotency keys live."""
    (memory,) = (folder / "home" / "sends").iterdir()
    older = re.sub(
        rb'"at_ms":(\d+)', lambda at: b'"at_ms":%d' % (int(at[1]) - DAYS_AGO_MS), memory.read_bytes()
    )
    memory.write_bytes(older)


@pytest.mark.parametrize(
    "answer",
    [
        batch_answers.refused(ProblemCode.CLIENT_SUSPENDED),
        batch_answers.refused(ProblemCode.UNAUTHORIZED),
        batch_answers.refused(ProblemCode.BUSY),
        http(202, b'{"accepted": 0, "rejected": 0, "results": []}'),
        http(404, b"a proxy's own words"),
    ],
)
async def test_a_batch_that_was_accepted_in_part_is_not_sent_again_when_its_keys_are_gone(tmp_path, answer):
    async with faulty_server(accepts_part_and_then(answer)) as server:
        assert (await send(server, tmp_path)).exit_code == Exit.FAILED
        age(tmp_path)
        server.requests.clear()
        again = await send(server, tmp_path)
    assert (again.exit_code, server.requests) == (Exit.FAILED, [])
    assert "part of it may or may not have been accepted" in again.stderr


async def test_a_batch_that_was_refused_as_a_whole_is_sent_however_late(tmp_path):
    def refuses(request: Request) -> Reply:
        if not request.body:
            return batch_answers.account(request)
        return batch_answers.refused(ProblemCode.CLIENT_SUSPENDED)

    async with faulty_server(refuses) as server:
        assert (await send(server, tmp_path)).exit_code == Exit.FAILED
        server.answer = lambda request: (
            batch_answers.batch(request) if request.body else batch_answers.account(request)
        )
        age(tmp_path)
        again = await send(server, tmp_path)
    assert (again.exit_code, f"{ROWS} of {ROWS}" in again.stdout) == (Exit.DONE, True)


async def test_who_stops_on_the_way_says_to_programs_what_of_a_file_is_sent(tmp_path):
    def takes_some(request: Request) -> Reply:
        if not request.body:
            return batch_answers.account(request)
        is_first = len(batch_answers.rows_of(request)) == 1
        return batch_answers.batch(request) if is_first else batch_answers.refused(ProblemCode.UNAUTHORIZED)

    async with faulty_server(takes_some) as server:
        stopped = await send(server, tmp_path, "--json")
    told = json.loads(stopped.stderr)
    assert stopped.exit_code == told["exit_code"] == Exit.FAILED, "not as if nothing had been done"
    assert told["hint"].startswith(f"Stopped after {PROBES} of {ROWS} messages.")
    assert told["run"]


@pytest.mark.parametrize("code", [ProblemCode.UNAUTHORIZED, ProblemCode.CLIENT_SUSPENDED])
async def test_who_was_shut_out_in_the_middle_of_a_batch_goes_on_with_it(tmp_path, code):
    """Nothing was found wrong with the messages that had no turn before it."""

    def shuts_out(request: Request) -> Reply:
        if not request.body:
            return batch_answers.account(request)
        is_first = len(batch_answers.rows_of(request)) == 1
        return batch_answers.batch(request) if is_first else batch_answers.batch(request, code)

    async with faulty_server(shuts_out) as server:
        stopped = await send(server, tmp_path)
        assert stopped.exit_code == Exit.FAILED
        asked = server.requests[-1]
        server.requests.clear()
        server.answer = lambda request: (
            batch_answers.batch(request) if request.body else batch_answers.account(request)
        )
        again = await send(server, tmp_path)
    assert (again.exit_code, f"{ROWS} of {ROWS}" in again.stdout) == (Exit.DONE, True)
    assert asked.body in [request.body for request in server.requests]
