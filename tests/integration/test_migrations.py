"""The migrations."""

import asyncio

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from cli.migrate import REPOSITORY, ForwardOnly, upgrade
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


async def test_a_way_back_is_refused_with_what_to_do_instead(database: Database) -> None:
    config = Config(REPOSITORY / "alembic.ini")
    config.attributes["dsn"] = database.dsn()
    with pytest.raises(ForwardOnly, match="restore a backup"):
        await asyncio.to_thread(command.downgrade, config, "-1")
    connection = await asyncpg.connect(database.dsn())
    head = ScriptDirectory.from_config(config).get_current_head()
    assert await connection.fetchval("select version_num from tollwire.schema_version") == head
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
