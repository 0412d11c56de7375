"""Locks that somebody holds for long, and who waits for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.support.servers import Database

BLOCKED = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)
ACCOUNT = (
    "select 1 from ledger.accounts where id = (select id from tollwire.clients where name = $1) for update"
)


@asynccontextmanager
async def held(database: Database, lock: str, *arguments: object) -> AsyncIterator[asyncpg.Connection]:
    """Hold a lock, as if what the API does under it took very long."""
    connection = await asyncpg.connect(database.dsn())
    try:
        async with connection.transaction():
            await connection.execute(lock, *arguments)
            yield connection
    finally:
        await connection.close()
