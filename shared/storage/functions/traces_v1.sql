-- Which span accepted a message: of the sampled ones only, so that what happens minutes or days later can be linked to it.
-- Nothing depends on them; they go with their day.
create or replace function tollwire.keep_traces_v1(p_message uuid[], p_trace uuid[], p_span bigint[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into tollwire.message_traces (message_id, trace_id, span_id)
        select x.message_id, x.trace_id, x.span_id from unnest(p_message, p_trace, p_span) x(message_id, trace_id, span_id)
        on conflict (message_id) do nothing;
end $$;

create or replace function tollwire.load_traces_v1(p_message uuid[]) returns table (o_message uuid, o_trace uuid, o_span bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    return query
        select t.message_id, t.trace_id, t.span_id from tollwire.message_traces t
        where t.message_id = any (p_message) and t.message_id between v_min and v_max;
end $$;

grant execute on function tollwire.keep_traces_v1 to tollwire_api;
grant execute on function tollwire.load_traces_v1 to tollwire_dlr, tollwire_ledger;
