-- The sets of server functions that were installed here, the newest last (docs/adr/0022). A process starts on the set that it knows, and
-- on what came after it.
create table tollwire.installed_functions (
    number integer generated always as identity primary key,
    digest text not null unique,
    at timestamptz not null default clock_timestamp()
);
comment on column tollwire.installed_functions.digest is 'SHA-256 of all function files of a version';
grant select on tollwire.installed_functions to tollwire_api, tollwire_worker, tollwire_dlr, tollwire_ledger, tollwire_readonly;

-- A replay goes with the dead letters of its day; those of days that went before that was so are asked for by nobody.
delete from tollwire.replays
    where replay_of < (select tollwire.uuid7_floor_v1(min(to_date(right(c.relname, 8), 'YYYYMMDD'))::timestamp at time zone 'UTC')
                       from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'tollwire.dead_letters'::regclass);
