"""The archive holds what the tables held, without texts and numbers, and proves it."""

import csv
import gzip
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.archive import Archive, ArchiveFault, Manifest
from ledger.archive_file import FileFacts, read_back, sha256_of
from ledger.archive_tables import OMITTED, PARTS
from ledger.pace import never
from tests.support.flow import Flow, open_flow
from tests.support.old_days import days_ago, delivered_on, make_day, retention, rows_of, told
from tests.support.servers import Database

OLD = days_ago(100)

COLUMNS = "select column_name from information_schema.columns where table_schema = $1 and table_name = $2"
# The texts are dropped with their day and archived nowhere; the others are gone within days.
NEVER_ARCHIVED = {
    "tollwire.message_texts", "tollwire.message_traces",
    "tollwire.carrier_references", "tollwire.idempotency_keys",
}  # fmt: skip


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as opened:
        yield opened


async def always() -> bool:
    return True


async def nobody() -> bool:
    return never()


def read(folder: Path, table: str) -> list[dict[str, str]]:
    text = gzip.decompress((folder / f"{table}.csv.gz").read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text)))


async def written(flow: Flow, folder: Path, part: str = "messages") -> tuple[Manifest, Path]:
    archive = Archive(folder)
    manifest = await archive.write(flow.pool, part, OLD, always)
    assert manifest is not None
    return manifest, archive.folder_of(part, OLD)


async def test_every_column_is_archived_or_says_why_not(flow: Flow, tmp_path: Path) -> None:
    await make_day(flow, OLD)
    archived: dict[str, FileFacts] = {}
    for part in PARTS:
        archived |= (await written(flow, tmp_path, part))[0].tables
    rules = {row[0] for row in await flow.pool.fetch("select parent from tollwire.partition_rules")}
    assert rules - set(archived) == NEVER_ARCHIVED
    for table, facts in archived.items():
        rows = await flow.pool.fetch(COLUMNS, *table.split("."))
        assert {row[0] for row in rows} == set(facts.columns) | set(OMITTED.get(table, {})), table


async def test_the_archive_holds_the_rows_and_neither_text_nor_number(
    flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.archive.CHUNK_ROWS", 2)
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    ids = await delivered_on(flow, OLD, client, carrier, 5, text_sealed=b"a secret text")
    await told(flow, ids)
    await flow.pool.execute("update tollwire.receipts set msisdn = '+4915112345678'")
    await flow.pool.execute("update tollwire.attempts set error_detail = 'no such number +4915112345678'")

    manifest, folder = await written(flow, tmp_path)

    messages, receipts = read(folder, "messages"), read(folder, "receipts")
    assert [row["id"] for row in messages] == [str(message_id) for message_id in ids]
    assert {row["msisdn"] for row in [*messages, *receipts]} == {"+***********78"}
    assert (
        len(read(folder, "callbacks"))
        == len(read(folder, "attempts"))
        == manifest.tables["tollwire.callbacks"].rows
    )
    locks = read(folder, "credit_locks")
    assert {(row["state"], row["amount_micros"]) for row in locks} == {("CAPTURED", "7900")}
    everything = b"".join(gzip.decompress(file.read_bytes()) for file in folder.glob("*.csv.gz"))
    assert b"4915112345678" not in everything
    assert b"secret text" not in everything
    for facts in manifest.tables.values():
        assert sha256_of(folder / facts.file) == facts.sha256
        assert read_back(folder / facts.file) == facts.plain_sha256


async def test_the_journal_is_archived_entry_by_entry(flow: Flow, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ledger.archive.CHUNK_ROWS", 2)
    today = days_ago(0)
    for _ in range(2):
        await delivered_on(flow, OLD, await flow.client(), await flow.carrier(), 2)
    archive = Archive(tmp_path)
    manifest = await archive.write(flow.pool, "entries", today, always)
    assert manifest is not None
    stored = await flow.pool.fetch("select account_id, version, hash from ledger.entries order by 1, 2")
    rows = read(archive.folder_of("entries", today), "entries")
    assert [(int(row["account_id"]), int(row["version"]), row["hash"]) for row in rows] == [
        (account, version, "\\x" + hashed.hex()) for account, version, hashed in stored
    ]


async def test_a_writing_that_was_cut_off_goes_on_with_the_next_table(
    flow: Flow, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("ledger.archive.CHUNK_ROWS", 1)
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier(), 2)
    archive = Archive(tmp_path)
    answers = iter([True, True, True])

    async def for_a_while() -> bool:
        return next(answers, False)

    assert await archive.write(flow.pool, "messages", OLD, for_a_while) is None
    beside = tmp_path / "messages" / f"{OLD.isoformat()}.partial"
    assert [file.name for file in beside.glob("*.csv.gz")] == ["messages.csv.gz"]
    first = (beside / "messages.csv.gz").stat().st_mtime_ns
    _, folder = await written(flow, tmp_path)
    assert (folder / "messages.csv.gz").stat().st_mtime_ns == first
    assert not beside.exists()


async def test_what_does_not_read_back_is_no_archive(flow: Flow, tmp_path: Path, monkeypatch) -> None:
    await make_day(flow, OLD)
    monkeypatch.setattr("ledger.archive.read_back", lambda path: "damaged")
    with pytest.raises(ArchiveFault):
        await written(flow, tmp_path)
    assert not (tmp_path / "messages" / f"{OLD.isoformat()}.partial" / "messages.csv.gz").exists()
    assert not (tmp_path / "messages" / OLD.isoformat()).exists()


async def test_an_archive_that_is_gone_is_written_anew_before_the_day_is_dropped(
    database, flow, tmp_path
) -> None:
    await delivered_on(flow, OLD, await flow.client(), await flow.carrier())
    async with open_flow(database, "ledger") as ledger:
        await retention(ledger.pool, tmp_path, drop_after_days=200).run_once()
        folder = Archive(tmp_path).folder_of("messages", OLD)
        (folder / "messages.csv.gz").write_bytes(b"damaged")
        await retention(ledger.pool, tmp_path).run_once()
    assert len(read(folder, "messages")) == 1
    assert set(await rows_of(flow, OLD)) == {"ledger.entries"}


def test_a_broken_gzip_reads_back_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(gzip.compress(b"rows")[:-4])
    assert read_back(tmp_path / "broken") == ""
