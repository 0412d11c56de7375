"""The database and the login roles of an embedded PostgreSQL, before and after the migrations."""

import asyncpg

from embedded.postgres import PostgresServer

# The login roles of the migrations (RULES 6); the owner cannot log in.
LOGIN_ROLES = (
    "tollwire_migrate",
    "tollwire_api",
    "tollwire_worker",
    "tollwire_dlr",
    "tollwire_ledger",
    "tollwire_readonly",
)


async def ensure_database(server: PostgresServer, database: str, template: str | None = None) -> None:
    """Create the database unless it is there, as a copy of ``template`` when one is named."""
    connection = await asyncpg.connect(server.dsn())
    try:
        known = await connection.fetchval("select true from pg_database where datname = $1", database)
        if not known:
            quote = "select quote_ident($1)"
            name = await connection.fetchval(quote, database)
            origin = await connection.fetchval(quote, template or "template1")
            # Faster than through the log by a factor of five for a template of a thousand small files.
            strategy = "file_copy" if template else "wal_log"
            await connection.execute(f"create database {name} template {origin} strategy {strategy}")
    finally:
        await connection.close()


async def drop_database(server: PostgresServer, database: str) -> None:
    """Drop the database, ending every session in it; one that is gone is fine."""
    connection = await asyncpg.connect(server.dsn())
    try:
        name = await connection.fetchval("select quote_ident($1)", database)
        await connection.execute(f"drop database if exists {name} with (force)")
    finally:
        await connection.close()


async def set_passwords(server: PostgresServer) -> None:
    """Give each login role that the migrations made its password (``server.secret(role)``)."""
    connection = await asyncpg.connect(server.dsn())
    try:
        for role in LOGIN_ROLES:
            statement = await connection.fetchval(
                "select format('alter role %I password %L', $1::text, $2::text)", role, server.secret(role)
            )
            await connection.execute(statement)
    finally:
        await connection.close()
