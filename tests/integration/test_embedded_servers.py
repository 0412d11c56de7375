"""The embedded servers keep their data, their secrets and their manners."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from redis.asyncio import Redis

from embedded.accounts import is_open_to_all, remove_folder, unprivileged_account
from embedded.files import FolderInUse
from embedded.nats import NatsServer, run_nats
from embedded.postgres import PostgresServer, run_postgres
from embedded.postgres_programs import find_programs
from embedded.unit import NotInstalled, StartFailed
from embedded.valkey import ValkeyProgram, ValkeyServer, find_valkey, run_valkey
from shared.runtime.jetstream import open_jetstream
from shared.runtime.server_settings import NatsAccess

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder():
    """A folder that root's nobody can pass through, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="tollwire-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


async def ask(server: PostgresServer, query: str) -> object:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_postgres_keeps_its_rows_over_a_restart_on_another_port(folder):
    async with run_postgres(folder / "pg", durable=False) as first:
        await ask(first, "create table kept as select 7 as x")
    async with run_postgres(folder / "pg", durable=False) as second:
        assert second.port != first.port
        assert await ask(second, "select x from kept") == 7


async def test_postgres_starts_again_right_after_its_postmaster_was_killed(folder):
    first = PostgresServer(folder / "pg", durable=False)
    await first.start_async()
    await ask(first, "create table kept as select 7 as x")
    os.kill(first.child.pid or 0, signal.SIGKILL)
    await first.stop_async()
    async with run_postgres(folder / "pg", port=first.port, durable=False) as second:
        assert await ask(second, "select x from kept") == 7


async def test_a_postgres_that_an_earlier_life_left_behind_is_stopped_first(folder):
    leftover = PostgresServer(folder / "pg", durable=False)
    await leftover.start_async()
    leftover._lock.release()  # what the kernel does when a supervisor is killed
    async with run_postgres(folder / "pg", durable=False) as server:
        assert leftover.child.exit_code == 0
        assert await ask(server, "select 1") == 1


async def test_a_folder_serves_one_postgres_at_a_time(folder):
    async with run_postgres(folder / "pg", durable=False):
        with pytest.raises(FolderInUse):
            await PostgresServer(folder / "pg", durable=False).start_async()


async def test_money_is_safe_by_default_and_only_tests_may_forget(folder):
    names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    async with run_postgres(folder / "safe") as server:
        assert [await ask(server, f"show {name}") for name in names] == ["on"] * 4
        assert await ask(server, "show server_encoding") == "UTF8"
    async with run_postgres(folder / "forgetful", durable=False) as server:
        assert await ask(server, "show fsync") == "off"


async def test_postgres_lets_nobody_in_without_the_password(folder):
    async with run_postgres(folder / "pg", durable=False) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn().replace(server.secret("postgres"), "guessed"))
        assert await ask(server, "show unix_socket_directories") == ""
        assert await ask(server, "show listen_addresses") == "127.0.0.1"


async def test_an_initdb_that_was_broken_off_leaves_no_ruin(folder):
    (folder / "pg" / "data.new" / "base").mkdir(parents=True)
    async with run_postgres(folder / "pg", durable=False) as server:
        assert await ask(server, "select 1") == 1
    assert not (folder / "pg" / "data.new").exists()


async def test_an_operators_own_settings_win_over_ours(folder):
    (folder / "pg").mkdir()
    (folder / "pg" / "own.conf").write_text("max_connections = 37\n")
    async with run_postgres(folder / "pg", durable=False) as server:
        assert await ask(server, "show max_connections") == "37"


async def test_data_of_another_major_version_is_refused_with_the_way_out(folder):
    async with run_postgres(folder / "pg", durable=False) as server:
        pass
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StartFailed, match=r"made by PostgreSQL 16.*TOLLWIRE_POSTGRES_BIN"):
        await PostgresServer(folder / "pg", durable=False).start_async()


async def test_a_start_that_fails_shows_the_end_of_the_log(folder):
    (folder / "pg").mkdir()
    (folder / "pg" / "own.conf").write_text("max_connections = nonsense\n")
    server = PostgresServer(folder / "pg", durable=False)
    server.relaunch_seconds = 0
    with pytest.raises(
        StartFailed, match=r'(?s)postgresql ended with status 1.*"max_connections": "nonsense"'
    ):
        await server.start_async()


async def test_programs_of_another_folder_can_be_named(folder):
    ours = find_programs(None, None)
    server = PostgresServer(folder / "pg", programs_folder=ours.folder, durable=False)
    server.take_folder()
    server.prepare()
    assert server.programs == ours
    server.stop()


@pytest.mark.parametrize(
    ("answer", "word"),
    [("postgres (PostgreSQL) 16.4", "too old"), ("", "does not run here"), (None, "no PostgreSQL")],
)
def test_programs_that_do_not_fit_are_refused(tmp_path, answer, word):
    if answer is not None:
        (tmp_path / "postgres").write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / "postgres").chmod(0o755)
    with pytest.raises(NotInstalled, match=word):
        find_programs(tmp_path, None)


async def test_root_runs_postgres_below_a_closed_folder_without_opening_it(folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    async with run_postgres(closed / "pg", durable=False) as server:
        assert await ask(server, "select 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700
    remove_folder(closed / "pg")
    assert not server.folder.exists()


ORDINARY = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from embedded.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1]) / "pg", durable=False)
server.start()
owner = (server.data / "postmaster.pid").stat().st_uid
server.stop()
print(os.geteuid() != 0 and owner == os.geteuid())
"""


def python_for_everybody() -> str:
    """A Python that another account can run: root's own may be below /root."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(path).exists() and is_open_to_all(Path(path)):
            return path
    return sys.executable


def test_an_ordinary_user_runs_postgres_as_himself(folder):
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = unprivileged_account()
        os.chown(folder, nobody.uid, nobody.gid)
        account = {"user": nobody.uid, "group": nobody.gid, "extra_groups": ()}
    packages = Path(asyncpg.__file__).parents[1]
    done = subprocess.run(
        [python_for_everybody(), "-c", ORDINARY, str(folder), str(REPOSITORY), str(packages)],
        capture_output=True, text=True, cwd="/", check=False, **account,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("True", "")


async def test_nats_keeps_its_streams_and_wants_its_token(folder):
    async with run_nats(folder / "nats") as server:
        connection = await nats.connect(server.url, token=server.token)
        await connection.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await connection.jetstream().publish("kept", b"x")
        await connection.close()
    async with run_nats(folder / "nats") as server:
        connection = await nats.connect(server.url, token=server.token)
        assert (await connection.jetstream().stream_info("KEPT")).state.messages == 1
        await connection.close()
        with (
            socket.create_connection(("127.0.0.1", server.port)) as stranger,
            stranger.makefile("rb") as answers,
        ):
            assert answers.readline().startswith(b"INFO")
            stranger.sendall(b'CONNECT {"auth_token":"guessed","verbose":false}\r\nPING\r\n')
            assert answers.readline().startswith(b"-ERR 'Authorization Violation'")


async def make_streams(server: NatsServer, store_bytes: int) -> int:
    """Make our streams, or change them; return what all of them may fill."""
    settings = NatsAccess(nats_url=server.url, nats_token=server.token, nats_store_bytes=store_bytes)
    async with asyncio.timeout(60), open_jetstream(settings) as jetstream:
        assert await jetstream.wait_connected(20)
        await jetstream.ensure_streams()
    connection = await nats.connect(server.url, token=server.token)
    found = await connection.jetstream().streams_info()
    await connection.close()
    return sum(info.config.max_bytes or 0 for info in found)


async def test_nats_has_room_for_the_streams_that_are_asked_for_and_for_fewer_later(folder):
    for store_bytes in (5 * 2**30, 2**30):
        async with run_nats(folder / "nats", store_bytes=store_bytes) as server:
            assert await make_streams(server, store_bytes) == pytest.approx(store_bytes, abs=10)


def valkey_program() -> ValkeyProgram:
    program = find_valkey()
    assert program is not None
    return program


async def test_valkey_wants_its_password_and_begins_with_nothing(folder):
    program = valkey_program()
    for _ in range(2):
        async with (
            run_valkey(folder / "valkey", program=program) as server,
            Redis.from_url(server.url) as client,
        ):
            assert await client.get("kept") is None
            await client.set("kept", "x")
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "allkeys-lru"
            with socket.create_connection(("127.0.0.1", server.port)) as stranger:
                stranger.sendall(b"PING\r\n")
                assert stranger.recv(100).startswith(b"-NOAUTH")


async def test_valkey_starts_whatever_an_earlier_one_left_in_its_folder(folder):
    """Damaged by a full disk, or of a newer server: it is only there to make things fast."""
    left = folder / "valkey" / "appendonlydir"
    left.mkdir(parents=True)
    (left / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
    for file in (left / "appendonly.aof.1.base.rdb", left.parent / "dump.rdb"):
        file.write_bytes(b"REDIS9999\xff what no server of today can read")
    async with (
        run_valkey(folder / "valkey", program=valkey_program()) as server,
        Redis.from_url(server.url) as client,
    ):
        assert await client.ping()


@pytest.mark.parametrize(
    "server",
    [NatsServer, lambda folder: ValkeyServer(folder, program=valkey_program())],
    ids=["nats", "valkey"],
)
async def test_secrets_are_readable_by_their_owner_alone(folder, server: Callable[[Path], NatsServer]):
    unit = server(folder / "x")
    await unit.start_async()
    await unit.stop_async()
    readable = [path.name for path in unit.folder.rglob("*.*") if path.stat().st_mode & 0o077]
    assert unit.folder.stat().st_mode & 0o777 == 0o700
    assert [name for name in readable if name.endswith((".secret", ".conf"))] == []
