"""The schema: its revision, the partitions of the days ahead, and the keys that sealed what is in it."""

from datetime import date
from typing import Final

import asyncpg

from cli.doctor_findings import Finding, fault, ok, warning
from cli.migrate_command import READ_REVISION, newest_revision
from cli.renewal import READ_FUNCTIONS, is_later
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection
from shared.storage.function_files import functions_digest
from shared.storage.schema import SCHEMA_MIN, is_new_enough

# The ledger process makes seven; at none a message of tomorrow finds no place.
DAYS_AHEAD_MIN: Final = 3
_IS_AHEAD: Final = "Right in the middle of an upgrade. Else run the Tollwire that belongs to it."
_START_LEDGER: Final = "Start tollwire-ledger, which makes them; its log says what keeps it from it."

LAST_DAY: Final = """
    select max(to_date(right(c.relname, 8), 'YYYYMMDD'))
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = to_regclass('tollwire.messages')
"""
TODAY: Final = "select (clock_timestamp() at time zone 'UTC')::date"
# The id of the key stands in front of every sealed value: shared/runtime/keyring.py.
SEALING_KEYS: Final = """
    select distinct convert_from(substr(x.sealed, 3, get_byte(x.sealed, 1)), 'LATIN1')
    from (select sealed from tollwire.callback_secrets
          union all select secret_sealed from tollwire.carriers where secret_sealed is not null) x(sealed)
"""


async def check_schema(connection: Connection) -> list[Finding]:
    """Compare the database's revision and functions with this program's."""
    program = newest_revision()
    try:
        database = await connection.fetchval(READ_REVISION)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        database = None
    except asyncpg.InsufficientPrivilegeError:
        return []  # a role that may not look; another one will
    if database is None:
        return [fault("schema", "the database is empty", "Run `tollwire migrate`.")]
    if not is_new_enough(database):
        return [fault("schema", f"at {database}; {SCHEMA_MIN} or newer is needed", "Run `tollwire migrate`.")]
    if database < program:
        return [warning("schema", f"at {database}; this version brings {program}", "Run `tollwire migrate`.")]
    if database > program:
        return [warning("schema", f"at {database}, newer than this program's {program}", _IS_AHEAD)]
    installed = [tuple(row) for row in await connection.fetch(READ_FUNCTIONS)]
    newest, version = installed[-1] if installed else (None, [])
    if newest == functions_digest():
        return [ok("schema", f"at {database}, the newest")]
    if functions_digest() not in [digest for digest, _ in installed]:
        text = f"at {database}, with functions that are not this version's"
        return [fault("schema", text, "Run `tollwire migrate`.")]
    if is_later(newest, version):
        text = f"at {database}, with functions that are newer than this program's"
        return [warning("schema", text, _IS_AHEAD)]
    text = f"at {database}, with functions of another checkout"
    return [warning("schema", text, "Run `tollwire migrate`.")]


async def check_partitions(connection: Connection) -> list[Finding]:
    """Look how many days ahead there is a place for messages."""
    last: date | None = await connection.fetchval(LAST_DAY)
    if last is None:
        return []  # no schema: said already
    today: date = await connection.fetchval(TODAY)
    days = (last - today).days
    text = f"made for {max(days, 0)} days ahead"
    if days < 0:
        return [fault("partitions", "none for today: nothing is accepted", _START_LEDGER)]
    if days < DAYS_AHEAD_MIN:
        return [warning("partitions", text, _START_LEDGER)]
    return [ok("partitions", text)]


async def missing_keys(connection: Connection, keyring: Keyring) -> list[str]:
    """Return the ids of keys that secrets in the database need and the keyring does not have."""
    rows = await connection.fetch(SEALING_KEYS)
    return sorted({str(row[0]) for row in rows} - set(keyring.key_ids))
