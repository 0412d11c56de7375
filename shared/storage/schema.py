"""Which schema of the database this code runs on."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import asyncpg
import structlog

from shared.runtime.postgres import Pool
from shared.storage.function_files import functions_digest

# The oldest schema that this code runs on; migrations are safe under the code before them.
SCHEMA_MIN: Final = "0017"
# Between two looks while a migration is under way.
LOOK_SECONDS: Final = 1.0

READ_SCHEMA: Final = "select max(version_num) from tollwire.schema_version"
# Those of a version after ours were installed on top of ours, and run under it (docs/adr/0022).
HAS_FUNCTIONS: Final = "select exists (select from tollwire.installed_functions where digest = $1)"

# Nothing is there yet; or a revision from before 0008, which did not let every role ask.
_UNREADABLE: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InsufficientPrivilegeError,
)

_log = structlog.get_logger(__name__)


class SchemaTooOld(Exception):  # noqa: N818 - named for what happened
    """The database's schema, or its functions, are older than this code needs; the text says which it is."""


def is_new_enough(found: str | None) -> bool:
    """True when this code runs on the revision; None: there is no schema at all."""
    return found is not None and found >= SCHEMA_MIN


async def check_schema(pool: Pool) -> None:
    """Return when the schema is new enough, and this version's functions have been installed.

    Raises:
        SchemaTooOld: they are not.
    """
    try:
        found = await pool.fetchval(READ_SCHEMA)
    except _UNREADABLE:
        found = None
    if not is_new_enough(found):
        raise SchemaTooOld(f"the schema is {found or 'missing or older'}, {SCHEMA_MIN} or newer is needed")
    if not await pool.fetchval(HAS_FUNCTIONS, functions_digest()):
        raise SchemaTooOld(
            "the functions in the database are not this version's: `tollwire migrate` renews them"
        )


def readiness_checks(pool: Pool) -> dict[str, Callable[[], Awaitable[object]]]:
    """What the readiness probe asks of a process that works by PostgreSQL alone."""
    return {"postgres": partial(pool.fetchval, "select 1")}


def startup_checks(pool: Pool) -> dict[str, Callable[[], Awaitable[object]]]:
    """What the startup probe of every process asks."""
    return {"schema": partial(check_schema, pool)}


async def wait_for_schema(pool: Pool) -> None:
    """Return as soon as the schema is new enough: a migration may still be under way, as a job of its own."""
    told = ""
    while True:
        try:
            await check_schema(pool)
        except SchemaTooOld as error:
            if str(error) != told:
                told = str(error)
                _log.warning("waiting for the schema", schema=told)
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return
