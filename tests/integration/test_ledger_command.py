"""`tollwire ledger verify` as a program sees it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.ledger import ledger
from ledger import verify
from tests.support.faulty_http import faulty_server, http, nobody_listens
from tests.support.flow import open_flow
from tests.support.servers import Database


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, ledger, ["verify", *arguments])


async def test_whole_books_exit_with_0(database: Database) -> None:
    async with open_flow(database) as flow:
        await flow.accepted(await flow.client(), 3)
    result = await run("--full", "--dsn", database.dsn("ledger"))
    assert (result.exit_code, result.stdout) == (0, "The books are whole.\n")
    result = await run("--json", "--dsn", database.dsn("ledger"))
    assert json.loads(result.stdout) == {"ok": True, "findings": []}


async def test_wrong_books_exit_with_1_and_name_the_row(database: Database) -> None:
    async with open_flow(database) as flow:
        account = await flow.client()
        await flow.pool.execute("update ledger.accounts set open_holds = 2 where id = $1", account)
    database.is_corrupted_on_purpose()
    result = await run("--dsn", database.dsn("ledger"))
    assert result.exit_code == 1
    assert f"open_holds_differ: account {account}" in result.stdout
    result = await run("--json", "--dsn", database.dsn("ledger"))
    (finding,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["check"], finding["account_id"]) == (1, "open_holds_differ", account)


async def test_books_that_cannot_be_read_exit_with_2(database: Database) -> None:
    result = await run("--dsn", database.dsn("ledger").replace("tollwire_ledger", "nobody"))
    assert result.exit_code == 2
    assert "could not be verified" in result.stderr


async def test_a_database_that_hangs_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "CONNECT_SECONDS", 0.2)
    async with faulty_server(lambda _: http(200)) as server:  # it waits for the end of what is no HTTP
        dsn = server.url.replace("http://", "postgresql://u@") + "/x?sslmode=disable"
        result = await run("--dsn", dsn)
        told = await run("--json", "--dsn", dsn)
    assert (result.exit_code, told.exit_code) == (2, 2)
    assert "The books could not be verified.\n  The database does not answer in time." in result.stderr
    assert json.loads(told.stderr)["exit_code"] == 2


async def test_a_database_that_is_not_there_is_told_in_words() -> None:
    with nobody_listens() as url:
        dsn = url.replace("http://", "postgresql://u@") + "/x"
        result = await run("--dsn", dsn)
    assert (result.exit_code, "Errno" in result.stderr) == (2, False)
    assert "The database refuses connections: nothing listens there." in result.stderr


async def test_without_an_instance_a_program_reads_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path))
    result = await run("--json")
    assert (result.exit_code, json.loads(result.stderr)["exit_code"]) == (3, 3)
