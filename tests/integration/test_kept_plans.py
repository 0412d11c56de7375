"""What reads days is not planned anew all the time: over 90 days a plan takes 2 to 8 ms of a CPU.

``pg_stat_statements`` counts how often each statement was planned.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from dlr import store as dlr_store
from ledger.dead_letters import DeadLetters
from shared.runtime.jetstream import JetStream
from shared.runtime.postgres import Pool
from tests.integration.test_hot_plans import OneConnection, one_connection
from tests.support.flow import Flow
from tests.support.servers import Database

SETTINGS: Final = {"pg_stat_statements.track": "all", "pg_stat_statements.track_planning": "on"}
# What autovacuum comes to all the time under load.
SMALL_AND_BUSY: Final = ("tollwire.outbox", "tollwire.untold_dead_letters", "ledger.accounts")
# As an analyze does that finds other numbers; one that finds the same has nothing planned anew.
MEASURED_AGAIN: Final = """
    update pg_class set reltuples = reltuples + 1 where oid = any ($1::text[]::regclass[])
"""
# Of what was planned, what reads a table that is cut by days; an insert alone looks at none of them.
PLANNED: Final = """
    select distinct s.query from pg_stat_statements s, pg_partitioned_table p
    where s.dbid = (select oid from pg_database where datname = current_database()) and s.plans > 0
      and s.query ~ ('(from|join|update) ' || p.partrelid::regclass || '\\M')
"""
RESET: Final = """
    select pg_stat_statements_reset(dbid => oid) from pg_database where datname = current_database()
"""


@asynccontextmanager
async def counted(database: Database) -> AsyncIterator[Flow]:
    """A flow over one connection whose plannings are counted."""
    async with one_connection(database, SETTINGS) as conn:
        await conn.execute("create extension if not exists pg_stat_statements")
        yield Flow(cast("Pool", OneConnection(conn)))


async def carry(flow: Flow, client: int, carrier: int) -> None:
    """Some messages on their whole way, and the looks for what is due."""
    for reference in await flow.submitted(await flow.accepted(client, 3), carrier):
        await flow.receipt(carrier, reference, "delivered")
    await look(flow)


async def look(flow: Flow) -> None:
    """What dlr and ledger ask every second, nothing being due."""
    assert await dlr_store.lease_callbacks(flow.pool, 100, 10, 60) == []
    assert await dlr_store.lease_receipts(flow.pool, 100) == []
    assert await DeadLetters(flow.pool, cast("JetStream", None))._tell_some() == 0


async def planned(flow: Flow) -> list[str]:
    """What was planned over days since the last look."""
    rows = await flow.pool.fetch(PLANNED)
    await flow.pool.execute(RESET)
    return [row[0] for row in rows]


async def test_what_is_small_and_measured_again_has_nothing_planned_anew_over_all_days(
    database: Database,
) -> None:
    async with counted(database) as flow:
        client, carrier = await flow.client(), await flow.carrier()
        await flow.endpoint(client)
        await carry(flow, client, carrier)
        assert len(await planned(flow)) > 10  # so the eyes are open
        await flow.pool.execute(MEASURED_AGAIN, SMALL_AND_BUSY)
        await carry(flow, client, carrier)
        assert await planned(flow) == []


async def test_the_looks_of_every_second_are_planned_once(database: Database) -> None:
    async with counted(database) as flow:
        await look(flow)
        assert len(await planned(flow)) > 1
        for _ in range(10):
            await look(flow)
        assert await planned(flow) == []


async def test_autovacuum_leaves_alone_what_plans_over_days_have_in_them(database: Database) -> None:
    """Where dozens of endpoints fail their health is written all the time, and plans read it in a join."""
    async with counted(database) as flow:
        options = "select reloptions from pg_class where oid = 'tollwire.callback_health'::regclass"
        told = dict(option.split("=") for option in await flow.pool.fetchval(options))
    assert int(told["autovacuum_vacuum_threshold"]) >= 10_000
    assert int(told["autovacuum_analyze_threshold"]) >= 10_000
