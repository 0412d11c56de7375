"""The servers that tests run on: real ones, one set a process, on free ports.

``database`` is a fresh copy of a migrated template for each test, and its books are verified when
the test is over. ``nats_server`` and ``valkey_server`` are empty at the start of each test.
"""

import asyncio
import importlib
import importlib.util
import inspect
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from redis.asyncio import Redis

from cli.migrate import upgrade
from embedded.accounts import remove_folder
from embedded.nats import NatsServer
from embedded.postgres import SUPERUSER, PostgresServer
from embedded.roles import drop_database, ensure_database, set_passwords
from embedded.valkey import ValkeyServer, find_valkey
from tests.support.folders import forgetful_folder

TEMPLATE = "tollwire_template"
R = TypeVar("R")


class Database:
    """A migrated database of one test."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.is_verified_at_the_end = True

    def dsn(self, role: str = SUPERUSER) -> str:
        """The DSN for ``api``, ``worker``, ``dlr``, ``ledger``, ``readonly``, ``migrate``, or superuser."""
        user = role if role == SUPERUSER else f"tollwire_{role}"
        return self.server.dsn(user=user, database=self.name)

    def is_corrupted_on_purpose(self) -> None:
        """For tests that plant faults in the books: they are not verified at the end."""
        self.is_verified_at_the_end = False


def run_apart(work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a coroutine to its end in a loop and a thread of its own, whatever the test's loop is doing."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder for all of them, which goes with them."""
    folder = forgetful_folder("tollwire-tests-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that forgets on a power cut (fsync off). TOLLWIRE_POSTGRES_BIN names other programs."""
    named = os.environ.get("TOLLWIRE_POSTGRES_BIN")
    folder = servers_folder / "postgresql"
    server = PostgresServer(folder, durable=False, programs_folder=Path(named) if named else None)
    server.start()
    yield server
    server.stop()
    remove_folder(folder)


@pytest.fixture(scope="session")
def template(postgres: PostgresServer) -> str:
    """The name of a database with every migration, and no rows but theirs."""
    run_apart(lambda: ensure_database(postgres, TEMPLATE))
    # The migrations run an event loop of their own.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(upgrade, postgres.dsn(database=TEMPLATE)).result()
    run_apart(lambda: set_passwords(postgres))
    return TEMPLATE


_numbers = count(1)


@pytest.fixture
def make_database(postgres: PostgresServer, template: str) -> Iterator[Callable[[], Database]]:
    """Makes as many fresh databases as the test wants; each is verified and dropped at the end."""
    made: list[Database] = []

    def make() -> Database:
        database = Database(postgres, f"test_{next(_numbers)}")
        run_apart(lambda: ensure_database(postgres, database.name, template))
        made.append(database)
        return database

    yield make
    findings = run_apart(lambda: _faults(made))
    run_apart(lambda: _drop(made))
    if findings:
        pytest.fail("the books are wrong after this test:\n" + "\n".join(findings))


@pytest.fixture
def database(make_database: Callable[[], Database]) -> Database:
    """A fresh, migrated database; ``database.dsn("api")`` connects as that role."""
    return make_database()


async def _faults(databases: list[Database]) -> list[str]:
    if importlib.util.find_spec("ledger.verify") is None:
        return []
    verify_database = importlib.import_module("ledger.verify").verify_database
    found = []
    for database in databases:
        if database.is_verified_at_the_end:
            answer = verify_database(database.dsn())
            found += await answer if inspect.isawaitable(answer) else answer
    return [str(finding) for finding in found]


async def _drop(databases: list[Database]) -> None:
    for database in databases:
        await drop_database(database.server, database.name)


@pytest.fixture(scope="session")
def nats_process(servers_folder: Path) -> Iterator[NatsServer]:
    """One NATS for the whole session; tests take ``nats_server``."""
    server = NatsServer(servers_folder / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nats_server(nats_process: NatsServer) -> NatsServer:
    """A NATS without streams: ``.url`` and ``.token``."""
    run_apart(lambda: _delete_streams(nats_process))
    return nats_process


async def _delete_streams(server: NatsServer) -> None:
    connection = await nats.connect(server.url, token=server.token)
    jetstream = connection.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    await connection.close()


@pytest.fixture(scope="session")
def valkey_process(servers_folder: Path) -> Iterator[ValkeyServer]:
    """One Valkey for the whole session; tests take ``valkey_server``."""
    program = find_valkey()
    if program is None:
        pytest.fail(
            "the tests need a valkey-server or redis-server on the PATH: this platform has no wheel of it"
        )
    server = ValkeyServer(servers_folder / "valkey", program=program)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey_server(valkey_process: ValkeyServer) -> ValkeyServer:
    """An empty Valkey: ``.url`` holds its password."""
    run_apart(lambda: _empty(valkey_process))
    return valkey_process


async def _empty(server: ValkeyServer) -> None:
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        await client.script_flush()
