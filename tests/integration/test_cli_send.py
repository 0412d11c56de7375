"""`tollwire send --csv`, when the API refuses what was asked for every row of the file."""

import asyncio
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


async def send(rig: Rig, key: str, folder: Path, *options: str) -> Result:
    file = folder / "messages.csv"
    file.write_text("to,text\n" + "".join(f"+49151123456{row:02},hello\n" for row in range(ROWS)))
    words = ("send", "--csv", str(file), "--api-url", rig.url, "--api-key", key, *options)
    environ = {"TOLLWIRE_HOME": str(folder / "home")}
    return await asyncio.to_thread(CliRunner(env=environ).invoke, tollwire, words)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        (
            "--max-price",
            "0,10",
            "max_price: must be an amount like 0.10, with a point and at most six decimals",
        ),
        (
            "--send-at",
            "nope",
            "send_at: must be an RFC 3339 time with a time zone, as in 2026-11-21T10:00:00Z",
        ),
        ("--valid-for", "5", "valid_for_seconds: must be >= 60"),
    ],
)
async def test_a_refused_option_is_told_once_and_can_be_mended(rig, tmp_path, option, value, told):
    key = await rig.client("acme")
    refused = await send(rig, key, tmp_path, option, value)
    assert refused.exit_code == Exit.FAILED
    assert [line.strip() for line in refused.stderr.splitlines()] == [
        f"Stopped after 0 of {ROWS} messages.",
        "The request is not valid",
        told,
        "validation_failed (422)",
    ]
    assert GO_ON not in refused.stderr
    assert (await send(rig, key, tmp_path)).exit_code == Exit.DONE
