"""`tollwire bootstrap` on servers of one's own: what is missing is made, what is there stays."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import nats
import pytest

from shared.domain.api_keys import parse_api_key
from shared.runtime.keyring import Keyring
from shared.runtime.streams import STREAMS
from shared.storage import api_keys, carriers, rates
from tests.support.servers import Database


async def tollwire(*arguments: str, **environ: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        *arguments,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.fixture
def environ(database: Database, nats_server, tmp_path: Path) -> dict[str, str]:
    Keyring.generate(tmp_path / "keyring.json")
    return {
        "TOLLWIRE_POSTGRES_DSN": database.dsn("api"),
        "TOLLWIRE_NATS_URL": nats_server.url,
        "TOLLWIRE_NATS_TOKEN": nats_server.token,
        "TOLLWIRE_KEYRING_FILE": str(tmp_path / "keyring.json"),
        "TOLLWIRE_SIMULATOR_SECRET": "shared",
        "NO_COLOR": "1",
    }


async def test_an_installation_begins_with_streams_a_key_prices_and_a_carrier(
    database: Database, nats_server, environ: dict[str, str], tmp_path: Path
) -> None:
    status, key = await tollwire("key", "generate")
    assert status == 0
    (tmp_path / "operator.key").write_text(key)
    command = ("bootstrap", "--operator-key", str(tmp_path / "operator.key"), "--default-rates")
    status, told = await tollwire(*command, "--simulator", "http://simulator:8190", **environ)
    assert status == 0, told
    connection = await asyncpg.connect(database.dsn("api"))
    listing = await api_keys.key_listing(connection, parse_api_key(key.strip()).key_id)
    assert (listing.client, listing.scopes) == (None, ["admin"])
    assert await rates.list_rates(connection, None, limit=1)
    simulator = await carriers.stored_carrier(connection, "simulator")
    assert simulator.row.settings["url"] == "http://simulator:8190/submit"
    await connection.close()
    client = await nats.connect(nats_server.url, token=nats_server.token)
    names = {info.config.name for info in await client.jetstream().streams_info()}
    assert names == {stream.name for stream in STREAMS}
    await client.close()

    status, told = await tollwire(*command, **environ)
    assert (status, "is there already" in told) == (0, True)


async def test_a_file_without_a_key_is_refused_before_anything_is_made(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "operator.key").write_text("tw_mistyped")
    status, told = await tollwire("bootstrap", "--operator-key", str(tmp_path / "operator.key"), **environ)
    assert (status, "holds no key" in told) == (2, True)
    assert "mistyped" not in told


async def test_a_migration_does_not_wait_for_a_password_to_become_right(database: Database) -> None:
    dsn = database.dsn("migrate").replace(database.server.secret("tollwire_migrate"), "wrong")
    status, told = await tollwire("migrate", "--wait", "600", "--dsn", dsn, NO_COLOR="1")
    assert (status, "refuses the login" in told) == (4, True), told
