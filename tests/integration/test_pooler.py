"""What a PgBouncer in transaction mode asks of those who come through it."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import asyncpg
import pytest
from sqlalchemy import text

from cli import doctor_postgres
from cli.doctor_place import find_place
from ledger import verify
from ledger.verify import open_snapshot, verify_database
from ledger.verify_unsealed import prove_unsealed
from shared.runtime.postgres import open_engine, open_pool, open_read_pool, open_second_pool
from tests.support.flow import open_flow
from tests.support.postgres_proxy import open_proxy
from tests.support.proofs import yes
from tests.support.scene import SIGNER, scene
from tests.support.servers import Database

ROOT: Final = Path(__file__).resolve().parents[2]
# What PgBouncer takes from whoever connects; all else it refuses, unless it is told to leave it aside.
TAKEN: Final = {
    "user",
    "database",
    "application_name",
    "client_encoding",
    "datestyle",
    "standard_conforming_strings",
    "timezone",
}
LIMITS: Final = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")

Use = Callable[[str], Awaitable[Any]]


def left_aside(file: str, form: str) -> set[str]:
    """What a PgBouncer is told to leave aside by one of our texts."""
    (words,) = re.findall(form, (ROOT / file).read_text(encoding="utf-8"))
    return set(words.split(","))


async def serve(dsn: str) -> None:
    """Open whatever the services keep open."""
    settings = SimpleNamespace(postgres_dsn=dsn, postgres_pool_min=1, postgres_pool_max=2)
    async with (
        open_pool(settings, application_name="tollwire-api") as pool,
        open_second_pool(settings, application_name="tollwire-api") as second,
        open_read_pool(dsn, 1, application_name="tollwire-api") as replica,
        open_engine(settings, application_name="tollwire-api") as engine,
        engine.connect() as connection,
    ):
        assert [await one.fetchval("select 1") for one in (pool, second, replica)] == [1, 1, 1]
        assert await connection.scalar(text("select 1")) == 1


async def prove(dsn: str) -> None:
    """Prove what is to be sealed."""
    settings = SimpleNamespace(postgres_dsn=dsn, postgres_pool_min=1, postgres_pool_max=2)
    async with open_pool(settings, application_name="tollwire-ledger") as pool:
        assert await prove_unsealed(pool, dsn, SIGNER, yes) == []


async def verify_all(dsn: str) -> None:
    """As `tollwire ledger verify` does."""
    assert await verify_database(dsn, signer=SIGNER) == []


async def examine(dsn: str) -> None:
    """As `tollwire doctor` does."""
    place = find_place({"TOLLWIRE_POSTGRES_DSN": dsn}, ("ledger",))
    assert await doctor_postgres.check_postgres(place)


@pytest.mark.parametrize("use", [serve, prove, verify_all, examine], ids=lambda use: use.__name__)
async def test_nobody_asks_for_a_setting_that_a_pooler_refuses(
    database: Database, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    monkeypatch.setattr(verify, "ENTRIES_FOR_TWO", 0)
    async with open_flow(database) as flow:
        await scene(flow)
    told = left_aside("docs/operations.md", r"`ignore_startup_parameters = ([\w,]+)`")
    assert told <= left_aside(
        "charts/tollwire/templates/postgres.yaml", r"\bignore_startup_parameters: ([\w,]+)"
    )
    async with open_proxy(database.dsn("ledger")) as (proxy, through):
        await use(through)
    assert "application_name" in proxy.settings_asked
    assert proxy.settings_asked - TAKEN - told == set()


async def test_a_snapshot_lives_longer_than_its_role_lets_a_transaction(database: Database) -> None:
    """The role's limit runs from the first statement on; what is set within the transaction ends it."""
    admin = await asyncpg.connect(database.dsn())
    try:
        for limit in LIMITS:
            role = f"alter role tollwire_ledger in database {database.name}"
            await admin.execute(f"{role} set {limit} = '400ms'")
    finally:
        await admin.close()
    async with open_snapshot(database.dsn("ledger")) as first:
        name = await first.fetchval("select pg_export_snapshot()")
        async with open_snapshot(database.dsn("ledger"), name) as second:
            for conn in (first, second):
                await conn.execute("select pg_sleep(0.5)")
                shown = [await conn.fetchval(f"show {limit}") for limit in (*LIMITS, "work_mem", "jit")]
                assert shown == ["0", "0", "0", "256MB", "off"]
