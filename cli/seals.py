"""`tollwire ledger seals`: the seals of closed days, and files of them to keep elsewhere."""

import asyncio
from datetime import date
from pathlib import Path

import click
import msgspec

from cli.database_command import database_command
from cli.failures import Exit, Failure
from cli.output import Output
from ledger import seal_files
from ledger.checkpoints import load_seals
from ledger.seal_files import Exported, SealFile
from shared.runtime.postgres import Pool

ROOT_DIGITS_SHOWN = 16


class SealList(msgspec.Struct, frozen=True, kw_only=True):
    """All seals. Of an export: days that were written, and days whose file holds another seal."""

    seals: list[SealFile]
    written: list[date]
    differing: list[date]


@click.command("seals")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the seals that have no file in this folder yet, one a day.",
)
@database_command
async def seals(pool: Pool, output: Output, out: Path | None) -> int:
    """List the seals of closed days; with --out, write them to files.

    The ledger process writes them to TOLLWIRE_SEALS_FOLDER by itself. A file that is there is never written
    over. `tollwire ledger verify --seals FOLDER` compares the database with such files.

    Exit codes: 0 done, 1 a file holds another seal than the database, 2 used wrongly, 3 the database does
    not answer, 4 the role may not.
    """
    async with pool.acquire() as connection:
        found = await load_seals(connection)
    done = Exported()
    if out is not None:
        try:
            done = await asyncio.to_thread(seal_files.export, out, found)
        except OSError as error:
            raise Failure(f"{out} cannot be written.", detail=str(error)) from error
    files = [seal_files.as_file(signed) for signed in found]
    if output.as_json:
        output.document(SealList(seals=files, written=done.written, differing=done.differing))
    else:
        _show(output, files)
        _tell(output, out, done)
    return Exit.FAILED if done.differing else Exit.DONE


def _show(output: Output, files: list[SealFile]) -> None:
    output.table(
        ["day", ">accounts", ">entries", "root", "key"],
        [
            [
                file.day.isoformat(),
                f"{file.accounts:,}",
                f"{file.entries:,}",
                file.root[:ROOT_DIGITS_SHOWN],
                file.key_id,
            ]
            for file in files
        ],
    )


def _tell(output: Output, out: Path | None, done: Exported) -> None:
    if out is not None:
        output.note(f"{len(done.written)} files written to {out}, {len(done.kept)} were there.")
    for day in done.differing:
        output.line(f"{day}: the file holds another seal than the database. It was left alone.", "red")
