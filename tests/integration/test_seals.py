"""Seals are files too, and the files find what the database alone could not."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result
from prometheus_client import REGISTRY

from cli.ledger import ledger
from ledger import seal_files
from ledger.checkpoints import KeyringSigner, close_day, load_seals, root_of
from ledger.findings import Finding
from ledger.seal_export import SealExport
from ledger.verify import verify_database
from shared.runtime.keyring import Keyring
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, make_day
from tests.support.scene import PAST_TOP_UP, past_account
from tests.support.servers import Database

THREE_DAYS = (3, 2, 1)

# The accounts of a sealed day were new on it.
FORGET_A_DAY = (
    """update ledger.accounts a
       set posted_micros = 0, version = 0, chain_head = decode(repeat('00', 32), 'hex')
       from ledger.checkpoints c where c.day = $1 and c.account_id = a.id""",
    "delete from ledger.entries where day = $1",
    "delete from ledger.operations where (at at time zone 'UTC')::date = $1",
    "delete from ledger.checkpoints where day = $1",
    "delete from ledger.seals where day = $1",
)

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "seals"


def counted(result: str) -> float:
    value = REGISTRY.get_sample_value("tollwire_ledger_seal_exports_total", {"result": result})
    return value or 0.0


async def sealed_days(flow: Flow, keyring: Keyring) -> list[date]:
    """Three days with entries, each sealed."""
    days = [days_ago(ago) for ago in THREE_DAYS]
    for ago, day in zip(THREE_DAYS, days, strict=True):
        await make_day(flow, day)
        await past_account(flow, days_ago=ago)
    async with flow.pool.acquire() as conn:
        for day in days:
            await close_day(conn, day, KeyringSigner(keyring))
    return days


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def exported(flow: Flow, folder: Path) -> list[Path]:
    await SealExport(flow.pool, folder).run_once()
    return files_of(folder)


async def findings(database: Database, keyring: Keyring, folder: Path) -> list[Finding]:
    files, found = seal_files.read(folder)
    signer = KeyringSigner(keyring)
    return found + await verify_database(database.dsn("ledger"), signer=signer, exported=files)


async def forge(database: Database, sql: str, *args: object) -> None:
    """Write to the seals as nobody may."""
    database.is_corrupted_on_purpose()
    conn = await asyncpg.connect(database.dsn())
    await conn.execute("set session_replication_role = replica")
    await conn.execute(sql, *args)
    await conn.close()


async def test_each_sealed_day_becomes_a_file_once(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    async with open_flow(database, "postgres") as flow:
        days = await sealed_days(flow, keyring)
    async with open_flow(database, "ledger") as flow:
        before = counted("written")
        files = await exported(flow, folder)
        assert [file.name for file in files] == [f"{day}.json" for day in days]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        texts = [file.read_bytes() for file in files]
        files[1].unlink()
        assert [file.read_bytes() for file in await exported(flow, folder)] == texts
        assert counted("written") == before + len(days) + 1
    assert await findings(database, keyring, folder) == []


async def test_a_file_is_canonical_and_names_the_seal_before_it(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    async with open_flow(database) as flow:
        await sealed_days(flow, keyring)
        texts = [file.read_text() for file in await exported(flow, folder)]
        async with flow.pool.acquire() as conn:
            seals = await load_seals(conn)
            for signed in seals:
                assert (await root_of(conn, signed.seal.day, signed.root_before))[1] == signed.seal.root
    documents = [json.loads(text) for text in texts]
    for text, document in zip(texts, documents, strict=True):
        assert text == json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    assert [document["v"] for document in documents] == [1, 1, 1]
    assert [document["root_before"] for document in documents] == [
        "00" * 32, documents[0]["root"], documents[1]["root"],
    ]  # fmt: skip
    assert [seal_files.decode(text.encode()) for text in texts] == seals


async def test_a_day_is_sealed_whose_sums_need_more_than_64_bits(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    day, number, large = days_ago(1), 10, 10**18
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    async with open_flow(database) as flow:
        for _ in range(number):
            account = await past_account(flow, top_ups=0)
            await flow.pool.execute(PAST_TOP_UP.replace("5000", str(large)), account, noon, "large")
        async with flow.pool.acquire() as conn:
            seal = await close_day(conn, day, KeyringSigner(keyring))
        assert seal.amounts == {"EUR": {"top_up": {"entries": number, "micros": number * large}}}
        await exported(flow, folder)
    assert await findings(database, keyring, folder) == []


@pytest.fixture
def in_the_way(tmp_path: Path) -> Path:
    """A file where a folder has to be made."""
    file = tmp_path / "file"
    file.touch()
    return file


async def test_a_folder_that_cannot_be_written_is_counted_and_tried_again(
    database: Database, keyring: Keyring, in_the_way: Path
) -> None:
    async with open_flow(database) as flow:
        await sealed_days(flow, keyring)
        before = counted("failed")
        await SealExport(flow.pool, in_the_way / "seals").run_once()
        assert counted("failed") == before + 1
        await asyncio.to_thread(in_the_way.unlink)
        assert len(await exported(flow, in_the_way / "seals")) == len(THREE_DAYS)


async def test_without_a_folder_sealing_goes_on(database: Database, keyring: Keyring) -> None:
    async with open_flow(database) as flow:
        await sealed_days(flow, keyring)
        await SealExport(flow.pool, None).run_once()
        assert await flow.pool.fetchval("select count(*) from ledger.seals") == len(THREE_DAYS)


async def test_a_seal_that_was_replaced_is_found_by_its_file(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    """Who has database and keyring can make a day that proves itself; the file knows the true one."""
    async with open_flow(database) as flow:
        *_, last = await sealed_days(flow, keyring)
        await exported(flow, folder)
    for sql in FORGET_A_DAY:
        await forge(database, sql, last)
    async with open_flow(database) as flow:
        await past_account(flow, days_ago=1, top_ups=2)
        async with flow.pool.acquire() as conn:
            await close_day(conn, last, KeyringSigner(keyring))
        before = counted("differs")
        await exported(flow, folder)
        assert counted("differs") == before + 1
    assert await verify_database(database.dsn(), signer=KeyringSigner(keyring)) == []
    (finding,) = await findings(database, keyring, folder)
    assert finding.check == "seal_changed"
    assert finding.sentence == (
        f"{last}: the database's seal is not the one that was exported: entries, amounts, root"
    )


async def test_a_seal_that_another_key_signed_anew_is_found(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    async with open_flow(database) as flow:
        day, *_ = await sealed_days(flow, keyring)
        await exported(flow, folder)
        async with flow.pool.acquire() as conn:
            seal = (await load_seals(conn))[0].seal
    rotated = keyring.with_new_key()
    signer = KeyringSigner(rotated)
    sql = "update ledger.seals set signature = $1, key_id = $2 where day = $3"
    await forge(database, sql, signer.sign(seal.text()), signer.key_id, day)
    (finding,) = await findings(database, rotated, folder)
    assert finding.check == "seal_signed_anew"
    assert finding.sentence == (
        f"{day}: signed by key {keyring.active} when it was exported, by key {rotated.active} now"
    )


async def test_seals_and_files_that_are_missing_are_named(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    async with open_flow(database) as flow:
        first, second, _ = await sealed_days(flow, keyring)
        files = await exported(flow, folder)
    files[0].unlink()
    assert [(f.check, str(first) in f.sentence) for f in await findings(database, keyring, folder)] == [
        ("seal_file_missing", True)
    ]
    await forge(database, "delete from ledger.seals where day = $1", second)
    named = {f.check: f.sentence for f in await findings(database, keyring, folder)}
    assert named["seal_missing"].startswith(f"{second}:")


async def test_an_older_copy_of_the_folder_misses_no_younger_seal(
    database: Database, keyring: Keyring, folder: Path
) -> None:
    async with open_flow(database) as flow:
        await sealed_days(flow, keyring)
        *_, newest = await exported(flow, folder)
    newest.unlink()
    assert await findings(database, keyring, folder) == []


async def test_files_that_were_changed_are_named(database: Database, keyring: Keyring, folder: Path) -> None:
    async with open_flow(database) as flow:
        await sealed_days(flow, keyring)
        first, second, third = await exported(flow, folder)
    document = json.loads(first.read_text())
    first.write_text(json.dumps(document | {"entries": 99}))
    second.write_text(json.dumps(document | {"v": 2}))
    third.rename(third.with_name(f"{days_ago(9)}.json"))
    found = [finding.check for finding in await findings(database, keyring, folder)]
    assert found == ["seal_file_unreadable", "seal_file_unreadable", "seal_changed", "seal_file_forged"]


@pytest.fixture
def run(database: Database) -> Run:
    """Run a subcommand of `tollwire ledger`."""

    async def run(*arguments: str) -> Result:
        command = [*arguments, "--dsn", database.dsn("ledger")]
        return await asyncio.to_thread(CliRunner().invoke, ledger, command)

    return run


async def test_the_command_lists_exports_and_compares(
    database: Database, keyring: Keyring, folder: Path, tmp_path: Path, run: Run
) -> None:
    keys = ("--keyring", str(tmp_path / "keyring.json"))
    empty = await run("seals", "--out", str(folder))
    assert (empty.exit_code, files_of(folder)) == (0, [])
    assert (await run("verify", "--seals", str(folder), *keys)).exit_code == 0
    async with open_flow(database) as flow:
        days = await sealed_days(flow, keyring)
    assert (await run("verify", "--seals", str(folder), *keys)).exit_code == 1
    listed = await run("seals", "--out", str(folder), "--json")
    document = json.loads(listed.stdout)
    assert document["written"] == [str(day) for day in days]
    assert [seal["key_id"] for seal in document["seals"]] == [keyring.active] * 3
    assert (await run("verify", "--seals", str(folder), *keys)).exit_code == 0
    assert str(days[0]) in (await run("seals")).stdout
    (folder / f"{days[0]}.json").write_text("{}")
    again = await run("seals", "--out", str(folder))
    assert again.exit_code == 1
    assert "left alone" in again.stdout
    assert (folder / f"{days[0]}.json").read_text() == "{}"
    compared = await run("verify", "--seals", str(folder), *keys)
    assert compared.exit_code == 1
    assert "seal_file_unreadable" in compared.stdout
    assert (await run("verify", "--seals", str(folder / "nothing"), *keys)).exit_code == 2
