"""What the leading ledger process asks about the work, the money and the database: three small queries.

All of it is read in the ledger's own role; what PostgreSQL shows of other sessions to everybody is enough.
"""

from collections.abc import Mapping
from typing import Final

from shared.runtime.postgres import Pool, call

READ_DEADLINE_SECONDS: Final = 10.0
LEADER: Final = "observer"
# Whoever leads says so again after the first; whoever does not say so for the second leads no more.
RENEW_SECONDS: Final = 60
LEAD_SECONDS: Final = 150
# Rows counted at most: a backlog of that size is an alarm, whatever its exact number.
COUNTED_MAX: Final = 150_000

Readings = Mapping[str, Mapping[str, float]]
"""Values by what they are and, where there are several, by label."""

LEAD = """
    select w.leads, case when w.leads and w.is_due then tollwire.set_watermark_v1($1, $2) end
    from (select coalesce(bool_or(position = $2 or age_seconds > $4), true) as leads,
                 coalesce(bool_or(position <> $2 or age_seconds > $3), true) as is_due
          from (select position, extract(epoch from clock_timestamp() - at) as age_seconds
                from tollwire.watermarks where name = $1) x) w
"""


async def lead(pool: Pool, who: str) -> bool:
    """Return whether this process leads; it takes the lead when nobody has it."""
    rows = await call(
        pool, LEAD, LEADER, who, RENEW_SECONDS, LEAD_SECONDS, deadline_seconds=READ_DEADLINE_SECONDS
    )
    return bool(rows[0][0])


# The index on due_at finds what may be dispatched: a row that is leased is due at its lease's end, 15 minutes
# at most; one that waits for its time, or was put off, is due then. All of it counts, and is as old as the
# moment at which it might first go, whatever holds it up: NATS, a slow carrier, one that is down.
# Only what a carrier has that somebody stopped is no work while it is put off, and no reason to wake anybody:
# it waits since it is due. What was dispatched a moment ago may be put off at once: not before it has waited
# in the stream or in a worker does it tell how old it is.
READ_WORK = """
    with clock as materialized (select clock_timestamp() as now),
    stopped as materialized (select id from tollwire.carriers where not enabled),
    due as materialized (
        select o.lane::text as lane, o.dispatch_at, o.leased_at, o.due_at,
               o.carrier_id in (select id from stopped) as is_stopped from tollwire.outbox o
        where o.due_at <= (select now from clock) + interval '15 minutes' order by o.due_at limit $1
    ),
    lanes as (
        select lane, count(*) as n,
               min(case when not is_stopped then dispatch_at
                        when leased_at is null then due_at
                        when leased_at <= (select now from clock) - interval '5 seconds' then dispatch_at
                   end) as oldest
        from due
        where dispatch_at <= (select now from clock)
          and not (is_stopped and leased_at is null and due_at > (select now from clock)) group by lane
    ),
    receipts as (
        select count(*) as n, min(received_at) filter (where due_at <= (select now from clock)) as oldest
        from (select received_at, due_at from tollwire.receipts
              where settled_at is null
                and id >= tollwire.uuid7_floor_v1(clock_timestamp() - interval '5 days') limit $1) r
    ),
    callbacks as (
        select count(*) as n, min(due_at) filter (where due_at <= (select now from clock)) as oldest
        from (select due_at from tollwire.callbacks
              where done_at is null
                and id >= tollwire.uuid7_floor_v1(clock_timestamp() - interval '5 days') limit $1) c
    ),
    database as (select * from pg_stat_database where datname = current_database())
    select 'dispatchable', lane, n::double precision from lanes
    union all select 'age', lane, coalesce(extract(epoch from now - oldest), 0) from lanes, clock
    union all select 'age', 'receipts', coalesce(extract(epoch from now - oldest), 0) from receipts, clock
    union all select 'age', 'callbacks', coalesce(extract(epoch from now - oldest), 0) from callbacks, clock
    union all select 'receipts', '', n from receipts
    union all select 'callbacks', '', n from callbacks
    union all select 'outbox', '', pg_stat_get_live_tuples('tollwire.outbox'::regclass)
    union all select 'outbox_age', '', coalesce(extract(epoch from (select now from clock) - min(due_at)), 0)
        from tollwire.outbox where due_at <= (select now from clock)
    union all select 'transactions', 'committed', xact_commit from database
    union all select 'transactions', 'rolled_back', xact_rollback from database
    union all select 'deadlocks', '', deadlocks from database
    union all select 'blocks', 'hit', blks_hit from database
    union all select 'blocks', 'read', blks_read from database
    union all select 'temp_bytes', '', temp_bytes from database
    union all select 'wal_bytes', '', pg_current_wal_lsn() - '0/0'
    union all
        select 'connections', name, count(*)
        from (select case when application_name = any($2) then application_name else 'other' end as name
              from pg_stat_activity where usename is not null) a group by name
    union all select 'connections_max', '', current_setting('max_connections')::integer
    union all select 'lock_waits', '', count(distinct pid) from pg_locks where not granted
"""


async def read_work(pool: Pool, applications: list[str]) -> Readings:
    """Read what waits, and how busy the database is."""
    return await _read(pool, READ_WORK, COUNTED_MAX, applications)


# A partition's day stands in its name; ages above a week are one group, so that the labels stay few.
READ_TABLES = """
    with parts as (
        select coalesce(p.relname, c.relname)::text as parent,
               (clock_timestamp() at time zone 'UTC')::date
                   - to_date(substring(c.relname from '_(\\d{8})[ab]?$'), 'YYYYMMDD') as age_days,
               i.inhrelid is not null as is_part,
               pg_stat_get_live_tuples(c.oid) as live, pg_stat_get_dead_tuples(c.oid) as dead
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('ledger', 'tollwire')
        left join pg_inherits i on i.inhrelid = c.oid
        left join pg_class p on p.oid = i.inhparent
        where c.relkind = 'r'
    ),
    accounts as (
        select currency, sum(posted_micros) as posted, sum(held_micros) as held,
               sum(credit_limit_micros) as credit_limit, sum(overdrawn_micros) as overdrawn, count(*) as n
        from ledger.accounts where kind = 'client' group by currency
    )
    select 'live', parent, sum(live)::double precision from parts group by parent
    union all select 'dead', parent, sum(dead) from parts group by parent
    union all
        select 'partition', parent || case when age_days > 7 then ' older' else ' ' || age_days end, sum(live)
        from parts where is_part and age_days >= 0 group by 2
    union all select 'credit', currency || ' posted', posted from accounts
    union all select 'credit', currency || ' held', held from accounts
    union all select 'credit', currency || ' credit_limit', credit_limit from accounts
    union all select 'credit', currency || ' overdrawn', overdrawn from accounts
    union all select 'accounts', currency, n from accounts
    union all select 'endpoints', case when h.disabled_at is not null then 'disabled'
        when h.failing_since is not null then 'failing' else 'ok' end, count(*)
        from tollwire.callback_endpoints e
        left join tollwire.callback_health h on h.endpoint_id = e.id group by 2
    union all select 'schema', '', max(version_num)::integer from tollwire.schema_version
    union all select 'days_ahead', '', count(*) from generate_series(1, 7) day
        where to_regclass('tollwire.messages_' || to_char(
            (clock_timestamp() at time zone 'UTC')::date + day, 'YYYYMMDD')) is not null
    union all select 'carrier', name, id from tollwire.carriers
    union all
        select 'unsealed_age', '',
               coalesce(extract(epoch from clock_timestamp() - min(d.day + 1) at time zone 'UTC'), 0)
        from (select to_date(substring(c.relname from '[0-9]{8}$'), 'YYYYMMDD') as day
              from pg_inherits i join pg_class c on c.oid = i.inhrelid
              where i.inhparent = 'ledger.entries'::regclass) d
        cross join lateral (select from ledger.entries e where e.day = d.day limit 1) e
        where d.day < (clock_timestamp() at time zone 'UTC')::date
          and d.day > coalesce((select max(day) from ledger.seals), '-infinity')
"""


async def read_tables(pool: Pool) -> Readings:
    """Read what changes slowly: rows by table and partition, money, endpoints, the carriers' names."""
    return await _read(pool, READ_TABLES)


READ_SIZE = "select 'bytes', '', pg_database_size(current_database())::double precision"


async def read_size(pool: Pool) -> Readings:
    """Read the size on disk: the server looks at every file for it."""
    return await _read(pool, READ_SIZE)


async def _read(pool: Pool, sql: str, *args: object) -> Readings:
    readings: dict[str, dict[str, float]] = {}
    for name, label, value in await call(pool, sql, *args, deadline_seconds=READ_DEADLINE_SECONDS):
        readings.setdefault(name, {})[label] = float(value)
    return readings
