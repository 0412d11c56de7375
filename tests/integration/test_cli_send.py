"""`tollwire send` where it does not go well: what the API refuses of a file, and what is not final in time.

No worker runs here, so nothing becomes final.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import tollwire
from cli.failures import Exit
from cli.send_file import GO_ON
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

ROWS = 25


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def send(rig: Rig, key: str, folder: Path, *words: str) -> Result:
    words = ("send", *words, "--api-url", rig.url, "--api-key", key)
    environ = {"TOLLWIRE_HOME": str(folder / "home")}
    return await asyncio.to_thread(CliRunner(env=environ).invoke, tollwire, words)


def file_of(rows: int, folder: Path) -> str:
    file = folder / "messages.csv"
    file.write_text("to,text\n" + "".join(f"+49151123456{row:02},hello\n" for row in range(rows)))
    return str(file)


async def test_an_option_that_the_api_refuses_is_told_once_and_can_be_mended(rig, tmp_path):
    key = await rig.client("acme")
    file = file_of(ROWS, tmp_path)
    refused = await send(rig, key, tmp_path, "--csv", file, "--from", "A" * 17)
    assert refused.exit_code == Exit.FAILED
    assert [line.strip() for line in refused.stderr.splitlines()] == [
        f"Stopped after 0 of {ROWS} messages.",
        "The request is not valid",
        "from: must have at most 16 characters",
        "validation_failed (422)",
    ]
    assert GO_ON not in refused.stderr
    assert (await send(rig, key, tmp_path, "--csv", file)).exit_code == Exit.DONE


async def test_a_file_that_was_begun_in_another_way_is_not_said_to_go_on(rig, tmp_path):
    key = await rig.client("acme")
    file = file_of(ROWS, tmp_path)
    assert (await send(rig, key, tmp_path, "--csv", file)).exit_code == Exit.DONE
    for memory in (tmp_path / "home" / "sends").iterdir():
        memory.unlink()
    refused = await send(rig, key, tmp_path, "--csv", file, "--lane", "bulk")
    assert refused.exit_code == Exit.FAILED
    assert "This file was begun in another way" in refused.stderr
    assert GO_ON not in refused.stderr


async def test_a_message_that_is_not_final_in_time_is_told_to_go_on(rig, tmp_path):
    key = await rig.client("acme")
    words = ("+4915112345678", "hello", "--wait", "--timeout", "0.01")
    done = await send(rig, key, tmp_path, *words)
    assert done.exit_code == Exit.FAILED
    assert "QUEUED" in done.stdout
    assert "Not final within 0.01 s, and no longer waited for: it goes on by itself." in done.stderr
    assert "`tollwire message show " in done.stderr
    told = await send(rig, key, tmp_path, *words, "--json")
    assert (json.loads(told.stdout)["status"], told.stderr) == ("QUEUED", "")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (1, "1 message is not final yet; the books can be proved when it is."),
        (2, "2 messages are not final yet; the books can be proved when they are."),
    ],
)
async def test_a_file_that_is_not_final_in_time_is_told_how_much_of_it(rig, tmp_path, rows, told):
    key = await rig.client("acme")
    done = await send(rig, key, tmp_path, "--csv", file_of(rows, tmp_path), "--wait", "--timeout", "0.01")
    assert done.exit_code == Exit.FAILED
    assert told in done.stdout
