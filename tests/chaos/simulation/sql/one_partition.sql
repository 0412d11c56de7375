-- One partition a table, for all times. How rows are found by their day is PostgreSQL's; planning for many days is time.
do $$
declare
    t record;
begin
    for t in select i.inhrelid::regclass as name from pg_inherits i join pg_partitioned_table p on p.partrelid = i.inhparent
             join pg_class c on c.oid = i.inhrelid and c.relkind = 'r' loop
        execute format('drop table %s', t.name);
    end loop;
    for t in select parent from tollwire.partition_rules loop
        execute format('create table %s_always partition of %s default', t.parent, t.parent);
    end loop;
end $$;
