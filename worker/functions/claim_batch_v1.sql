-- Claims work for a worker (RULES 15, 16). A claim succeeds when, under the row's lock: state QUEUED or FAILED_TEMP, the dispatch
-- number is the asked one, dispatch_at has come, validity has not ended, and the hold is HELD (or was captured by an earlier attempt,
-- where the plan charges the submit). It raises the attempt number, which is the token that the outcome must carry.
-- The same message twice in one call is won once, by a pair with the asked number: a stale one beside it, of a bundle that was published
-- again, takes nothing from it. p_claim names the call: sent again after a lost answer, it gets the same claims
-- again (RULES 4). o_parts are the parts to submit: those that no attempt before had accepted (RULES 17). Answers in the order of
-- the arrays; o_refusal says why not: stale, early, expired, suspended, no_hold, uncertain, lost. o_due_since is when the message might first go:
-- when it was accepted, or the later time that its client or its client's pace had set; a carrier that was away puts off nothing of it.
-- Only the first claim knows the pace's time: whoever turns a message away writes over dispatch_at, so a later claim tells created_at or send_at.
-- What waited long in the stream has a lease of up to an hour; its claim must be looked at when its deadline is over.
-- What an earlier attempt may have handed over waited for its carrier alone to be asked again, since that knows our ids. Where it does not any
-- more, or this is another one, at_least_once goes as possible_duplicate, and at_most_once is refused as uncertain: it is UNKNOWN, and waits.
-- A flush of which every message is won, in one part, is claimed by columns: each table is read once in id order, and the columns line up.
create or replace function tollwire.claim_batch_v1(p_message uuid[], p_dispatch integer[], p_carrier smallint, p_deadline_seconds integer, p_claim uuid)
returns table (o_refusal text, o_attempt smallint, o_client bigint, o_msisdn text, o_region text, o_sender text, o_text bytea, o_encoding text,
               o_segments smallint, o_lane tollwire.lane, o_valid_seconds double precision, o_tries smallint, o_delivery tollwire.delivery,
               o_is_test boolean, o_due_since timestamptz,
               o_price bigint, o_currency text, o_parts smallint[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_one_part constant smallint[] := '{1}';
    c_margin constant interval := '5 seconds';
    c_first_lease_seconds constant integer := 60;
    v_deadline constant interval := p_deadline_seconds * interval '1 second';
    -- Further off is only what has a longer lease than the first: nothing is written for what is looked at in time anyway.
    v_soon constant interval := greatest(p_deadline_seconds, c_first_lease_seconds) * interval '1 second' + c_margin;
    v_n integer := coalesce(cardinality(p_message), 0);
    v_now timestamptz;
    v_min uuid; v_max uuid;
    v_wins_all boolean; v_last_due timestamptz;
    v_ids uuid[]; v_dispatch integer[]; v_nth bigint[];
    s_attempt smallint[]; s_tries smallint[];
    m_client bigint[]; m_msisdn text[]; m_region text[]; m_sender text[]; m_encoding text[]; m_segments smallint[]; m_lane tollwire.lane[];
    m_valid timestamptz[]; m_delivery tollwire.delivery[]; m_is_test boolean[]; m_created timestamptz[]; m_send_at timestamptz[]; v_dispatch_at timestamptz[]; m_price bigint[]; m_currency text[];
    t_sealed bytea[];
begin
    perform ledger.require_read_committed_v1();
    if v_n = 0 then
        return;
    end if;
    select array_agg(x.message_id), array_agg(x.dispatch_no), array_agg(x.nth) into v_ids, v_dispatch, v_nth
        from (select * from unnest(p_message, p_dispatch) with ordinality x(message_id, dispatch_no, nth) order by x.message_id, x.nth) x;
    v_min := v_ids[1]; v_max := v_ids[v_n];
    select count(*) = v_n and bool_and(s.parts_total = 1 and tollwire.next_state_v1(s.state, 'claimed') is not null), array_agg(s.attempt_no), array_agg(s.tries)
        into v_wins_all, s_attempt, s_tries
        from (select * from tollwire.message_states where message_id = any (v_ids) and message_id between v_min and v_max order by message_id for update) s;
    -- What follows is read after the locks, and with the states locked nobody moves it (RULES 2).
    v_now := clock_timestamp();
    if v_wins_all and 0 < any (s_tries) then  -- who has had no try was not handed over
        v_wins_all := not exists (
            select from tollwire.attempts t
            where t.message_id = any (array(select x.id from unnest(v_ids, s_tries) x(id, tries) where x.tries > 0)) and t.message_id between v_min and v_max
              and t.outcome = 'uncertain');
    end if;
    if v_wins_all then
        -- By itself: autovacuum comes to the outbox all the time under load, and each time every plan that has it in it is made anew.
        select array_agg(x.dispatch_no) = v_dispatch and bool_and(x.dispatch_at <= v_now), array_agg(x.dispatch_at), max(x.due_at)
            into v_wins_all, v_dispatch_at, v_last_due
            from (select * from tollwire.outbox where message_id = any (v_ids) order by message_id) x;
    end if;
    if v_wins_all then
        select l.number = v_n and l.is_held and m.number = v_n and m.is_valid and t.number = v_n
               and not exists (select from tollwire.clients c where c.id = any (m.client_id) and c.suspended),
               m.client_id, m.msisdn, m.region, m.sender, m.encoding, m.segments, m.lane, m.valid_until, m.delivery, m.is_test, m.created_at, m.send_at, m.price, m.currency, t.sealed
            into v_wins_all,
               m_client, m_msisdn, m_region, m_sender, m_encoding, m_segments, m_lane, m_valid, m_delivery, m_is_test, m_created, m_send_at, m_price, m_currency, t_sealed
            from (select count(*) as number, bool_and(x.state = 'HELD') as is_held
                  from ledger.credit_locks x where x.message_id = any (v_ids) and x.message_id between v_min and v_max) l,
                 (select count(*) as number, bool_and(x.valid_until > v_now) as is_valid,
                         array_agg(x.client_id) as client_id, array_agg(x.msisdn) as msisdn, array_agg(x.region) as region, array_agg(x.sender) as sender,
                         array_agg(x.encoding) as encoding, array_agg(x.segments) as segments, array_agg(x.lane) as lane, array_agg(x.valid_until) as valid_until,
                         array_agg(x.delivery) as delivery, array_agg(x.is_test) as is_test, array_agg(x.created_at) as created_at, array_agg(x.send_at) as send_at,
                         array_agg(x.price_micros) as price, array_agg(x.currency) as currency
                  from (select * from tollwire.messages where id = any (v_ids) and id between v_min and v_max order by id) x) m,
                 (select count(*) as number, array_agg(x.sealed) as sealed
                  from (select * from tollwire.message_texts where message_id = any (v_ids) and message_id between v_min and v_max order by message_id) x) t;
    end if;
    if v_wins_all then
        update tollwire.message_states
            set state = 'SENDING', attempt_no = attempt_no + 1, sequence = sequence + 1, carrier_id = p_carrier, claim_id = p_claim, updated_at = v_now,
                claim_deadline = v_now + v_deadline
            where message_id = any (v_ids) and message_id between v_min and v_max;
        if v_last_due > v_now + v_soon then
            perform 1 from tollwire.outbox where message_id = any (v_ids) order by message_id for update;
            update tollwire.outbox set due_at = v_now + v_deadline + c_margin where message_id = any (v_ids) and due_at > v_now + v_soon;
        end if;
        insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at)
            select x.id, x.attempt_no + 1, 1, p_carrier, v_now from unnest(v_ids, s_attempt) x(id, attempt_no);
        return query
            select null::text, (x.attempt_no + 1)::smallint, x.client_id, x.msisdn, x.region, x.sender, x.sealed, x.encoding, x.segments, x.lane,
                   extract(epoch from x.valid_until - v_now)::double precision, x.tries, x.delivery, x.is_test,
                   greatest(x.created_at, case when x.attempt_no = 0 then x.dispatch_at else x.send_at end), x.price, x.currency, c_one_part
            from unnest(v_nth, s_attempt, m_client, m_msisdn, m_region, m_sender, t_sealed, m_encoding, m_segments, m_lane, m_valid, s_tries, m_delivery, m_is_test, m_created, m_send_at, v_dispatch_at, m_price, m_currency)
                 x(nth, attempt_no, client_id, msisdn, region, sender, sealed, encoding, segments, lane, valid_until, tries, delivery, is_test, created_at, send_at, dispatch_at, price, currency)
            order by x.nth;
        return;
    end if;

    -- The outbox too, though few rows of it are written: return_leases_v1 takes them without their states, and a row that changes under
    -- the statement below would be looked at again by it, with the parts already evaluated lost (seen: an attempt without its claim).
    perform 1 from tollwire.outbox where message_id = any (v_ids) order by message_id for update;
    v_now := clock_timestamp();
    return query
        with asked as materialized (
            select x.message_id, x.nth, row_number() over (partition by x.message_id, x.dispatch_no order by x.nth) > 1 as again, x.dispatch_no,
                   s.state, s.attempt_no, s.tries, s.parts_total, coalesce(s.state = 'SENDING' and s.claim_id = p_claim and o.dispatch_no = x.dispatch_no, false) as ours, o.dispatch_no as wanted, o.dispatch_at, o.due_at, l.state as lock_state, c.suspended,
                   m.client_id, m.msisdn, m.region, m.sender, m.encoding, m.segments, m.lane, m.valid_until, m.delivery, m.is_test, m.created_at, m.send_at, m.price_micros, m.currency, m.charge, t.sealed,
                   s.tries > 0 and exists (
                       select from tollwire.attempts e
                       where e.message_id = x.message_id and e.message_id between v_min and v_max and e.outcome = 'uncertain' and (e.receipt is null or e.receipt in ('enroute', 'accepted', 'unknown'))
                         and not (e.carrier_id = p_carrier and (select k.idempotent_submit from tollwire.carriers k where k.id = p_carrier))) as may_have_gone
            from unnest(p_message, p_dispatch) with ordinality x(message_id, dispatch_no, nth)
            left join lateral (select b.* from tollwire.message_states b where b.message_id = x.message_id and b.message_id between v_min and v_max offset 0) s on true
            left join lateral (select b.* from tollwire.outbox b where b.message_id = x.message_id offset 0) o on true
            left join lateral (select b.* from ledger.credit_locks b where b.message_id = x.message_id and b.message_id between v_min and v_max offset 0) l on true
            left join lateral (select b.* from tollwire.messages b where b.id = x.message_id and b.id between v_min and v_max offset 0) m on true
            left join lateral (select b.* from tollwire.message_texts b where b.message_id = x.message_id and b.message_id between v_min and v_max offset 0) t on true
            left join tollwire.clients c on c.id = m.client_id
        ), judged as materialized (
            select a.*, case
                when a.again then 'lost'
                when a.ours then null
                when a.wanted is null or tollwire.next_state_v1(a.state, 'claimed') is null or a.wanted <> a.dispatch_no then 'stale'
                when a.valid_until <= v_now then 'expired'
                when a.dispatch_at > v_now then 'early'
                when a.suspended then 'suspended'
                when not coalesce(a.lock_state = 'HELD' or a.lock_state = 'CAPTURED' and a.charge = 'submitted', false) or a.sealed is null then 'no_hold'
                when a.may_have_gone and a.delivery = 'at_most_once' then 'uncertain' end as refusal,
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
                    claim_deadline = v_now + v_deadline,
                    possible_duplicate = s.possible_duplicate or s.message_id = any (array(select j.message_id from won j where j.may_have_gone))
                where s.message_id = any (array(select j.message_id from won j where j.refusal is null and not j.ours)) and s.message_id between v_min and v_max
        ), unasked as (
            -- As if a worker had died, with no attempt open: the clockwork finds out what is left to wait for.
            update tollwire.message_states s
                set state = 'SENDING', attempt_no = s.attempt_no + 1, sequence = s.sequence + 1, claim_id = null, updated_at = v_now, claim_deadline = v_now - c_margin
                where s.message_id = any (array(select j.message_id from won j where j.refusal = 'uncertain')) and s.message_id between v_min and v_max
        ), unmade as (
            insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at, outcome, outcome_at, error_code, error_detail)
                select j.message_id, j.claimed_no, part, p_carrier, v_now, 'unclaimed', v_now, 'not_asked_again', 'an earlier attempt may have handed it over, and its carrier is not to be asked'
                from won j, generate_series(1, j.parts_total) part where j.refusal = 'uncertain'
        ), journal as (
            insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at)
                select j.message_id, j.claimed_no, part, p_carrier, v_now from won j, unnest(j.parts) part where j.refusal is null and not j.ours
        ), nearer as (
            update tollwire.outbox o set due_at = v_now + v_deadline + c_margin
                where o.message_id = any (array(select j.message_id from won j where j.refusal is null and not j.ours and j.due_at > v_now + v_soon))
        ), sweep as (
            -- Not ours to end here: the clockwork looks at once.
            update tollwire.outbox o set due_at = v_now
                where o.message_id = any (array(select j.message_id from won j where j.refusal in ('expired', 'suspended', 'no_hold', 'uncertain')))
        )
        select j.refusal, j.claimed_no, j.client_id, j.msisdn, j.region, j.sender, j.sealed, j.encoding, j.segments, j.lane,
               extract(epoch from j.valid_until - v_now)::double precision, j.tries, j.delivery, j.is_test,
               greatest(j.created_at, case when j.claimed_no = 1 then j.dispatch_at else j.send_at end), j.price_micros, j.currency, j.parts
        from won j order by j.nth;
end $$;

grant execute on function tollwire.claim_batch_v1 to tollwire_worker;
