"""Commands on a machine whose disk, or output, takes no more: a sentence, and nothing is sent twice."""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.failures import Exit
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

ROWS, BATCH_SIZE = 60, 20
# Of a file: enough for what a send begins with, too little for the answer to its first batch.
FILE_BYTES_MAX = 1_000


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))


@pytest.fixture
async def key(rig: Rig) -> str:
    return await rig.client("acme")


async def run(
    rig: Rig, key: str, folder: Path, *words: str, output: Path | None = None, is_limited: bool = False
) -> tuple[int | None, str]:
    """Run the real command; return its exit code and what it said on stderr."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
    with (output or Path(os.devnull)).open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "cli", *words, "--api-url", rig.url,
            stdout=stdout, stderr=asyncio.subprocess.PIPE, preexec_fn=limit_files if is_limited else None,
            env={**inherited, "TOLLWIRE_HOME": str(folder / "home"), "TOLLWIRE_API_KEY": key},
        )  # fmt: skip
        _, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    return process.returncode, said.decode()


async def count(rig: Rig) -> int:
    async with rig.connection() as connection:
        return int(await connection.fetchval("select count(*) from tollwire.messages"))


async def test_an_output_that_is_full_is_a_sentence(rig, key, tmp_path):
    await rig.send(key)
    full = Path("/dev/full")
    code, said = await run(rig, key, tmp_path, "message", "list", output=full)
    assert (code, "the output: No space left on device" in said) == (Exit.FAILED, True)
    code, said = await run(rig, key, tmp_path, "message", "list", "--json", output=full)
    assert (code, '"title": "This machine did not let it go on."' in said) == (Exit.FAILED, True)


async def test_a_send_that_met_a_full_disk_goes_on_and_sends_nothing_twice(rig, key, tmp_path):
    file = tmp_path / "messages.csv"
    file.write_text("to,text\n" + "".join(f"+49151123456{row:02},hello {row}\n" for row in range(ROWS)))
    words = ("send", "--csv", str(file), "--batch-size", str(BATCH_SIZE))
    code, said = await run(rig, key, tmp_path, *words, "--rejected", "/no/such/folder.csv")
    assert (code, "Nothing was sent." in said, await count(rig)) == (Exit.USAGE, True, 0)

    code, said = await run(rig, key, tmp_path, *words, is_limited=True)
    assert code == Exit.FAILED
    assert "The same command goes on where it stopped; nothing is sent twice." in said
    assert "File too large" in said
    assert 0 < await count(rig) < ROWS

    rejected = Path("/dev/full")  # takes the look at it, and no row
    code, said = await run(rig, key, tmp_path, *words, "--rejected", str(rejected))
    assert (code, await count(rig)) == (Exit.FAILED, ROWS)
    assert "/dev/full: No space left on device" in said
    assert (await run(rig, key, tmp_path, *words))[0] == Exit.DONE
    assert await count(rig) == ROWS
