-- What a client asks of its callbacks (DESIGN 6, RULES 36). The callbacks themselves are sent by dlr's sweep.

-- Puts callbacks of a client back to work: those named, whatever became of them, or (p_callback null) those since a time, and after
-- p_after, that never arrived. The id stays, so a receiver knows it again, and so does the count of attempts. Of those since a time a call
-- looks at p_scan in the order of their ids and puts p_limit back at most; reached: after which the next call goes on, null at the end.
-- What load_callbacks_v1 would skip for good stays as it is: the submit of a message that has ended, and what has no message any more. So
-- does what is of a retired day, or whose message is: its tables are going. Days retire oldest first, so all to the last of them are.
create or replace function tollwire.replay_callbacks_v1(
    p_client bigint, p_callback uuid[], p_since timestamptz, p_after uuid, p_scan integer, p_limit integer
) returns table (replayed integer, reached uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_kept uuid := (select tollwire.uuid7_floor_v1((max(r.day) + 1)::timestamp at time zone 'UTC') from tollwire.retired_days r having count(*) > 0);
    v_from uuid := greatest(tollwire.uuid7_floor_v1(p_since), p_after, v_kept);
    v_ids uuid[] := p_callback; v_min uuid; v_max uuid;
begin
    if p_callback is null then
        select case when count(*) = p_scan then max(s.id::text collate "C")::uuid end,
               (array_agg(s.id order by s.id) filter (where s.outcome in ('gave_up', 'discarded')))[1:p_limit]
            into reached, v_ids
            -- Spelled so that only the index by client and id gives the order: with "client_id = p_client" the walk may be one along the ids
            -- of everybody. No id is the smallest of its moment itself: it has a version.
            from (select c.id, c.outcome from tollwire.callbacks c
                  where (c.client_id, c.id) > (p_client, v_from) and c.client_id <= p_client and c.id > v_from
                  order by c.client_id, c.id limit p_scan) s;
        if cardinality(v_ids) = p_limit then
            reached := v_ids[p_limit];
        end if;
    end if;
    select greatest(min(id::text collate "C")::uuid, v_kept), max(id::text collate "C")::uuid into v_min, v_max from unnest(v_ids) id;
    with chosen as materialized (
        select c.id from tollwire.callbacks c
        left join lateral (select b.message_id, b.state, b.final_at, b.late_receipt from tollwire.message_states b where b.message_id = c.message_id offset 0) s on true
        left join tollwire.callback_endpoints e on e.id = c.endpoint_id
        where c.client_id = p_client and c.id = any (v_ids) and c.id between v_min and v_max and c.done_at is not null
          and (v_kept is null or c.message_id >= v_kept)
          and (p_callback is not null or c.outcome in ('gave_up', 'discarded'))
          and (c.event_type = 'callback.test' or s.message_id is not null and (c.event_type <> 'message.sent' or s.final_at is null
               -- As load_callbacks_v1 has it: nothing that is told came later.
               or (tollwire.event_type_v1(s.state) = any (e.events) or s.late_receipt and 'message.late_receipt' = any (e.events)) is not true))
        order by c.id for update of c
    )
    update tollwire.callbacks c set done_at = null, outcome = null, due_at = clock_timestamp()
    from chosen where c.id = chosen.id;
    get diagnostics replayed = row_count;
    return next;
end $$;

-- Asks for a test event to the client's endpoint; null when it has none. It belongs to no message.
create or replace function tollwire.test_callback_v1(p_client bigint) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_now timestamptz := clock_timestamp();
    v_endpoint bigint;
    v_id uuid;
begin
    select e.id into v_endpoint from tollwire.callback_endpoints e where e.client_id = p_client;
    if v_endpoint is null then
        return null;
    end if;
    v_id := tollwire.uuid7_v1(v_now);
    insert into tollwire.callbacks (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at)
        values (v_id, v_id, p_client, v_endpoint, 'callback.test', 0, v_now, v_now);
    return v_id;
end $$;

grant execute on function tollwire.replay_callbacks_v1, tollwire.test_callback_v1 to tollwire_api;
