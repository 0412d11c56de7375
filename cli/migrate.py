"""Brings the database's schema up to this version: ``tollwire migrate``.

Migrations go forward only (DESIGN 9); a way back is a restore.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.util import await_only

from cli.renewal import renew

REPOSITORY = Path(__file__).resolve().parent.parent


def run_sql(connection: Connection, *paths: Path) -> None:
    """Run whole .sql files (several statements each) on the driver's own connection, in its transaction."""
    driver = _driver(connection)
    # SQLAlchemy begins a transaction with the first statement of its own: make sure that one is open.
    connection.exec_driver_sql("select 1")
    for path in paths:
        await_only(driver.execute(path.read_text(encoding="utf-8")))


def run_functions(connection: Connection, *names: str) -> None:
    """Install server-side functions, named ``folder/function_vN``, from the files beside their callers."""
    for name in names:
        folder, _, function = name.rpartition("/")
        run_sql(connection, REPOSITORY / folder / "functions" / f"{function}.sql")


def renew_functions(connection: Connection, *, is_way_back: bool) -> int | None:
    """As ``renew`` does it, on the driver's own connection. ``connection`` is committed."""
    renewed: int | None = await_only(renew(_driver(connection), is_way_back=is_way_back))
    return renewed


def _driver(connection: Connection) -> Any:
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection to PostgreSQL is gone")
    return driver


class ForwardOnly(Exception):  # noqa: N818 - named for the rule
    """Somebody asked for a way back."""


def refuse_downgrade() -> None:
    """Refuse to go back: every migration's ``downgrade``.

    Raises:
        ForwardOnly: always, with what to do instead.
    """
    raise ForwardOnly(
        "migrations go forward only, and nothing was changed. Old code runs on the new schema; to go back "
        "behind it, restore a backup (docs/operations.md)."
    )


def functions_renewed(count: int) -> str:
    """What to tell of an upgrade that renewed functions."""
    return "1 function renewed" if count == 1 else f"{count} functions renewed"


LATER_FUNCTIONS = (
    "The server functions are those of a later version, and stay: its processes may work on them. "
    "To go back to this version's, stop those, then `tollwire migrate --functions-of-this-version`."
)


def upgrade(dsn: str, *, is_way_back: bool = False) -> int | None:
    """Run every missing migration, then renew the functions; running it again does nothing.

    Returns how many functions were not those of this program any more; None: those of a later version are
    installed, and stay unless ``is_way_back``. Who comes while another one migrates waits for it.

    Raises:
        sqlalchemy.exc.DBAPIError, asyncpg.PostgresError: the database refused a statement; what came before
            it stands.
    """
    from alembic import command
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.attributes.update(dsn=dsn, is_way_back=is_way_back)
    command.upgrade(config, "head")
    renewed: int | None = config.attributes["renewed"]
    return renewed
