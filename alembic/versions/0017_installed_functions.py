"""Which server functions are installed; and the guard of states as it is now."""

from pathlib import Path

from alembic import op
from sqlalchemy import Connection

from cli.migrate import refuse_downgrade, run_sql

revision = "0017"
down_revision = "0016"

STATES = "tollwire.message_states"
# Made to read the guard's definition as the server writes it, and dropped.
LIKE_STATES = "tollwire.message_states_alike"
GUARD = """
    select pg_get_triggerdef(oid) from pg_trigger
    where tgname = 'message_states_move' and tgrelid = $1::text::regclass
"""


def upgrade() -> None:
    here = Path(__file__)
    # Databases of before may hold an earlier guard, which is no function: nothing else brings it up. To put
    # it in place waits for whoever writes states, and those who come meanwhile wait too.
    guard = here.with_name("0003_guard.sql")
    if _is_another(op.get_bind(), guard.read_text(encoding="utf-8")):
        run_sql(op.get_bind(), guard)
    run_sql(op.get_bind(), here.with_suffix(".sql"))


def _is_another(connection: Connection, guard: str) -> bool:
    connection.exec_driver_sql(f"create table {LIKE_STATES} (like {STATES})")
    connection.exec_driver_sql(guard.replace(f" on {STATES} ", f" on {LIKE_STATES} "))
    right, found = (_guard_of(connection, table) for table in (LIKE_STATES, STATES))
    connection.exec_driver_sql(f"drop table {LIKE_STATES}")
    return found != right


def _guard_of(connection: Connection, table: str) -> str | None:
    found = connection.exec_driver_sql(GUARD, (table,)).scalar()
    return None if found is None else str(found).replace(f" ON {table} ", " ON it ")


downgrade = refuse_downgrade
