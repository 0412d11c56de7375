alter table tollwire.callbacks add column own_url boolean not null default false;
comment on column tollwire.callbacks.own_url is 'Its message named another URL than the endpoint had then; what fails at the endpoint does not hold it back';

-- What is open and goes elsewhere, apart from the pile of an endpoint that fails. Days with much in them go without: nobody could write
-- there while they are read. What is in them is found by callbacks_waiting, as before.
create index callbacks_waiting_own on only tollwire.callbacks (endpoint_id, due_at) where done_at is null and own_url;
do $$
declare
    c_read_max constant bigint := 64 * 1024 * 1024;
    v_day text;
begin
    for v_day in
        select k.relname from pg_inherits i join pg_class k on k.oid = i.inhrelid
        where i.inhparent = 'tollwire.callbacks'::regclass and pg_relation_size(k.oid) <= c_read_max order by 1
    loop
        execute format('create index %I on tollwire.%I (endpoint_id, due_at) where done_at is null and own_url', v_day || '_own', v_day);
        execute format('alter index tollwire.callbacks_waiting_own attach partition tollwire.%I', v_day || '_own');
    end loop;
end $$;
