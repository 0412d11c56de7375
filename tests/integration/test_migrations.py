"""The migrations."""

import asyncio

import asyncpg
import pytest

from cli.migrate import upgrade
from tests.support.servers import Database

LEDGER_TABLES = ("accounts", "credit_locks", "entries", "operations", "checkpoints", "seals")
ROLES = ("api", "worker", "dlr", "ledger", "readonly")


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn())
    before = await connection.fetch("select relname, relfilenode from pg_class order by 1, 2")
    await connection.close()

    await asyncio.to_thread(upgrade, database.dsn())
    connection = await asyncpg.connect(database.dsn())
    assert await connection.fetch("select relname, relfilenode from pg_class order by 1, 2") == before
    await connection.close()


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_writes_ledger_tables(database: Database, role: str) -> None:
    connection = await asyncpg.connect(database.dsn(role))
    for table in LEDGER_TABLES:
        for statement in (
            f"insert into ledger.{table} default values",
            f"delete from ledger.{table}",
            f"truncate ledger.{table}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    await connection.close()
