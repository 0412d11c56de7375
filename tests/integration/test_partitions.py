"""make_partitions_v1: the days to come are made beside the traffic, not instead of it."""

import asyncio
from datetime import date, timedelta

from ledger import clockwork_store
from ledger.days import DAYS_AHEAD, make_days
from shared.runtime import metrics
from tests.support.flow import Flow, open_flow
from tests.support.old_days import drop_days
from tests.support.servers import Database

# Made by the migration up to the seventh day from now.
FIRST_UNMADE_DAY = DAYS_AHEAD + 1
# Of every day's tables.
GROWING = (
    "autovacuum_analyze_threshold=10000",
    "autovacuum_analyze_scale_factor=2",
    "autovacuum_vacuum_threshold=50000",
    "autovacuum_vacuum_scale_factor=0.5",
    "autovacuum_vacuum_insert_threshold=100000",
    "autovacuum_vacuum_insert_scale_factor=0.5",
)
# A table's columns, indexes, keys and checks, and triggers of rows, without the names that are its own.
SHAPES = """
    select concat_ws(' ', 'column', a.attname, a.atttypid::regtype, a.attnotnull, a.attstorage,
                     a.attgenerated, a.attidentity, pg_get_expr(d.adbin, d.adrelid))
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = $1::regclass and a.attnum > 0
    union all
    select 'index ' || concat_ws(' ', regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX .* USING', ''),
                                 i.indisvalid, h.inhparent::regclass)
    from pg_index i left join pg_inherits h on h.inhrelid = i.indexrelid where i.indrelid = $1::regclass
    union all
    select concat_ws(' ', 'constraint', c.contype, pg_get_constraintdef(c.oid), c.coninhcount, c.conislocal)
    from pg_constraint c where c.conrelid = $1::regclass
    union all
    select concat_ws(' ', 'trigger', t.tgname, t.tgenabled, t.tgtype, t.tgfoid::regproc)
    from pg_trigger t where t.tgrelid = $1::regclass and t.tgtype & 1 = 1
    union all
    select concat_ws(' ', 'table', k.relkind, k.relowner::regrole, k.reloptions, k.relreplident)
    from pg_class k where k.oid = $1::regclass
    order by 1
"""


async def day(flow: Flow, ahead: int) -> date:
    """A day of the database's clock."""
    today: date = await flow.pool.fetchval("select (clock_timestamp() at time zone 'UTC')::date")
    return today + timedelta(days=ahead)


async def test_days_are_made_while_somebody_reads_and_writes(database: Database) -> None:
    async with open_flow(database) as flow, flow.pool.acquire() as reader, flow.pool.acquire() as writer:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        unmade = await day(flow, FIRST_UNMADE_DAY)
        async with reader.transaction(), writer.transaction():
            # Every table that is cut into days is read, and held by one who writes, until the end.
            for row in await reader.fetch("select parent from tollwire.partition_rules"):
                await reader.fetch(f"select 1 from {row[0]} limit 1")
                await writer.execute(f"lock table {row[0]} in row exclusive mode")
            made = await asyncio.wait_for(clockwork_store.make_partitions(flow.pool, unmade, unmade), 10)
        assert made > 0
        assert len(await flow.submitted([message], carrier)) == 1


async def test_a_day_is_vacuumed_and_analyzed_as_it_grows(database: Database) -> None:
    """Each of them makes every connection plan its statements anew, over all days that are kept."""
    lacking = """
        select k.relname from pg_inherits i join pg_class k on k.oid = i.inhrelid and k.relkind = 'r'
        where k.relname ~ $1 and not coalesce(k.reloptions, '{}') @> $2
    """
    fill = "select 'fillfactor=70' = any (reloptions) from pg_class where oid = $1::regclass"
    async with open_flow(database) as flow:
        unmade = await day(flow, FIRST_UNMADE_DAY)
        assert await clockwork_store.make_partitions(flow.pool, unmade, unmade) > 0
        assert await flow.pool.fetch(lacking, f"_{unmade:%Y%m%d}[ab]?$", list(GROWING)) == []
        assert await flow.pool.fetchval(fill, f"ledger.credit_locks_{unmade:%Y%m%d}"), "and its own settings"


async def test_messages_go_their_way_while_days_are_made(database: Database) -> None:
    """Whoever makes days holds no lock that a message meets, until the end of his transaction."""
    async with open_flow(database) as flow, flow.pool.acquire() as maker:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        unmade = await day(flow, FIRST_UNMADE_DAY)
        async with maker.transaction():
            assert await maker.fetchval("select tollwire.make_partitions_v1($1, $1)", unmade) > 0
            async with asyncio.timeout(10):
                (message,) = await flow.accepted(client)
                (reference,) = await flow.submitted([message], carrier)
                assert (await flow.receipt(carrier, reference, "delivered")).state == "DELIVERED"


async def test_after_a_long_stop_the_days_are_made_and_today_is_the_first(database: Database) -> None:
    made = "select relname from pg_class where relname ~ '^receipts_[0-9]{8}$' order by oid"
    async with open_flow(database) as flow:
        await make_days(flow.pool)  # since midnight every table may lack its last one
        await drop_days(flow, "tollwire.receipts")
        assert await make_days(flow.pool) == DAYS_AHEAD + 2
        days = [await day(flow, ahead) for ahead in (*range(DAYS_AHEAD + 1), -1)]
        assert [row[0] for row in await flow.pool.fetch(made)] == [f"receipts_{each:%Y%m%d}" for each in days]
        assert await make_days(flow.pool) == 0


async def test_two_who_make_the_same_days_make_them_once(database: Database) -> None:
    async with open_flow(database) as flow:
        unmade = await day(flow, FIRST_UNMADE_DAY)
        made = await asyncio.gather(
            *(clockwork_store.make_partitions(flow.pool, unmade, unmade) for _ in range(4))
        )
        assert sorted(made)[:3] == [0, 0, 0]
        assert max(made) > 0


def deadlocks() -> float:
    """How many this process has been told of, by any test."""
    samples = [sample for metric in metrics.DEADLOCKS.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def test_no_accept_dies_of_a_deadlock_at_midnight(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        unmade = await day(flow, FIRST_UNMADE_DAY)
        is_over = False

        async def traffic() -> None:
            while not is_over:
                references = await flow.submitted(await flow.accepted(client, 5), carrier)
                await flow.settle([await flow.receive(carrier, each, "delivered") for each in references])

        sql = "select deadlocks from pg_stat_database where datname = current_database()"
        before, told = await flow.pool.fetchval(sql), deadlocks()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(traffic())
            for n in range(3):
                each = unmade + timedelta(days=n)
                await clockwork_store.make_partitions(flow.pool, each, each)
            is_over = True
        assert await flow.pool.fetchval(sql) == before
        assert deadlocks() == told


async def test_a_day_is_shaped_as_postgresql_would_shape_it(database: Database) -> None:
    """Nothing that "create table … partition of" gives is missing, and nothing is there besides."""
    async with open_flow(database) as flow:
        unmade = await day(flow, FIRST_UNMADE_DAY)
        await flow.pool.execute("select tollwire.make_partitions_v1($1, $1)", unmade)
        owner = await flow.pool.fetchval(
            "select relowner::regrole from pg_class where oid = 'tollwire.messages'::regclass"
        )
        for parent, storage in await flow.pool.fetch("select parent, storage from tollwire.partition_rules"):
            plain = f"{parent}_plain"
            options = ", ".join([storage, *GROWING] if storage else GROWING)
            await flow.pool.execute(f"create table {plain} partition of {parent} default with ({options})")
            await flow.pool.execute(f"alter table {plain} owner to {owner}")
            ours = await flow.pool.fetchval(
                "select min(c.oid::regclass::text) from pg_inherits i join pg_class c on c.oid = i.inhrelid"
                " where i.inhparent = $1::text::regclass and c.relname like '%' || $2 || '%'",
                parent,
                f"{unmade:%Y%m%d}",
            )
            shapes = [
                [row[0] for row in await flow.pool.fetch(SHAPES.replace("$1", f"'{table}'"))]
                for table in (ours, plain)
            ]
            assert shapes[0] == shapes[1], parent
            await flow.pool.execute(f"drop table {plain}")
