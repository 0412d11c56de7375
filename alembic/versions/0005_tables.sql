-- What the retention knows of days (RULES 11, 28, 29).

-- How far a day has been looked at: all of its messages and all of its holds, each once (they end once and for ever).
create table tollwire.day_inspections (
    day date primary key,
    states_after uuid,
    states bigint not null default 0,
    states_done boolean not null default false,
    locks_after uuid,
    locks bigint not null default 0,
    locks_done boolean not null default false,
    last_submit_at timestamptz,
    closed_at timestamptz
);
create table tollwire.archived_days (
    day date not null,
    part text not null check (part in ('messages', 'entries')),
    at timestamptz not null default clock_timestamp(),
    manifest jsonb not null,
    primary key (day, part)
);
-- A row says: nothing of this day is to be expected in the partitioned tables any more; with entries_at, not in the journal either.
-- It is written before the first partition goes, so whoever misses a row looks here.
create table tollwire.retired_days (
    day date primary key,
    at timestamptz not null default clock_timestamp(),
    manifest jsonb not null,
    entries_at timestamptz,
    entries_manifest jsonb
);
-- Which process does the upkeep now.
create table tollwire.upkeep_leases (
    name text primary key,
    holder uuid not null,
    until timestamptz not null
);

-- What is known of a day's texts: where the walk through them stands, and when the first and the last of those kept expire.
create table tollwire.text_walks (
    day date primary key,
    walk_after uuid,
    walk_kept bigint not null default 0,
    walk_first date,
    walk_last date,
    walked_on date,
    kept bigint,
    first_expires_on date,
    last_expires_on date,
    emptied_at timestamptz
);
