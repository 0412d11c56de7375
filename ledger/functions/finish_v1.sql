-- Brings messages to a final state: settles the hold, moves the state, forgets the outbox row, asks for the callback.
-- Every way to the end goes through here. Shape: arrays of one length, each message once; p_kind null leaves the hold as it is
-- (it was captured at the submit). p_reason goes to the journal and, but for deliveries, to the message's error code.
-- The caller has locked accounts, states, locks and outbox in that order, and knows that the state table has the move.
create function tollwire.finish_v1(p_message uuid[], p_event tollwire.message_event[], p_kind ledger.entry_kind[], p_reason text[], p_lease_seconds integer)
returns table (o_message uuid, o_state tollwire.message_state, o_callback uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
    v_states tollwire.message_state[];
    v_moved uuid[];
begin
    if coalesce(cardinality(p_message), 0) = 0 then
        return;
    end if;
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform ledger.settle_holds_v1(
        (select array_agg(x.m order by x.nth) from unnest(p_message, p_kind) with ordinality x(m, k, nth) where x.k is not null),
        (select array_agg(x.k order by x.nth) from unnest(p_kind) with ordinality x(k, nth) where x.k is not null),
        (select array_agg(x.r order by x.nth) from unnest(p_reason, p_kind) with ordinality x(r, k, nth) where x.k is not null));
    with moved as (
        update tollwire.message_states s
            set state = tollwire.next_state_v1(s.state, x.event), parts_delivered = case when x.event = 'delivered' then s.parts_total else s.parts_delivered end, final_at = v_now, updated_at = v_now, sequence = s.sequence + 1, claim_deadline = null,
                error_code = case when x.event = 'delivered' then null else x.reason end
            from unnest(p_message, p_event, p_reason) x(message_id, event, reason)
            where s.message_id = x.message_id and s.message_id between v_min and v_max
        returning s.message_id, s.state
    )
    select array_agg(m.message_id), array_agg(m.state) into v_moved, v_states from moved m;
    delete from tollwire.outbox where message_id = any (p_message);
    delete from tollwire.message_texts where message_id = any (p_message) and expires_on = date '0001-01-01';
    insert into tollwire.dead_letters (message_id, client_id, reason, attempts, at)
        select m.id, m.client_id, coalesce(s.error_code, 'unknown'), s.attempt_no, v_now
        from unnest(v_moved, v_states) x(message_id, state)
        join tollwire.messages m on m.id = x.message_id and m.id between v_min and v_max
        join tollwire.message_states s on s.message_id = x.message_id and s.message_id between v_min and v_max
        where x.state = 'FAILED_PERM'
        on conflict (message_id) do nothing;
    -- Two lists of one flush meet: each by each would be a quarter of a million pairs.
    perform set_config('enable_hashjoin', 'on', true);
    return query
        select x.message_id, x.state, c.o_callback
        from unnest(v_moved, v_states) x(message_id, state)
        left join tollwire.add_callbacks_v1(v_moved, (select array_agg(tollwire.event_type_v1(y.s) order by y.nth) from unnest(v_states) with ordinality y(s, nth)), p_lease_seconds) c
            on c.o_message = x.message_id;
end $$;
