"""`tollwire migrate`: brings the database's schema up to this version."""

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Any

import asyncpg
import click
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from cli.database import DATABASE, NoDatabase, named_dsn
from cli.failures import Exit, Failure
from cli.home import Home
from cli.migrate import LATER_FUNCTIONS, REPOSITORY, functions_renewed, upgrade
from cli.output import Output
from cli.ownership import told_whose
from cli.patience import patiently
from cli.renewal import READ_FUNCTIONS, is_later
from cli.words import not_empty
from embedded.postgres import PostgresServer
from shared.runtime.postgres_faults import login_fault
from shared.runtime.postgres_hosts import connect
from shared.storage.function_files import functions_digest

DSN_VARIABLE = "TOLLWIRE_MIGRATE_DSN"
CONNECT_SECONDS = 10.0
HEAD = "head"
READ_REVISION = "select version_num from tollwire.schema_version"


@dataclass(frozen=True, slots=True)
class Schema:
    """Revisions of the schema: of the database (None: nothing is there yet) and of this program.

    ``has_functions``: those of this program are there, or a later one's; ``has_later``: those of a later one.
    """

    database: str | None
    program: str
    has_functions: bool
    has_later: bool

    @property
    def is_current(self) -> bool:
        """True when everything is as this program has it, or newer."""
        return self.database == self.program and self.has_functions


@click.command(
    epilog="""\b
Examples:
  tollwire migrate
  tollwire migrate --dsn postgresql://tollwire_migrate@db.example.com/tollwire
  tollwire migrate --check   # exit code 1 when the schema is behind
"""
)
@click.option(
    "--dsn",
    metavar="DSN",
    default="",
    callback=not_empty,
    help=f"The database ({DSN_VARIABLE}), in a role that may change it.",
)
@click.option("--check", is_flag=True, help="Change nothing: exit with 1 when it is behind.")
@click.option(
    "--to", "revision", metavar="REVISION", default=HEAD, show_default=True, help="The newest; no other."
)
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(0), default=0.0, help="Seconds to wait for the database."
)
@click.option(
    "--functions-of-this-version",
    "is_way_back",
    is_flag=True,
    help="The way back: also where a later version installed its functions. Stop its processes before.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def migrate(
    dsn: str, check: bool, revision: str, wait_seconds: float, is_way_back: bool, as_json: bool
) -> None:
    """Bring the database's schema and functions to this version. Again does nothing; back is refused.

    `tollwire up` does this by itself. Exit codes: 0 the schema is current, 1 it is not, 3 no database
    answers, 4 it refuses the login.
    """
    output = Output(as_json=as_json)
    try:
        database = dsn or _own_dsn()
        patiently(lambda: _read(database), wait_seconds)
        sys.exit(_migrate(output, database, revision, is_only_check=check, is_way_back=is_way_back))
    except Failure as failure:
        failure.show(as_json=as_json)
        sys.exit(failure.exit_code)


def _own_dsn() -> str:
    """The DSN of TOLLWIRE_MIGRATE_DSN, or of the embedded PostgreSQL that runs in the home."""
    if named := named_dsn(os.environ, DSN_VARIABLE):
        return named
    home = Home.of(os.environ)
    port = home.read_ports().get("postgresql")
    if port is None or not home.is_running:
        raise NoDatabase(home)
    with told_whose(home.path):
        return PostgresServer(home.postgres, port=port).dsn(database=DATABASE)


def _migrate(output: Output, dsn: str, revision: str, *, is_only_check: bool, is_way_back: bool) -> int:
    before = _read(dsn)
    if revision not in {HEAD, before.program}:
        raise Failure(
            "Migrations go forward only, to the newest revision.",
            detail=f"The database is at {before.database or 'nothing'}, this program at {before.program}.",
            hint="The way back is a restore of a backup from before.",
        )
    if before.database is not None and before.database > before.program:
        raise Failure(
            "The database is newer than this program.",
            detail=f"The database is at {before.database}, this program at {before.program}.",
            hint="Run the Tollwire that belongs to it; migrations never go back.",
        )
    renewed = None if is_only_check else _upgrade(dsn, is_way_back=is_way_back)
    after = before if is_only_check else _read(dsn)
    _tell(output, before, after, renewed or 0)
    return Exit.DONE if after.is_current else Exit.FAILED


def _upgrade(dsn: str, *, is_way_back: bool) -> int | None:
    try:
        return upgrade(dsn, is_way_back=is_way_back)
    except (DBAPIError, asyncpg.PostgresError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise Failure(
            "The migration failed.", detail=str(reason), hint="What came before it stands."
        ) from None


def _tell(output: Output, before: Schema, after: Schema, renewed: int) -> None:
    if output.as_json:
        shown = {"before": before.database, "now": after.database, "newest": after.program}
        functions = {"functions_renewed": renewed, "functions_current": after.has_functions}
        output.document({**shown, **functions, "functions_later": after.has_later})
        return
    if after.database != after.program:
        output.line(
            f"The schema is at {after.database or 'nothing'}; this version needs {after.program}.", "yellow"
        )
    elif not after.has_functions:
        output.line(f"The schema is at {after.program}, but its functions are not this version's.", "yellow")
    elif before.database != after.database:
        output.line(f"The schema went from {before.database or 'nothing'} to {after.program}.", "green")
    else:
        nothing = "" if renewed else " There was nothing to do."
        output.line(f"The schema is at {after.program}, the newest.{nothing}")
    if renewed:
        output.line(f"{functions_renewed(renewed)}.", "green")
    if after.has_later:
        output.line(LATER_FUNCTIONS, "yellow")


def newest_revision() -> str:
    """The revision that this program brings a schema to."""
    head = ScriptDirectory.from_config(Config(REPOSITORY / "alembic.ini")).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations")
    return head


def _read(dsn: str) -> Schema:
    database, functions = asyncio.run(_read_database(dsn))
    newest, version = functions[-1] if functions else (None, [])
    has_later = is_later(newest, version)
    return Schema(database, newest_revision(), has_later or newest == functions_digest(), has_later)


async def _read_database(dsn: str) -> tuple[str | None, list[tuple[str, list[int]]]]:
    """The revision (None: none), and the sets of functions that were installed, the newest last."""
    try:
        connection = await connect(dsn, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as error:
        is_refused = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
        raise Failure(
            "The database refuses the login." if is_refused else "The database does not answer.",
            detail=str(error),
            hint=login_fault(error) or "",
            exit_code=Exit.UNAUTHORIZED if is_refused else Exit.UNREACHABLE,
        ) from None
    found: list[list[Any]] = []
    try:
        for question in (READ_REVISION, READ_FUNCTIONS):
            try:
                found.append([tuple(row) for row in await connection.fetch(question)])
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                found.append([])
    finally:
        await connection.close()
    return (found[0][0][0] if found[0] else None), found[1]
