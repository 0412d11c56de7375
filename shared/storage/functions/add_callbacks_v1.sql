-- The id of the callback that tells a message's n-th event: a UUIDv7 of the event's moment with the message's own randomness, and the
-- sequence where else a counter stands. It is unique as the message's id and its sequence are, and costs no random numbers. A submit and an
-- end are told under the moments that the message itself keeps, so that the next event of the message finds the one before it.
create or replace function tollwire.callback_id_v1(p_at timestamptz, p_message uuid, p_sequence smallint) returns uuid
language sql stable parallel safe as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(p_sequence & 4095), 3, '0') || substr(p_message::text, 20))::uuid
$$;

-- Ends callbacks that a later event of their message overtakes, where nobody has begun with them. Returns, in their order, those that are leased: they
-- may be on their way, and what comes after them waits until they are noted or their lease has ended (docs/adr/0016). Waits for nobody:
-- a row that somebody holds is being leased or noted.
create or replace function tollwire.overtake_callbacks_v1(p_callback uuid[]) returns uuid[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_ids uuid[]; v_min uuid; v_max uuid;
    v_waiting uuid[];
begin
    select array_agg(i order by i) into v_ids from unnest(p_callback) i where i is not null;
    v_min := v_ids[1];
    v_max := v_ids[cardinality(v_ids)];
    -- By their ids and not by a join: submits of hours end in one flush, and a plan made while few callbacks were kept read each of them
    -- between the first and the last.
    select array_agg(w.id) into v_waiting from (
        select c.id from tollwire.callbacks c
        where c.id = any (v_ids) and c.id between v_min and v_max and c.done_at is null and (c.due_at <= v_now or not c.is_leased)
        order by c.id for update skip locked) w;
    update tollwire.callbacks c set done_at = v_now, outcome = 'superseded' where c.id = any (v_waiting) and c.id between v_min and v_max;
    return array(select c.id from tollwire.callbacks c where c.id = any (v_ids) and c.id between v_min and v_max and c.done_at is null order by c.id);
end $$;

-- Asks for a callback for each message whose client has a live endpoint that subscribes to the event; one row each, leased for
-- p_lease_seconds to the caller (0: due at once, for whoever sweeps). The messages' states are locked by the caller, and their
-- sequence has been raised by the move that is told.
create or replace function tollwire.add_callbacks_v1(p_message uuid[], p_event_type text[], p_lease_seconds integer)
returns table (o_message uuid, o_callback uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
begin
    -- Few ask for every submit; while nobody does, no message needs a look.
    if 'message.sent' = all (p_event_type) and not exists (select from tollwire.callback_endpoints e where 'message.sent' = any (e.events)) then
        return;
    end if;
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    return query
        with asked as materialized (
            select tollwire.callback_id_v1(case x.event_type when 'message.sent' then s.submitted_at else v_now end, x.message_id, s.sequence) as id, x.message_id, m.client_id, e.id as endpoint_id, x.event_type, s.sequence,
                   coalesce(m.callback_url <> e.url, false) as own_url
            from unnest(p_message, p_event_type) x(message_id, event_type)
            cross join lateral (select c.client_id, c.callback_url from tollwire.messages c where c.id = x.message_id and c.id between v_min and v_max offset 0) m
            cross join lateral (
                select c.id, c.url from tollwire.callback_endpoints c where c.client_id = m.client_id and x.event_type = any (c.events) offset 0) e
            cross join lateral (
                select c.sequence, c.submitted_at from tollwire.message_states c where c.message_id = x.message_id and c.message_id between v_min and v_max offset 0) s
        ), added as (
            insert into tollwire.callbacks (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at, own_url, is_leased)
                select a.id, a.message_id, a.client_id, a.endpoint_id, a.event_type, a.sequence, v_now + p_lease_seconds * interval '1 second', v_now, a.own_url, p_lease_seconds > 0
                from asked a order by a.id
        )
        select a.message_id, a.id from asked a;
end $$;

-- The event that tells of a state; null for those that nobody can subscribe to.
create or replace function tollwire.event_type_v1(p_state tollwire.message_state) returns text
language sql immutable parallel safe as $$
    select case p_state when 'SENT' then 'message.sent' when 'DELIVERED' then 'message.delivered' when 'UNDELIVERED' then 'message.undelivered'
                        when 'EXPIRED' then 'message.expired' when 'FAILED_PERM' then 'message.failed' when 'CANCELLED' then 'message.cancelled' end
$$;
