"""`tollwire doctor` on real servers: nothing wrong is found where nothing is, and each fault is seen."""

import asyncio
import json
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import nats
import pytest
from click.testing import CliRunner
from redis.asyncio import Redis

from cli.doctor import Check, doctor, examine
from cli.doctor_findings import Finding, Level
from cli.doctor_machine import check_disk, check_files, check_keyring, check_processes
from cli.doctor_nats import check_nats
from cli.doctor_place import SERVICES, find_place
from cli.doctor_postgres import check_postgres
from cli.doctor_settings import check_settings
from cli.doctor_tracing import check_tracing
from cli.doctor_valkey import check_valkey
from cli.home import Home, ProcessState, State
from embedded.files import FolderLock
from embedded.ports import free_port
from embedded.postgres import run_postgres
from embedded.probe import ANSWER_SECONDS
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.settings import load
from tests.support.servers import Database
from worker.settings import WorkerSettings

Environ = dict[str, str]

PARTITIONS = """
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'tollwire.messages'::regclass order by 1
"""


@pytest.fixture
def environ(nats_server, valkey_server, tmp_path: Path) -> Environ:
    """What a machine is told on which every service runs, and no PostgreSQL does."""
    Keyring.generate(tmp_path / "keyring.json")
    return {
        "TOLLWIRE_HOME": str(tmp_path / "home"),
        "TOLLWIRE_POSTGRES_DSN": f"postgresql://nobody@127.0.0.1:{free_port()}/tollwire",
        "TOLLWIRE_NATS_URL": nats_server.url,
        "TOLLWIRE_NATS_TOKEN": nats_server.token,
        "TOLLWIRE_VALKEY_URL": valkey_server.url,
        "TOLLWIRE_KEYRING_FILE": str(tmp_path / "keyring.json"),
    }


@pytest.fixture
def with_database(environ: Environ, database: Database) -> Environ:
    """The same with a PostgreSQL, in every service's own role."""
    dsns = {f"TOLLWIRE_{name.upper()}_POSTGRES_DSN": database.dsn(name) for name in SERVICES}
    return {**environ, "TOLLWIRE_POSTGRES_DSN": database.dsn("api"), **dsns}


async def found(check: Check, environ: Mapping[str, str], name: str, *services: str) -> list[Finding]:
    """What a check finds under a name."""
    return [one for one in await check(find_place(environ, services)) if one.check == name]


async def bad(check: Check, environ: Mapping[str, str], name: str, *services: str) -> Finding:
    """The one thing that a check finds wrong under a name; it says what to do."""
    (finding,) = (one for one in await found(check, environ, name, *services) if one.level is not Level.OK)
    assert finding.what_to_do
    return finding


async def change(database: Database, *statements: str) -> None:
    connection = await asyncpg.connect(database.dsn())
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def set_mode(path: str, mode: int) -> None:
    Path(path).chmod(mode)


async def make_streams(environ: Environ) -> None:
    settings = load(WorkerSettings, environ)
    async with open_jetstream(settings) as jetstream:
        await jetstream.wait_connected(10.0)
        await jetstream.ensure_streams()


async def test_where_nothing_is_wrong_only_the_forgetful_database_of_the_tests_is_told(with_database):
    await make_streams(with_database)
    report = await examine(find_place(with_database, ()))
    wrong = [one for one in report.findings if one.level in {Level.WARNING, Level.FAULT}]
    # fsync is off in the tests' PostgreSQL; the disk is the machine's own affair.
    assert {one.text for one in wrong if one.check != "disk"} == {
        "fsync is off: what was accepted can be lost in a crash",
        "full_page_writes is off: what was accepted can be lost in a crash",
    }
    sound = {one.check for one in report.findings if one.level is Level.OK}
    assert sound >= {f"role {service}" for service in SERVICES} | {
        "settings", "keyring", "postgresql", "clock", "schema", "partitions", "locks", "nats", "streams",
        "valkey",
    }  # fmt: skip
    words = repr(report.findings)
    for secret in (
        with_database["TOLLWIRE_NATS_TOKEN"],
        with_database["TOLLWIRE_POSTGRES_DSN"].split("@")[0],
    ):
        assert secret not in words


@pytest.fixture
def few_locks() -> Iterator[Path]:
    """The folder of a PostgreSQL with its own default; root's nobody can pass through it, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="tollwire-test-"))
    made.chmod(0o755)
    (made / "own.conf").write_text("max_locks_per_transaction = 64\n")
    yield made
    shutil.rmtree(made)


async def test_a_server_with_few_locks_is_told_before_they_are_used_up(environ, few_locks):
    async with run_postgres(few_locks, durable=False) as server:
        environ["TOLLWIRE_POSTGRES_DSN"] = server.dsn()
        finding = await bad(check_postgres, environ, "locks", "api")
    assert (finding.level, finding.text.split(":")[0]) == (Level.WARNING, "max_locks_per_transaction is 64")
    assert "max_locks_per_transaction = 256" in finding.what_to_do


async def test_wrong_missing_and_misspelt_settings_are_named(environ):
    del environ["TOLLWIRE_KEYRING_FILE"]
    environ |= {"TOLLWIRE_TURN_SECONDS": "soon", "TOLLWIRE_KEYRINGFILE": "x"}
    texts = {one.text: one for one in await found(check_settings, environ, "settings", "api", "ledger")}
    missing, wrong, unread = sorted(texts, key=lambda text: ("missing" not in text, "wrong" not in text))
    assert missing.startswith("TOLLWIRE_KEYRING_FILE is missing; it must be the path of a file that")
    assert wrong.startswith("TOLLWIRE_TURN_SECONDS: 'soon' is wrong; it must be a number")
    assert unread == "TOLLWIRE_KEYRINGFILE is set, and nothing reads it"
    assert texts[unread].what_to_do.startswith("Did you mean TOLLWIRE_KEYRING_FILE?")


def test_a_dsn_of_a_role_says_which_service_is_looked_at(environ, tmp_path):
    (tmp_path / "dsn").write_text("postgresql://tollwire_dlr@127.0.0.1/tollwire\n")
    del environ["TOLLWIRE_POSTGRES_DSN"]
    pod = find_place({**environ, "TOLLWIRE_POSTGRES_DSN_FILE": str(tmp_path / "dsn")}, ())
    assert set(pod.environs) == {"dlr"}
    assert pod.access.dsn == "postgresql://tollwire_dlr@127.0.0.1/tollwire"
    assert set(find_place(environ, ()).environs) == set(SERVICES)


async def test_a_database_that_cannot_be_used_is_told_with_its_cause(environ, with_database, database):
    dsn = database.dsn("worker")
    told = {
        environ["TOLLWIRE_POSTGRES_DSN"]: "nothing listens there",
        dsn.replace("tollwire_worker:", "tollwire_worker:wrong"): "refuses the password",
        dsn.replace("/test_", "/no_test_"): "has no such database",
    }
    for named, said in told.items():
        finding = await bad(
            check_postgres, {**environ, "TOLLWIRE_POSTGRES_DSN": named}, "postgresql", "worker"
        )
        assert finding.level is Level.FAULT
        assert said in finding.text
    await change(database, "alter role tollwire_worker connection limit 0")
    try:
        full = await bad(check_postgres, with_database, "postgresql", "worker")
    finally:
        await change(database, "alter role tollwire_worker connection limit -1")
    assert "has no connection left" in full.text


async def test_a_schema_that_is_empty_behind_or_ahead_is_told(with_database, database, postgres):
    found_at = {}
    for revision in ("0001", "9999"):
        await change(database, f"update tollwire.schema_version set version_num = '{revision}'")
        found_at[revision] = await bad(check_postgres, with_database, "schema", "api")
    empty = {**with_database, "TOLLWIRE_API_POSTGRES_DSN": postgres.dsn()}
    found_at["none"] = await bad(check_postgres, empty, "schema", "api")
    assert [finding.level for finding in found_at.values()] == [Level.FAULT, Level.WARNING, Level.FAULT]
    del found_at["9999"]
    assert {finding.what_to_do for finding in found_at.values()} == {"Run `tollwire migrate`."}


async def test_a_wrong_role_and_one_that_may_do_too_much_are_told(with_database, database):
    wrong = {**with_database, "TOLLWIRE_WORKER_POSTGRES_DSN": database.dsn("api")}
    text = (await bad(check_postgres, wrong, "role worker", "worker")).text
    assert text == "tollwire_api may not call claim_batch, record_batch"
    mighty = {**with_database, "TOLLWIRE_API_POSTGRES_DSN": database.dsn()}
    finding = await bad(check_postgres, mighty, "role api", "api")
    assert (finding.level, "past the functions" in finding.text) == (Level.WARNING, True)
    await change(database, f"alter role tollwire_dlr in database {database.name} set statement_timeout = 0")
    assert "no statement_timeout" in (await bad(check_postgres, with_database, "role dlr", "dlr")).text


async def test_lost_commits_missing_days_and_a_wrong_clock_are_told(with_database, database):
    await change(database, f"alter database {database.name} set synchronous_commit = off")
    texts = [one.text for one in await found(check_postgres, with_database, "durability", "api")]
    assert "synchronous_commit is off: what was accepted can be lost in a crash" in texts

    connection = await asyncpg.connect(database.dsn())
    names = [row[0] for row in await connection.fetch(PARTITIONS)]
    for kept, level in ((3, Level.WARNING), (1, Level.FAULT)):
        for name in names[kept:]:
            await connection.execute(f"alter table tollwire.messages detach partition tollwire.{name}")
        assert (await bad(check_postgres, with_database, "partitions", "api")).level is level
        del names[kept:]
    await connection.close()

    await change(
        database,
        "create schema other_time; grant usage on schema other_time to public",
        f"alter role tollwire_api in database {database.name} set search_path = other_time, pg_catalog",
    )
    for seconds, level in ((5, Level.WARNING), (600, Level.FAULT)):
        await change(
            database,
            "create or replace function other_time.clock_timestamp() returns timestamptz language sql as "
            f"$$ select pg_catalog.clock_timestamp() + interval '{seconds} seconds' $$",
        )
        finding = await bad(check_postgres, with_database, "clock", "api")
        assert (finding.level, "behind the database" in finding.text) == (level, True)


async def test_a_keyring_that_is_missing_open_to_others_or_lacks_a_key_is_told(with_database, database):
    keyring = with_database["TOLLWIRE_KEYRING_FILE"]
    set_mode(keyring, 0o644)
    closed = await bad(check_keyring, with_database, "keyring")
    assert "can be read by others" in closed.text
    assert "set its owner and mode" in closed.what_to_do
    set_mode(keyring, 0o600)
    connection = await asyncpg.connect(database.dsn())
    await connection.execute(
        "insert into tollwire.carriers (name, kind, settings, secret_sealed) values ('x', 'http', '{}', $1)",
        Keyring("k7", {"k7": bytes(32)}).seal(b"secret", b"row"),
    )
    await connection.close()
    lacking = await bad(check_keyring, with_database, "keyring")
    assert lacking.text == "secrets were sealed with k7, not in it"
    # The same names and other keys: only to open something tells.
    other = Path(keyring).with_name("other.json")
    Keyring("k7", {"k7": bytes(32)}).save(other)
    strange = await bad(check_keyring, {**with_database, "TOLLWIRE_KEYRING_FILE": str(other)}, "keyring")
    assert strange.text == "it does not open 1 of 1 secrets of carriers that were looked at"
    gone = {**with_database, "TOLLWIRE_KEYRING_FILE": keyring + ".gone"}
    lost = await bad(check_keyring, gone, "keyring")
    assert "is missing" in lost.text
    assert lost.what_to_do.startswith("Put the keyring of this database there")


async def test_the_keyring_that_is_gone_from_a_home_is_named_as_a_file_and_as_no_setting(with_database):
    home = Home(Path(with_database["TOLLWIRE_HOME"]))
    home.make()
    home.write_ports({"api": 1})  # an instance ran here
    told = {**with_database, "TOLLWIRE_KEYRING_FILE": ""}
    assert (await bad(check_keyring, told, "keyring")).text.startswith(f"{home.keyring} is missing")
    assert [one.level for one in await found(check_settings, told, "settings")] == [Level.OK]


async def test_nats_that_is_away_or_refuses_the_token_is_told(environ):
    url = f"nats://127.0.0.1:{free_port()}"
    away = await bad(check_nats, {**environ, "TOLLWIRE_NATS_URL": url}, "nats")
    assert "nothing listens there" in away.text
    refused = await bad(check_nats, {**environ, "TOLLWIRE_NATS_TOKEN": "wrong"}, "nats")
    assert "the login fails" in refused.text
    assert "TOLLWIRE_NATS_TOKEN" in refused.what_to_do


@asynccontextmanager
async def greeting(line: bytes) -> AsyncIterator[str]:
    """A server that says one line to whoever connects."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_is_no_nats_or_too_old_or_without_jetstream_is_told(environ):
    async with greeting(b"220 mail.example.com ESMTP\r\n") as url:
        finding = await bad(check_nats, {**environ, "TOLLWIRE_NATS_URL": url}, "nats")
    assert "is no NATS server" in finding.text
    about = {"version": "2.9.10", "jetstream": False, "max_payload": 1024, "cluster": "c1"}
    async with greeting(b"INFO " + json.dumps(about).encode() + b" \r\n") as url:
        told = await found(check_nats, {**environ, "TOLLWIRE_NATS_URL": url}, "nats")
    texts = " ".join(one.text for one in told)
    for said in ("2.9.10; 2.12 or newer is needed", "JetStream is off", "max_payload is 1024", "one copy"):
        assert said in texts


async def test_missing_and_different_streams_are_told(environ):
    missing = await found(check_nats, environ, "streams")
    assert [one.level for one in missing] == [Level.WARNING] * 4
    await make_streams(environ)
    assert [one.level for one in await found(check_nats, environ, "streams")] == [Level.OK]
    other = await found(check_nats, {**environ, "TOLLWIRE_NATS_STORE_BYTES": str(2**29)}, "streams")
    assert "is otherwise than these settings say" in other[0].text


async def test_a_nats_whose_clock_is_off_is_told(environ, monkeypatch):
    await make_streams(environ)
    assert await found(check_nats, environ, "clock") == []
    for seconds, word in ((4, "behind"), (-4, "ahead of")):
        monkeypatch.setattr(
            "cli.doctor_nats.time", SimpleNamespace(time=partial(lambda ahead: time.time() + ahead, seconds))
        )
        finding = await bad(check_nats, environ, "clock")
        assert finding.level is Level.WARNING
        assert f"leads SMS_SEND is 4.0 s {word} this machine" in finding.text


async def test_work_that_nobody_takes_is_told(environ, nats_server):
    await make_streams(environ)
    client = await nats.connect(nats_server.url, token=nats_server.token)
    jetstream = client.jetstream()
    subscription = await jetstream.pull_subscribe("sms.send.express", "worker-express", "SMS_SEND")
    await jetstream.publish("sms.send.express", b"x")
    (waiting,) = (one for one in await found(check_nats, environ, "consumers") if one.level is Level.WARNING)
    assert waiting.text == "worker-express: 1 bundles wait, and nobody takes them"
    await subscription.unsubscribe()
    await client.close()


async def test_valkey_that_is_away_refuses_or_may_not_run_scripts_is_told(environ, valkey_server):
    async with Redis.from_url(valkey_server.url) as client:
        await client.acl_setuser(
            "narrow", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@scripting"]
        )
    here = f"127.0.0.1:{valkey_server.port}/0"
    told = {
        f"redis://127.0.0.1:{free_port()}/0": "nothing listens there",
        f"redis://:wrong@{here}": "refuses the login",
        f"redis://narrow:pw@{here}": "does not allow it",
    }
    for url, said in told.items():
        assert said in (await bad(check_valkey, {**environ, "TOLLWIRE_VALKEY_URL": url}, "valkey")).text
    (none,) = await found(check_valkey, {**environ, "TOLLWIRE_VALKEY_URL": "none"}, "valkey")
    assert none.level is Level.NOTE


async def test_a_collector_that_is_away_or_named_wrongly_is_told(environ):
    url = f"http://127.0.0.1:{free_port()}"
    away = await bad(check_tracing, {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url}, "tracing")
    assert (away.level, "spans are lost" in away.text) == (Level.WARNING, True)
    wrong = await bad(check_tracing, {**environ, "OTEL_TRACES_SAMPLER_ARG": "1 %"}, "tracing")
    assert wrong.level is Level.FAULT


async def test_a_small_limit_of_open_files_is_told(environ):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        assert "only 1024 may be open" in (await bad(check_files, environ, "open files", "api")).text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_full_disk_and_a_folder_that_is_not_there_are_told(environ, monkeypatch, tmp_path):
    gone = await bad(check_disk, {**environ, "TOLLWIRE_SEALS_FOLDER": "/nowhere/seals"}, "disk", "ledger")
    assert "TOLLWIRE_SEALS_FOLDER" in gone.what_to_do
    environ["TOLLWIRE_ARCHIVE_FOLDER"] = str(tmp_path)
    for free, level in ((50 * 2**20, Level.FAULT), (900 * 2**20, Level.WARNING)):
        usage = SimpleNamespace(total=100 * 2**30, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert (await bad(check_disk, environ, "disk", "ledger")).level is level


async def test_a_folder_that_is_a_file_is_told(environ, tmp_path):
    (tmp_path / "seals").touch()
    environ["TOLLWIRE_SEALS_FOLDER"] = str(tmp_path / "seals")
    finding = await bad(check_disk, environ, "disk", "ledger")
    assert finding.text == f"the folder of the seals cannot be used: {tmp_path}/seals is a file"
    assert finding.what_to_do == "Name a folder in TOLLWIRE_SEALS_FOLDER."


async def test_a_frozen_server_keeps_no_other_check_waiting(environ):
    home = Home(Path(environ["TOLLWIRE_HOME"]))
    home.make()
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        nats_away = ProcessState(
            name="nats", pid=os.getpid(), port=frozen.getsockname()[1], health_port=None, restarts=0,
            state="running",
        )  # fmt: skip
        home.write_state(State(phase="running", processes=[nats_away]))
        with FolderLock(home.path):
            looking = asyncio.create_task(check_processes(find_place(environ, ())))
            begun = time.monotonic()
            await asyncio.sleep(0)
            assert time.monotonic() - begun < ANSWER_SECONDS / 2
            assert [one.text for one in await looking] == ["nats: does not answer"]


async def test_a_process_that_does_not_answer_is_told(environ):
    home = Home(Path(environ["TOLLWIRE_HOME"]))
    home.make()
    silent = ProcessState(
        name="worker", pid=os.getpid(), port=None, health_port=free_port(), restarts=0, state="running"
    )
    home.write_state(State(phase="running", processes=[silent]))
    lock = FolderLock(home.path)
    lock.take()
    try:
        finding = await bad(check_processes, environ, "processes")
    finally:
        lock.release()
    assert finding.text == "worker: does not answer"


def test_the_exit_code_says_whether_something_is_wrong(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("TOLLWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / "none"))
    done = CliRunner().invoke(doctor, ["--service", "worker"])
    assert done.exit_code == 1
    assert "✗ settings      TOLLWIRE_POSTGRES_DSN is missing" in done.output
    assert "→ Start an instance with `tollwire up`" in done.output
    assert CliRunner().invoke(doctor, ["--service", "mailer"]).exit_code == 2
