"""Alembic's entry: runs the migrations over asyncpg as the owner role.

The DSN comes from the caller (``config.attributes["dsn"]``) or from TOLLWIRE_MIGRATE_DSN.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from alembic import context
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from cli.database import named_dsn
from cli.migrate import renew_functions, run_sql
from shared.runtime import postgres_hosts

# For all hosts of the DSN together.
CONNECT_SECONDS = 60.0
BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
# Held to the end of the session. Another one may build an index meanwhile.
ALONE = "select pg_advisory_lock(hashtextextended('tollwire migrations', 0))"
ALONE_WITHIN = "10min"


def run(connection: Connection) -> None:
    """Prepare roles and schemas when they are missing, run each missing migration, renew the functions."""
    connection.execute(text(f"set lock_timeout = '{ALONE_WITHIN}'"))
    connection.execute(text(ALONE))
    connection.commit()
    prepared = connection.execute(text("select to_regnamespace('tollwire') is not null")).scalar()
    if not prepared:
        run_sql(connection, BOOTSTRAP)
        connection.commit()
    connection.execute(text("set role tollwire_owner"))
    connection.execute(text("set lock_timeout = '5s'"))
    connection.execute(text("set timezone = 'UTC'"))
    connection.commit()
    context.configure(
        connection=connection,
        version_table="schema_version",
        version_table_schema="tollwire",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    if context.get_context().get_current_revision() == context.get_head_revision():
        connection.commit()
        attributes = context.config.attributes
        is_way_back = bool(attributes.get("is_way_back"))
        attributes["renewed"] = renew_functions(connection, is_way_back=is_way_back)


async def main() -> None:
    dsn = context.config.attributes.get("dsn") or named_dsn(os.environ, "TOLLWIRE_MIGRATE_DSN")

    async def connect() -> Any:
        # SQLAlchemy does not read the DSN: it knows no sslmode, and no list of hosts.
        return await postgres_hosts.connect(
            dsn, timeout=CONNECT_SECONDS, target_session_attrs=SessionAttribute.read_write
        )

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
