"""`tollwire ledger`: recomputes the books and says what is wrong with them; lists the seals."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import asyncpg
import click

from cli.database import address_of, database_dsn, what_starts
from cli.doctor_findings import postgres_trouble
from cli.failures import Exit, Failure
from cli.output import Output
from cli.ownership import NotOurs
from cli.seals import seals
from cli.walk_screen import WalkScreen
from cli.words import not_empty
from ledger import seal_files
from ledger.checkpoints import KeyringSigner
from ledger.verify import CONNECTIONS, Finding, verify_database
from shared.runtime.keyring import Keyring, KeyringError

FOUND = 1
NOT_CHECKED = 2
CONNECTIONS_MAX = 64  # the services need some of the hundred that PostgreSQL has by default


@click.group()
def ledger() -> None:
    """Prove the books, and list the seals of closed days."""


ledger.add_command(seals)


@ledger.command()
@click.option("--full", is_flag=True, help="Every entry there is, sealed days too: for a replica or a copy.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document.")
@click.option(
    "--dsn",
    callback=not_empty,
    help="The database, as the ledger role. Else TOLLWIRE_LEDGER_POSTGRES_DSN, TOLLWIRE_POSTGRES_DSN, or the "
    "instance's.",
)
@click.option(
    "--keyring",
    "keyring_file",
    envvar="TOLLWIRE_KEYRING_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The keys that sign the seals. Without them signatures are not checked.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, CONNECTIONS_MAX),
    default=CONNECTIONS,
    show_default=True,
    help="Each keeps a CPU of the database busy, with up to 256 MB of its memory.",
)
@click.option(
    "--seals",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Compare the seals with these files, which the ledger process wrote when it sealed.",
)
def verify(
    full: bool,
    as_json: bool,
    dsn: str | None,
    keyring_file: Path | None,
    connections: int,
    folder: Path | None,
) -> None:
    """Prove the books: entries, holds, messages and seals.

    Exit codes: 0 they are whole, 1 something is wrong, 2 they could not be verified, 3 no
    instance runs and no database is named.
    """
    try:
        signer = None if keyring_file is None else KeyringSigner(Keyring.load(keyring_file))
        exported, findings = (None, []) if folder is None else seal_files.read(folder)
        with WalkScreen(Output(as_json=as_json)) as shown:
            findings += asyncio.run(
                verify_database(
                    address_of(dsn or database_dsn("ledger")),
                    full=full,
                    signer=signer,
                    exported=exported,
                    connections=connections,
                    progress=shown.count,
                )
            )
    except Failure as failure:
        failure.show(as_json=as_json)
        sys.exit(failure.exit_code)
    except (NotOurs, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KeyringError) as error:
        _not_verified(error, dsn).show(as_json=as_json)
        sys.exit(NOT_CHECKED)
    click.echo(_document(findings) if as_json else _text(findings))
    if findings:
        sys.exit(FOUND)


def _not_verified(error: Exception, dsn: str | None) -> Failure:
    detail, hint = str(error), ""
    is_of_file = isinstance(error, OSError) and error.filename is not None
    if not is_of_file and not isinstance(error, NotOurs | KeyringError):
        text, hint = postgres_trouble(error)
        detail = f"The database {text}."
        hint = (what_starts(dsn, "ledger") if isinstance(error, OSError) else "") or hint
    return Failure("The books could not be verified.", detail=detail, hint=hint, exit_code=Exit(NOT_CHECKED))


def _document(findings: list[Finding]) -> str:
    lines = [asdict(finding) for finding in findings]
    return json.dumps({"ok": not findings, "findings": lines}, default=str, indent=2)


def _text(findings: list[Finding]) -> str:
    if not findings:
        return "The books are whole."
    return os.linesep.join([*map(str, findings), f"{len(findings)} findings"])
