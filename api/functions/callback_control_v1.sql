-- What a client asks of its callbacks (DESIGN 6, RULES 36). The callbacks themselves are sent by dlr's sweep.

-- Puts callbacks of a client back to work: those named, whatever became of them, or (p_callback null) those since a time
-- that never arrived. At most p_limit a call, oldest first; returns how many. The id stays, so a receiver knows it again,
-- and so does the count of attempts.
create function tollwire.replay_callbacks_v1(p_client bigint, p_callback uuid[], p_since timestamptz, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_replayed integer;
begin
    with chosen as materialized (
        select c.id from tollwire.callbacks c
        where c.client_id = p_client and c.done_at is not null
          and (p_callback is null or c.id = any (p_callback))
          and (p_callback is not null or (c.outcome in ('gave_up', 'discarded') and c.id >= tollwire.uuid7_floor_v1(p_since)))
        order by c.id limit p_limit for update
    )
    update tollwire.callbacks c set done_at = null, outcome = null, due_at = clock_timestamp()
    from chosen where c.id = chosen.id;
    get diagnostics v_replayed = row_count;
    return v_replayed;
end $$;

-- Asks for a test event to the client's endpoint; null when it has none. It belongs to no message.
create function tollwire.test_callback_v1(p_client bigint) returns uuid
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
