"""A process that comes before the migration waits for it, and says so to its startup probe."""

import asyncio

import asyncpg
import pytest
from structlog.testing import CapturingLogger

from shared.runtime.postgres import open_pool
from shared.storage import schema
from shared.storage.schema import SchemaTooOld, check_schema, wait_for_schema
from tests.support.servers import Database


class Settings:
    postgres_pool_min = 1
    postgres_pool_max = 1

    def __init__(self, dsn: str) -> None:
        self.postgres_dsn = dsn


@pytest.mark.parametrize("role", ["api", "worker", "dlr", "ledger"])
async def test_every_role_may_ask_for_the_schema(database: Database, role: str) -> None:
    async with open_pool(Settings(database.dsn(role)), application_name="test") as pool:
        await check_schema(pool)


async def test_a_process_waits_until_the_schema_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = CapturingLogger()
    monkeypatch.setattr(schema, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(schema, "_log", told)  # another test may have had the module's own one cached
    owner = await asyncpg.connect(database.dsn())
    await owner.execute("alter table tollwire.schema_version rename to schema_version_hidden")
    async with open_pool(Settings(database.dsn("worker")), application_name="test") as pool:
        with pytest.raises(SchemaTooOld, match="missing"):
            await check_schema(pool)
        waiting = asyncio.create_task(wait_for_schema(pool))
        async with asyncio.timeout(10):
            while not told.calls:
                await owner.fetchval("select 1")
        assert not waiting.done()
        await owner.execute("alter table tollwire.schema_version_hidden rename to schema_version")
        async with asyncio.timeout(10):
            await waiting
    assert [call.args for call in told.calls] == [("waiting for the schema",)]
    await owner.close()
