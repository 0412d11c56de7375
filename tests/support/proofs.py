"""The proof before a seal, and what is planted for it to find."""

import asyncpg

from ledger.findings import Finding
from ledger.verify_unsealed import prove_unsealed
from tests.support.flow import Flow
from tests.support.scene import SIGNER
from tests.support.servers import Database


async def yes() -> bool:
    return True


async def proved(flow: Flow, database: Database) -> list[Finding]:
    findings = await prove_unsealed(flow.pool, database.dsn("ledger"), SIGNER, yes)
    assert findings is not None
    return findings


async def sealed(flow: Flow) -> int:
    return int(await flow.pool.fetchval("select count(*) from ledger.seals"))


async def plant(database: Database, sql: str) -> None:
    """Write as nobody may."""
    database.is_corrupted_on_purpose()
    conn = await asyncpg.connect(database.dsn())
    try:
        await conn.execute("set session_replication_role = replica")
        await conn.execute(sql)
    finally:
        await conn.close()
