-- Makes what is missing for the days [p_from, p_to]; returns how many were made. A table is made by itself and then attached: that
-- locks its parent against other changes of its shape alone. "create table … partition of" would shut everybody out of thirteen parents,
-- one after the other, in another order than the hot path has: at each midnight a deadlock, and a stop behind every long reader.
create or replace function tollwire.make_partitions_v1(p_from date, p_to date) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    t record; d date; s integer; v_name text; v_schema text; v_low text; v_high text; v_made integer := 0;
    v_day timestamptz;
    -- Whatever a vacuum or an analyze notes of a table makes every connection plan anew what reads it, over all days that are kept: 2 to 8 ms
    -- of CPU for each statement. PostgreSQL's own measures come to one every few seconds in a day's first minutes; these to a vacuum whenever
    -- a table has grown, or was changed, by half, and to an analyze when twice as many rows were written as it has: a message's state is
    -- written four times.
    c_growing constant text := 'autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 2, autovacuum_vacuum_threshold = 50000, '
        'autovacuum_vacuum_scale_factor = 0.5, autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0.5';
begin
    -- One at a time: who comes second finds what the first has made.
    perform pg_advisory_xact_lock(hashtextextended('tollwire.partitions', 0));
    for t in select * from tollwire.partition_rules order by parent loop
        v_schema := split_part(t.parent, '.', 1);
        for d in select g::date from generate_series(p_from, p_to, interval '1 day') g loop
            for s in 0 .. case t.cut when 'slot' then 1 else 0 end loop
                v_name := split_part(t.parent, '.', 2) || '_' || to_char(d, 'YYYYMMDD') || case t.cut when 'slot' then case s when 0 then 'a' else 'b' end else '' end;
                continue when to_regclass(format('%I.%I', v_schema, v_name)) is not null;
                v_day := d::timestamp at time zone 'UTC';
                case t.cut
                    when 'uuid' then v_low := quote_literal(tollwire.uuid7_floor_v1(v_day)); v_high := quote_literal(tollwire.uuid7_floor_v1(v_day + interval '24 hours'));
                    when 'time' then v_low := quote_literal(v_day); v_high := quote_literal(v_day + interval '24 hours');
                    when 'date' then v_low := quote_literal(d); v_high := quote_literal(d + 1);
                    when 'slot' then v_low := (floor(extract(epoch from v_day) / 43200)::integer + s)::text; v_high := (v_low::integer + 1)::text;
                end case;
                execute format('create table %I.%I (like %s including defaults including constraints including generated including indexes including storage) with (%s)',
                               v_schema, v_name, t.parent, concat_ws(', ', nullif(t.storage, ''), c_growing));
                if t.parent = 'ledger.entries' then
                    -- Row triggers are cloned to partitions; a statement's TRUNCATE trigger is not (RULES 26).
                    execute format('create trigger entries_no_truncate before truncate on %I.%I for each statement execute function ledger.refuse_change()', v_schema, v_name);
                end if;
                execute format('alter table %s attach partition %I.%I for values from (%s) to (%s)', t.parent, v_schema, v_name, v_low, v_high);
                v_made := v_made + 1;
            end loop;
        end loop;
    end loop;
    return v_made;
end $$;

grant execute on function tollwire.make_partitions_v1 to tollwire_ledger;
