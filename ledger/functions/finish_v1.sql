-- Brings messages to a final state, but for the money: moves the state, forgets the outbox row, asks for the callback. Every way to the end
-- goes through here, and ends the holds afterwards, in the same transaction: accounts are locked last (see settle_holds_v1).
-- Shape: arrays of one length, each message once. p_reason goes, but for deliveries, to the message's error code.
-- The caller has locked states, locks and outbox in that order, and knows that the state table has the move.
-- Answers in the order of the message ids. o_callback is leased for p_lease_seconds (0: due at once, for whoever sweeps); it goes to
-- o_endpoint at o_url (o_own_url: another than the endpoint's, that the message named), unless o_skip says that the endpoint is
-- disabled, its breaker open, or the callback behind the message's "sent".
create or replace function tollwire.end_messages_v1(p_message uuid[], p_event tollwire.message_event[], p_reason text[], p_lease_seconds integer)
returns table (o_message uuid, o_state tollwire.message_state, o_callback uuid, o_at timestamptz, o_endpoint bigint, o_url text, o_own_url boolean, o_skip text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    m_id uuid[]; m_event tollwire.message_event[]; m_reason text[];
    f_id uuid[]; f_state tollwire.message_state[]; f_callback uuid[]; f_endpoint bigint[]; f_url text[]; f_own boolean[]; f_skip text[];
    f_sent uuid[];  -- callbacks that may have told the submit
    v_buried uuid[];
    v_leased uuid[];
begin
    if coalesce(cardinality(p_message), 0) = 0 then
        return;
    end if;
    select array_agg(x.id), array_agg(x.event), array_agg(x.reason) into m_id, m_event, m_reason
        from (select * from unnest(p_message, p_event, p_reason) y(id, event, reason) order by y.id) x;
    v_min := m_id[1];
    v_max := m_id[cardinality(m_id)];
    -- By itself, as the untold letters below: autovacuum comes to these small tables all the time under load, and each time every plan
    -- that has one in it is made anew.
    delete from tollwire.outbox where message_id = any (m_id);
    v_now := clock_timestamp();  -- before the hold ends: a message's story is told in the order of its times
    with moved as materialized (
        update tollwire.message_states s
            set state = tollwire.next_state_v1(s.state, m_event[width_bucket(s.message_id, m_id)]), final_at = v_now, updated_at = v_now,
                sequence = s.sequence + 1, claim_deadline = null,
                parts_delivered = case when m_event[width_bucket(s.message_id, m_id)] = 'delivered' then s.parts_total else s.parts_delivered end,
                error_code = case when m_event[width_bucket(s.message_id, m_id)] <> 'delivered' then m_reason[width_bucket(s.message_id, m_id)] end
            where s.message_id = any (m_id) and s.message_id between v_min and v_max
        returning s.message_id, s.state, s.sequence, s.attempt_no, s.error_code, s.submitted_at
    ), asked as materialized (
        select v.*, m.client_id, e.id as endpoint_id, e.url, e.own_url, e.skip, e.event_type,
               case when e.id is not null then tollwire.callback_id_v1(v_now, v.message_id, v.sequence) end as callback_id,
               case when e.tells_sent then tollwire.callback_id_v1(v.submitted_at, v.message_id, (v.sequence - 1)::smallint) end as sent_id
        from moved v
        cross join lateral (
            select c.client_id, c.callback_url from tollwire.messages c where c.id = v.message_id and c.id between v_min and v_max offset 0) m
        left join lateral (
            select c.id, 'message.sent' = any (c.events) as tells_sent, coalesce(m.callback_url, c.url) as url, coalesce(m.callback_url <> c.url, false) as own_url,
                   tollwire.event_type_v1(v.state) as event_type,
                   case when h.disabled_at is not null then 'disabled' when h.open_until > v_now and coalesce(m.callback_url, c.url) = c.url then 'open' end as skip
            from tollwire.callback_endpoints c
            left join tollwire.callback_health h on h.endpoint_id = c.id
            where c.client_id = m.client_id and tollwire.event_type_v1(v.state) = any (c.events) offset 0) e on true
    ), forgotten as (
        delete from tollwire.message_texts where message_id = any (m_id) and message_id between v_min and v_max and expires_on = date '0001-01-01'
    ), buried as (
        insert into tollwire.dead_letters (message_id, client_id, reason, attempts, at)
            select a.message_id, a.client_id, coalesce(a.error_code, 'unknown'), a.attempt_no, v_now from asked a where a.state = 'FAILED_PERM'
            on conflict (message_id) do nothing
        returning message_id
    ), told as (
        insert into tollwire.callbacks (id, message_id, client_id, endpoint_id, event_type, sequence, due_at, created_at, own_url, is_leased)
            select a.callback_id, a.message_id, a.client_id, a.endpoint_id, a.event_type, a.sequence, v_now + p_lease_seconds * interval '1 second', v_now, a.own_url, p_lease_seconds > 0
            from asked a where a.callback_id is not null order by a.callback_id
    )
    select array_agg(a.message_id), array_agg(a.state), array_agg(a.callback_id), array_agg(a.endpoint_id), array_agg(a.url), array_agg(a.own_url), array_agg(a.skip),
           array_agg(a.sent_id), (select array_agg(b.message_id) from buried b)
        into f_id, f_state, f_callback, f_endpoint, f_url, f_own, f_skip, f_sent, v_buried
        from (select * from asked order by message_id) a;
    if v_buried is not null then
        insert into tollwire.untold_dead_letters (message_id) select unnest(v_buried) on conflict do nothing;
    end if;
    -- Few subscribe to submits. What nobody has begun to tell is overtaken; what somebody may be telling goes first (docs/adr/0016).
    if array_remove(f_sent, null) <> '{}' then
        v_leased := tollwire.overtake_callbacks_v1(f_sent);
        if v_leased <> '{}' then
            select array_agg(coalesce(x.skip, case when v_leased[width_bucket(x.sent_id, v_leased)] = x.sent_id then 'behind' end) order by x.nth)
                into f_skip from unnest(f_sent, f_skip) with ordinality x(sent_id, skip, nth);
        end if;
    end if;
    return query select x.message_id, x.state, x.callback_id, v_now, x.endpoint_id, x.url, x.own_url, x.skip
        from unnest(f_id, f_state, f_callback, f_endpoint, f_url, f_own, f_skip) x(message_id, state, callback_id, endpoint_id, url, own_url, skip);
end $$;

-- Brings messages to a final state and settles their holds: end_messages_v1, then the money. p_kind null leaves the hold as it is (it was
-- captured at the submit). p_reason goes to the journal, too.
create or replace function tollwire.finish_v1(p_message uuid[], p_event tollwire.message_event[], p_kind ledger.entry_kind[], p_reason text[], p_lease_seconds integer)
returns table (o_message uuid, o_state tollwire.message_state, o_callback uuid, o_at timestamptz, o_endpoint bigint, o_url text, o_own_url boolean, o_skip text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query select * from tollwire.end_messages_v1(p_message, p_event, p_reason, p_lease_seconds);
    perform ledger.settle_holds_v1(array_agg(x.id order by x.id), array_agg(x.kind order by x.id), array_agg(x.reason order by x.id))
        from unnest(p_message, p_kind, p_reason) x(id, kind, reason) where x.kind is not null;
end $$;
