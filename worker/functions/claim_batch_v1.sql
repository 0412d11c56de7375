-- Claims work for a worker (RULES 15, 16). A claim succeeds when, under the row's lock: state QUEUED or FAILED_TEMP, the dispatch
-- number is the asked one, dispatch_at has come, validity has not ended, and the hold is HELD (or was captured by an earlier attempt,
-- where the plan charges the submit). It raises the attempt number, which is the token that the outcome must carry.
-- The same message twice in one call is won once. p_claim names the call: sent again after a lost answer, it gets the same claims
-- again (RULES 4). o_parts are the parts to submit: those that no attempt before had accepted (RULES 17). Answers in the order of
-- the arrays; o_refusal says why not: stale, early, expired, suspended, no_hold, lost.
create function tollwire.claim_batch_v1(p_message uuid[], p_dispatch integer[], p_carrier smallint, p_deadline_seconds integer, p_claim uuid)
returns table (o_refusal text, o_attempt smallint, o_client bigint, o_msisdn text, o_region text, o_sender text, o_text bytea, o_encoding text,
               o_segments smallint, o_lane tollwire.lane, o_valid_seconds double precision, o_tries smallint, o_delivery tollwire.delivery,
               o_is_test boolean, o_created_at timestamptz,
               o_price bigint, o_currency text, o_parts smallint[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    -- The outbox too, though few rows of it are written: return_leases_v1 takes them without their states, and a row that changes under
    -- the statement below would be looked at again by it, with the parts already evaluated lost (seen: an attempt without its claim).
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    return query
        with asked as materialized (
            select x.message_id, x.nth, row_number() over (partition by x.message_id order by x.nth) > 1 as again, x.dispatch_no,
                   s.state, s.attempt_no, s.tries, s.parts_total, coalesce(s.state = 'SENDING' and s.claim_id = p_claim, false) as ours, o.dispatch_no as wanted, o.dispatch_at, l.state as lock_state, c.suspended,
                   m.client_id, m.msisdn, m.region, m.sender, m.encoding, m.segments, m.lane, m.valid_until, m.delivery, m.is_test, m.created_at, m.price_micros, m.currency, m.charge, t.sealed
            from unnest(p_message, p_dispatch) with ordinality x(message_id, dispatch_no, nth)
            left join tollwire.message_states s on s.message_id = x.message_id and s.message_id between v_min and v_max
            left join tollwire.outbox o on o.message_id = x.message_id
            left join ledger.credit_locks l on l.message_id = x.message_id and l.message_id between v_min and v_max
            left join tollwire.messages m on m.id = x.message_id and m.id between v_min and v_max
            left join tollwire.message_texts t on t.message_id = x.message_id and t.message_id between v_min and v_max
            left join tollwire.clients c on c.id = m.client_id
        ), judged as materialized (
            select a.*, case
                when a.again then 'lost'
                when a.ours then null
                when a.wanted is null or tollwire.next_state_v1(a.state, 'claimed') is null or a.wanted <> a.dispatch_no then 'stale'
                when a.valid_until <= v_now then 'expired'
                when a.dispatch_at > v_now then 'early'
                when a.suspended then 'suspended'
                when not coalesce(a.lock_state = 'HELD' or a.lock_state = 'CAPTURED' and a.charge = 'submitted', false) or a.sealed is null then 'no_hold' end as refusal,
                (a.attempt_no + case when a.ours then 0 else 1 end)::smallint as claimed_no
            from asked a
        ), won as materialized (
            -- Should a late word have accepted all parts meanwhile, all go again: the attempt has to submit something.
            select j.*, case when j.refusal is null then coalesce(nullif(array(
                select part::smallint from generate_series(1, j.parts_total) part
                where j.claimed_no = 1 or not exists (
                    select from tollwire.attempts t
                    where t.message_id = j.message_id and t.part_no = part and t.attempt_no < j.claimed_no and t.outcome = 'submitted')), '{}'),
                array(select part::smallint from generate_series(1, j.parts_total) part)) end as parts
            from judged j
        ), claimed as (
            update tollwire.message_states s
                set state = 'SENDING', attempt_no = s.attempt_no + 1, sequence = s.sequence + 1, carrier_id = p_carrier, claim_id = p_claim, updated_at = v_now,
                    claim_deadline = v_now + p_deadline_seconds * interval '1 second'
                from won j
                where j.refusal is null and not j.ours and s.message_id = j.message_id and s.message_id between v_min and v_max
        ), journal as (
            insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at)
                select j.message_id, j.claimed_no, part, p_carrier, v_now from won j, unnest(j.parts) part where j.refusal is null and not j.ours
        ), sweep as (
            -- Not ours to end here: the clockwork looks at once.
            update tollwire.outbox o set due_at = v_now from won j where j.refusal in ('expired', 'suspended', 'no_hold') and o.message_id = j.message_id
        )
        select j.refusal, j.claimed_no, j.client_id, j.msisdn, j.region, j.sender, j.sealed, j.encoding, j.segments, j.lane,
               extract(epoch from j.valid_until - v_now)::double precision, j.tries, j.delivery, j.is_test, j.created_at, j.price_micros, j.currency, j.parts
        from won j order by j.nth;
end $$;
