-- Everything that is needed to send callbacks. The ids are leased to the caller (by settle or by lease_callbacks_v1).
-- o_skip: done (already), superseded (a final event follows), disabled (no live endpoint) or open (the endpoint's breaker).
create function tollwire.load_callbacks_v1(p_callback uuid[])
returns table (o_callback uuid, o_skip text, o_endpoint bigint, o_url text, o_event_type text, o_sequence smallint, o_attempts smallint, o_created_at timestamptz,
               o_message uuid, o_client bigint, o_state tollwire.message_state, o_msisdn text, o_sender text, o_client_ref text, o_segments smallint,
               o_price bigint, o_currency text, o_lock_state ledger.lock_state, o_late_captured boolean, o_error text, o_carrier text, o_message_attempts smallint,
               o_possible_duplicate boolean, o_late_receipt boolean, o_parts_total smallint, o_parts_delivered smallint, o_message_created_at timestamptz, o_final_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_min uuid; v_max uuid; v_m_min uuid; v_m_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_callback) m;
    select min(c.message_id::text collate "C")::uuid, max(c.message_id::text collate "C")::uuid into v_m_min, v_m_max from tollwire.callbacks c where c.id = any (p_callback) and c.id between v_min and v_max;
    return query
        select c.id,
               case when c.done_at is not null then 'done' when e.id is null or h.disabled_at is not null then 'disabled'
                    when c.event_type = 'message.sent' and s.final_at is not null then 'superseded'
                    when h.open_until > clock_timestamp() then 'open' end,
               c.endpoint_id, coalesce(m.callback_url, e.url), c.event_type, c.sequence, c.attempts, c.created_at,
               m.id, c.client_id, s.state, m.msisdn, m.sender, m.client_ref, m.segments, m.price_micros, m.currency, l.state, l.late_captured_at is not null, s.error_code,
               k.name, s.attempt_no, s.possible_duplicate, s.late_receipt, s.parts_total, s.parts_delivered, m.created_at, s.final_at
        from unnest(p_callback) with ordinality x(id, nth)
        join tollwire.callbacks c on c.id = x.id and c.id between v_min and v_max
        left join tollwire.messages m on m.id = c.message_id and m.id between v_m_min and v_m_max
        left join tollwire.message_states s on s.message_id = c.message_id and s.message_id between v_m_min and v_m_max
        left join ledger.credit_locks l on l.message_id = c.message_id and l.message_id between v_m_min and v_m_max
        left join tollwire.carriers k on k.id = s.carrier_id
        left join tollwire.callback_endpoints e on e.id = c.endpoint_id
        left join tollwire.callback_health h on h.endpoint_id = c.endpoint_id
        order by x.nth;
end $$;

-- Notes what became of callbacks. p_outcome null: try again in p_retry_seconds. Failures go to the log; the same attempt twice counts once.
create function tollwire.record_callbacks_v1(p_callback uuid[], p_attempt smallint[], p_outcome text[], p_status smallint[], p_error text[], p_duration_ms integer[],
                                             p_address text[], p_answer bytea[], p_retry_seconds double precision[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_callback) m;
    perform 1 from tollwire.callbacks where id = any (p_callback) order by id for update;
    insert into tollwire.callback_attempts (callback_id, attempt_no, at, status, error, duration_ms, address, answer_head)
        select x.id, x.attempt_no, v_now, x.status, left(x.error, 200), x.duration_ms, x.address, x.answer
        from unnest(p_callback, p_attempt, p_outcome, p_status, p_error, p_duration_ms, p_address, p_answer) x(id, attempt_no, outcome, status, error, duration_ms, address, answer)
        where x.error is not null or x.answer is not null
        order by x.id
        on conflict (callback_id, attempt_no) do nothing;
    update tollwire.callbacks c
        set attempts = x.attempt_no, status = x.status, duration_ms = x.duration_ms, outcome = x.outcome,
            done_at = case when x.outcome is not null then v_now end, due_at = case when x.outcome is null then v_now + x.retry_seconds * interval '1 second' else c.due_at end
        from unnest(p_callback, p_attempt, p_outcome, p_status, p_duration_ms, p_retry_seconds) x(id, attempt_no, outcome, status, duration_ms, retry_seconds)
        where c.id = x.id and c.id between v_min and v_max and c.done_at is null and x.attempt_no >= c.attempts;
end $$;

-- Leases callbacks that are due, some of each endpoint in turn, so that a dead endpoint's pile hides nobody's (RULES 36).
-- Endpoints whose breaker is open give one each when their time has come, as the probe.
create function tollwire.lease_callbacks_v1(p_limit integer, p_each integer, p_lease_seconds integer) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_from timestamptz := v_now - interval '31 days';
begin
    return query
        with recursive ends(endpoint_id) as (
            (select c.endpoint_id from tollwire.callbacks c where c.done_at is null and c.id > tollwire.uuid7_floor_v1(v_from) order by c.endpoint_id limit 1)
            union all
            select (select c.endpoint_id from tollwire.callbacks c where c.done_at is null and c.endpoint_id > ends.endpoint_id and c.id > tollwire.uuid7_floor_v1(v_from)
                    order by c.endpoint_id limit 1) from ends where ends.endpoint_id is not null
        ), chosen as materialized (
            select d.id from ends
            left join tollwire.callback_health h on h.endpoint_id = ends.endpoint_id
            cross join lateral (
                select c.id from tollwire.callbacks c
                where c.endpoint_id = ends.endpoint_id and c.done_at is null and c.due_at <= v_now and c.id > tollwire.uuid7_floor_v1(v_from)
                order by c.due_at limit case when coalesce(h.consecutive_failures, 0) > 0 then 1 else p_each end
                for update skip locked) d
            where ends.endpoint_id is not null and h.disabled_at is null and (h.open_until is null or h.open_until <= v_now)
            limit p_limit
        )
        update tollwire.callbacks c set due_at = v_now + p_lease_seconds * interval '1 second'
        from chosen where c.id = chosen.id and c.id > tollwire.uuid7_floor_v1(v_from) returning c.id;
end $$;

-- Leases receipts that are due again: those whose settler died, and those that wait for their reference.
create function tollwire.lease_receipts_v1(p_limit integer, p_lease_seconds integer) returns setof uuid
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with chosen as materialized (
        select k.id from tollwire.receipts k
        where k.settled_at is null and k.due_at <= clock_timestamp() and k.id > tollwire.uuid7_floor_v1(clock_timestamp() - interval '31 days')
        limit p_limit for update skip locked)
    update tollwire.receipts k set due_at = clock_timestamp() + p_lease_seconds * interval '1 second'
    from chosen where k.id = chosen.id and k.id > tollwire.uuid7_floor_v1(clock_timestamp() - interval '31 days') returning k.id
$$;
