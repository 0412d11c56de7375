"""The archive: a folder a day, a gzipped CSV a table, and a manifest that proves them (RULES 28).

    messages/2026-11-21/manifest.json     rows, bytes and SHA-256 of each file, names of its columns
    messages/2026-11-21/credit_locks.csv.gz

A day is written into a folder beside its own, read back, and renamed: what has its name is whole. When
the writing is cut off, the tables that are finished are kept for the next try; a day that is archived
does not change any more. But for its callbacks, which a client may replay until it is dropped: the archive
keeps what had become of them when it was written.
"""

import asyncio
import os
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from prometheus_client import Counter

from ledger.archive_file import FileFacts, TableFile, read_back, sha256_of
from ledger.archive_tables import CHUNK_ROWS, PARTS, ArchiveTable, Part
from ledger.pace import GoOn
from shared.runtime.postgres import Pool

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
FOLDER_MODE: Final = 0o700
# A little more than the role's statement_timeout, so that the server's own word comes first.
COPY_SECONDS: Final = 6.0

ARCHIVED_BYTES: Final = Counter("tollwire_archive_bytes_total", "Bytes written to the archive, compressed")
ARCHIVED_ROWS: Final = Counter("tollwire_archive_rows_total", "Rows written to the archive", ["table"])

_log = structlog.get_logger(__name__)


class ArchiveFault(Exception):  # noqa: N818 - named for what happened
    """What was written to the archive does not read back as it was written."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a day's folder holds. ``tables`` goes by the name of the table."""

    v: int = VERSION
    part: str
    day: date
    made_at: datetime
    tables: dict[str, FileFacts]

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(facts.rows for facts in self.tables.values())

    def as_document(self) -> dict[str, Any]:
        """The manifest as the database keeps it."""
        return dict(msgspec.to_builtins(self))


class Archive:
    """The archive in one folder. One process writes a day at a time (``Pace`` sees to that)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder_of(self, part: str, day: date) -> Path:
        """Where a day of a part is."""
        return self._folder / part / day.isoformat()

    async def write(self, pool: Pool, part: str, day: date, go_on: GoOn) -> Manifest | None:
        """Write a day and read it back; None when ``go_on`` said no before it was finished.

        Raises:
            ArchiveFault: the files do not read back as they were written; they are removed.
            OSError: the folder cannot be written, or is full.
        """
        beside = self.folder_of(part, day).with_suffix(".partial")
        beside.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        tables: dict[str, FileFacts] = {}
        for table in PARTS[part].tables:
            facts = await asyncio.to_thread(_finished, beside, table)
            if facts is None:
                facts = await _write_table(pool, beside, PARTS[part], table, day, go_on)
            if facts is None:
                return None
            tables[table.name] = facts
        manifest = Manifest(part=part, day=day, made_at=datetime.now(UTC), tables=tables)
        await asyncio.to_thread(_publish, beside, self.folder_of(part, day), manifest)
        _log.info("day archived", part=part, day=day, rows=manifest.rows)
        return manifest

    async def is_whole(self, manifest: Manifest) -> bool:
        """True when every file of the manifest is there, byte for byte."""
        folder = self.folder_of(manifest.part, manifest.day)
        return await asyncio.to_thread(_is_whole, folder, manifest)


async def _write_table(
    pool: Pool, folder: Path, part: Part, table: ArchiveTable, day: date, go_on: GoOn
) -> FileFacts | None:
    with TableFile(folder / table.file) as file:
        bound, after = part.bound(day), part.start(day)
        # An empty range first: its only line is the header, which an empty table has too.
        await _copy(pool, file, table, (*after, *after, bound), has_header=True)
        while True:
            end = await pool.fetchrow(table.end_sql, *after, bound, CHUNK_ROWS)
            last, rows = (tuple(end)[:-1], end[-1]) if end is not None else ((), 0)
            if rows:
                await _copy(pool, file, table, (*after, *last, bound), has_header=False)
                after = last
            if rows < CHUNK_ROWS:
                break
            if not await go_on():
                return None
        facts = await asyncio.to_thread(file.finish)
    if await asyncio.to_thread(read_back, folder / table.file) != facts.plain_sha256:
        (folder / table.file).unlink()
        raise ArchiveFault(f"{folder / table.file} does not read back as it was written")
    _facts_file(folder, table).write_bytes(msgspec.json.encode(facts))
    ARCHIVED_BYTES.inc(facts.bytes)
    ARCHIVED_ROWS.labels(table.name).inc(facts.rows)
    return facts


async def _copy(
    pool: Pool, file: TableFile, table: ArchiveTable, args: tuple[Any, ...], *, has_header: bool
) -> None:
    async def take(piece: bytes) -> None:
        if file.take(piece):
            await asyncio.to_thread(file.compress)

    async with pool.acquire() as connection:
        status = await connection.copy_from_query(
            table.copy_sql, *args, output=take, format="csv", header=has_header, timeout=COPY_SECONDS
        )
    file.rows += int(status.split()[-1])


def _facts_file(folder: Path, table: ArchiveTable) -> Path:
    return folder / f"{table.file}.json"


def _finished(folder: Path, table: ArchiveTable) -> FileFacts | None:
    """Return the facts of a table that a try before this one finished."""
    try:
        facts = msgspec.json.decode(_facts_file(folder, table).read_bytes(), type=FileFacts)
        return facts if sha256_of(folder / table.file) == facts.sha256 else None
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _publish(beside: Path, folder: Path, manifest: Manifest) -> None:
    """Add the manifest and give the folder its name; an older one of that name makes room."""
    for left in beside.glob("*.csv.gz.json"):
        left.unlink()
    with (beside / MANIFEST).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(beside)
    if folder.exists():
        shutil.rmtree(folder)
    beside.rename(folder)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    try:
        return all(sha256_of(folder / facts.file) == facts.sha256 for facts in manifest.tables.values())
    except FileNotFoundError:
        return False
