-- Asks for a callback for each message whose client has a live endpoint that subscribes to the event; one row each, leased for
-- p_lease_seconds to the caller (0: due at once, for whoever sweeps). The messages' states are locked by the caller, and their
-- sequence has been raised by the move that is told.
create function tollwire.add_callbacks_v1(p_message uuid[], p_event_type text[], p_lease_seconds integer)
returns table (o_message uuid, o_callback uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    return query
        with asked as (
            select tollwire.uuid7_v1(v_now) as id, m.id as message_id, m.client_id, e.id as endpoint_id, x.event_type, s.sequence
            from unnest(p_message, p_event_type) x(message_id, event_type)
            join tollwire.messages m on m.id = x.message_id and m.id between v_min and v_max
            join tollwire.message_states s on s.message_id = x.message_id and s.message_id between v_min and v_max
            join tollwire.callback_endpoints e on e.client_id = m.client_id and x.event_type = any (e.events)
        ), added as (
            insert into tollwire.callbacks (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at)
                select a.id, a.message_id, a.client_id, a.endpoint_id, a.event_type, a.sequence, v_now + p_lease_seconds * interval '1 second', v_now
                from asked a order by a.id
            returning id, message_id
        )
        select added.message_id, added.id from added;
end $$;

-- The event that tells of a state; null for those that nobody can subscribe to.
create function tollwire.event_type_v1(p_state tollwire.message_state) returns text
language sql immutable parallel safe as $$
    select case p_state when 'SENT' then 'message.sent' when 'DELIVERED' then 'message.delivered' when 'UNDELIVERED' then 'message.undelivered'
                        when 'EXPIRED' then 'message.expired' when 'FAILED_PERM' then 'message.failed' when 'CANCELLED' then 'message.cancelled' end
$$;
