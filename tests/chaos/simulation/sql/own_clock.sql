-- A clock of our own, in a schema that stands before pg_catalog in every search path. Not a letter of the functions changes.
create schema sim;
grant usage on schema sim to public;
create function sim.clock_timestamp() returns timestamptz language sql stable as
    $$ select pg_catalog.current_setting('sim.now')::timestamptz $$;
do $$
declare
    f record;
begin
    for f in select p.oid::regprocedure as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
             where n.nspname in ('tollwire', 'ledger') and exists (select from unnest(p.proconfig) c where c like 'search_path=%') loop
        execute format('alter function %s set search_path = sim, pg_catalog, pg_temp', f.name);
    end loop;
end $$;
do $$ begin execute format('alter database %I set search_path = sim, pg_catalog, public', current_database()); end $$;
