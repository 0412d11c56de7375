-- Nobody runs a function that is not his (RULES 6); functions are made executable for everybody by default.
do $$
declare
    f record;
begin
    for f in select p.oid::regprocedure as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('tollwire', 'ledger') loop
        execute format('revoke execute on function %s from public', f.name);
    end loop;
end $$;
alter default privileges for role tollwire_owner revoke execute on functions from public;

select tollwire.make_partitions_v1((clock_timestamp() at time zone 'UTC')::date - 1, (clock_timestamp() at time zone 'UTC')::date + 7);
