"""The migrations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from cli.migrate import REPOSITORY, ForwardOnly, upgrade
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database
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


GUARD = (
    "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'message_states_move' and tgparentid = 0"
)
OTHER_GUARD = """
    create or replace trigger message_states_move before update on tollwire.message_states for each row
    when (new.state <> old.state and old.state = 'DELIVERED') execute function tollwire.refuse_move()
"""


@asynccontextmanager
async def of_0016(postgres: PostgresServer, name: str) -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    database = Database(postgres, name)
    await ensure_database(postgres, database.name)
    config = Config(REPOSITORY / "alembic.ini")
    config.attributes["dsn"] = database.dsn()
    await asyncio.to_thread(command.upgrade, config, "0016")
    connection = await asyncpg.connect(database.dsn())
    yield database, connection
    await connection.close()


async def test_who_writes_states_waits_for_no_guard_that_is_right(postgres: PostgresServer) -> None:
    async with of_0016(postgres, "right_guard") as (database, connection):
        async with connection.transaction():
            await connection.execute("lock table tollwire.message_states in row exclusive mode")
            await asyncio.to_thread(upgrade, database.dsn())
        assert await connection.fetchval("select max(version_num) from tollwire.schema_version") >= "0017"


async def test_an_earlier_guard_is_made_the_right_one(postgres: PostgresServer) -> None:
    async with of_0016(postgres, "earlier_guard") as (database, connection):
        right = await connection.fetchval(GUARD)
        await connection.execute(OTHER_GUARD)
        await asyncio.to_thread(upgrade, database.dsn())
        assert await connection.fetchval(GUARD) == right


async def test_replays_of_dead_letters_that_went_before_go(postgres: PostgresServer) -> None:
    async with of_0016(postgres, "old_replays") as (database, connection):
        for days in (200, 0):
            await connection.execute(
                """insert into tollwire.replays (replay_of, number, message_id)
                   select id, 1, id from tollwire.uuid7_v1(now() - $1::integer * interval '1 day') id""",
                days,
            )
        kept = await connection.fetchval("select replay_of from tollwire.replays order by 1 desc limit 1")
        await asyncio.to_thread(upgrade, database.dsn())
        assert [row[0] for row in await connection.fetch("select replay_of from tollwire.replays")] == [kept]
