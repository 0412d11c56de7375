-- Settles what is not ordinary: several parts or attempts, intermediate reports, repeated and late receipts, and those without a
-- message. Called by settle_batch_v1, which holds every lock. Shape: arrays of one length; p_outcome is null where a message was
-- found, else as match_receipts_v1 says. Outcomes as in settle_batch_v1; what tells of the message is null but for those that moved it, to its
-- end or to SENT; o_at is when. Answers in the order of the arrays.
create or replace function tollwire.settle_rest_v1(p_receipt uuid[], p_message uuid[], p_attempt smallint[], p_part smallint[], p_outcome text[], p_lease_seconds integer)
returns table (o_nth integer, o_outcome text, o_message uuid, o_state tollwire.message_state, o_callback uuid, o_sequence smallint, o_attempts smallint,
               o_carrier_id smallint, o_error text, o_possible_duplicate boolean, o_parts_delivered smallint, o_at timestamptz, o_charged boolean,
               o_endpoint bigint, o_url text, o_own_url boolean, o_skip text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    c_match_window constant interval := '7 days';
    -- What waits longer than any record takes is mostly nobody's (another system's at the same carrier): looked at ever more seldom, some
    -- forty times in four days.
    c_wait_seconds constant integer := 900;
    c_looks_an_age constant integer := 8;
    c_early_wait constant interval := '1 minute';  -- the record that may be meant wakes it: this is for when that was lost, and for the end
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
    v_m_min uuid; v_m_max uuid;
    r record;
    v_n integer := coalesce(cardinality(p_receipt), 0);
    v_outcome text[] := p_outcome;
    v_receipt tollwire.receipt_state; v_answer tollwire.attempt_outcome;
    v_has_it boolean;
    t_id uuid[] := '{}';
    v_is_final boolean[] := array_fill(false, array[v_n]);  -- the noted ones that may end a message
    v_state tollwire.message_state[] := array_fill(null::tollwire.message_state, array[v_n]);
    v_callback uuid[] := array_fill(null::uuid, array[v_n]);
    f_id uuid[] := '{}'; f_event tollwire.message_event[] := '{}'; f_kind ledger.entry_kind[] := '{}'; f_reason text[] := '{}';
    d_id uuid[] := '{}';  -- marked as possible_duplicate
    c_id uuid[] := '{}'; l_id uuid[] := '{}'; l_sent boolean[] := '{}';
    b_id uuid[] := '{}'; b_state tollwire.message_state[] := '{}'; b_callback uuid[] := '{}'; b_endpoint bigint[] := '{}'; b_url text[] := '{}'; b_own boolean[] := '{}'; b_skip text[] := '{}';
    v_endpoint bigint[] := array_fill(null::bigint, array[v_n]); v_url text[] := array_fill(null::text, array[v_n]); v_own boolean[] := array_fill(null::boolean, array[v_n]); v_skip text[] := array_fill(null::text, array[v_n]);
    k_id uuid[]; k_outcome text[]; k_message uuid[]; k_attempt smallint[]; k_part smallint[];
begin
    if v_n = 0 then
        return;
    end if;
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_receipt) m;
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_m_min, v_m_max from unnest(p_message) m;
    -- Somebody else may have settled them while we waited.
    for r in
        select x.nth::integer as nth from unnest(p_receipt) with ordinality x(id, nth)
        cross join lateral (select c.settled_at from tollwire.receipts c where c.id = x.id and c.id between v_min and v_max offset 0) k
        where k.settled_at is not null
    loop
        v_outcome[r.nth] := 'done';
    end loop;

    -- Note them on the attempts, one after the other, as in calls of their own: the first final word on a part stands. But a lost part of
    -- what we submitted whole comes before the others' delivery.
    for r in
        select t.*, (select c.idempotent_submit from tollwire.carriers c where c.id = t.carrier_id) as knows_ids
        from (
            select x.nth::integer as nth, k.state, k.done_at, k.carrier_id, k.reference, x.message_id, x.attempt_no, x.part_no,
                   coalesce(k.part_no, x.part_no) = x.part_no as is_own,
                   case when f.is_final then min(x.nth) filter (where f.is_final) over (partition by x.message_id, x.attempt_no, x.part_no) else x.nth end as turn
            from unnest(p_receipt, p_message, p_attempt, p_part, v_outcome) with ordinality x(id, message_id, attempt_no, part_no, outcome, nth)
            cross join lateral (
                select c.state, c.done_at, c.carrier_id, c.reference, c.part_no from tollwire.receipts c where c.id = x.id and c.id between v_min and v_max offset 0) k
            cross join lateral (select k.state in ('delivered', 'undelivered', 'expired', 'rejected') as is_final) f
            where x.outcome is null) t
        order by t.turn, t.is_own, t.nth
    loop
        select c.receipt, c.outcome into v_receipt, v_answer from tollwire.attempts c where c.message_id = r.message_id and c.attempt_no = r.attempt_no and c.part_no = r.part_no;
        continue when not found;
        if v_receipt in ('delivered', 'undelivered', 'expired', 'rejected') then
            v_outcome[r.nth] := 'repeated';
        else
            v_outcome[r.nth] := 'noted';
            v_is_final[r.nth] := r.state in ('delivered', 'undelivered', 'expired', 'rejected');
            v_has_it := r.state in ('enroute', 'accepted', 'delivered');
            -- What was found by our own id has a name from now on: a receipt of another name is not about it. "Unknown" takes nothing from
            -- what is known; and what a receipt alone proves to have been taken was not refused but lost, or nobody knew why it is charged.
            update tollwire.attempts a
                set receipt = case when a.receipt in ('enroute', 'accepted') and r.state = 'unknown' then a.receipt
                                   when a.receipt in ('enroute', 'accepted') and r.state = 'rejected' and a.outcome is distinct from 'submitted' then 'undelivered'
                                   else r.state end,
                    receipt_at = case when a.receipt in ('enroute', 'accepted') and r.state = 'unknown' then a.receipt_at else coalesce(r.done_at, v_now) end,
                    reference = case when a.attempt_no = r.attempt_no then coalesce(a.reference, r.reference) else a.reference end,
                    -- What the carrier has was submitted, though its answer was lost, or another's who refused it.
                    outcome = case when v_has_it and a.outcome <> 'submitted' then 'submitted' else a.outcome end,
                    outcome_at = case when v_has_it and a.outcome <> 'submitted' then v_now else a.outcome_at end
                where a.message_id = r.message_id and a.part_no = r.part_no
                  -- To a carrier that knows our ids every attempt is the same submit, also one that is on its way or unanswered.
                  and (a.attempt_no = r.attempt_no or a.carrier_id = r.carrier_id and (
                      a.reference = r.reference and a.outcome = 'submitted'
                      or r.knows_ids and (a.outcome is null or a.outcome in ('submitted', 'uncertain'))))
                  and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown'));
            if v_has_it and v_answer <> 'submitted' then
                -- Submitted when it was claimed, not when that is heard: what may still match, and be charged, counts from there.
                insert into tollwire.carrier_references (carrier_id, reference, submitted_at, message_id, attempt_no, part_no)
                    select c.carrier_id, c.reference, greatest(c.claimed_at, v_now - c_match_window), c.message_id, c.attempt_no, c.part_no
                    from tollwire.attempts c where c.message_id = r.message_id and c.attempt_no = r.attempt_no and c.part_no = r.part_no;
            end if;
        end if;
    end loop;

    -- Fold each message that got news over all its attempts that may have reached the carrier.
    for r in
        select n.message_id, s.state, s.submitted_at, s.possible_duplicate, l.state as lock_state, c.waive_late_capture,
               s.parts_total, s.late_receipt, p.delivered, p.open, p.expired, p.over, p.submitted, p.claimed_at,
               l.state = 'HELD' and m.charge = 'submitted' and p.taken >= s.parts_total as pays_submit
        from (select distinct x.message_id
              from unnest(p_message, v_outcome) x(message_id, outcome) where x.outcome = 'noted') n
        cross join lateral (select * from tollwire.message_states c where c.message_id = n.message_id and c.message_id between v_m_min and v_m_max offset 0) s
        cross join lateral (select * from tollwire.messages c where c.id = n.message_id and c.id between v_m_min and v_m_max offset 0) m
        join tollwire.clients c on c.id = m.client_id
        cross join lateral (select * from ledger.credit_locks c where c.message_id = n.message_id and c.message_id between v_m_min and v_m_max offset 0) l
        join lateral (
            -- A part that some attempt delivered waits for nobody.
            select count(*) filter (where q.is_delivered) as delivered, count(*) filter (where q.is_open and not q.is_delivered) as open,
                   count(*) filter (where q.is_expired) as expired, count(*) filter (where q.is_taken) as taken, count(*) filter (where q.is_over and not q.is_delivered) as over,
                   count(*) filter (where q.is_submitted) as submitted, max(q.claimed_at) as claimed_at
            from (select max(a.claimed_at) filter (where a.receipt = 'delivered') as claimed_at, coalesce(bool_or(a.receipt = 'delivered'), false) as is_delivered, bool_or(a.outcome = 'submitted') as is_submitted, coalesce(bool_or(a.receipt = 'expired'), false) as is_expired,
                         bool_or((a.outcome is null or a.outcome in ('submitted', 'uncertain')) and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown'))) as is_open,
                         coalesce(bool_or(a.outcome = 'submitted' or a.receipt in ('enroute', 'accepted', 'delivered', 'undelivered', 'expired')), false) as is_taken,
                         coalesce(bool_or(a.receipt in ('undelivered', 'expired', 'rejected')
                                          and (a.outcome = 'uncertain' and m.delivery = 'at_most_once'
                                               or (select c.idempotent_submit from tollwire.carriers c where c.id = a.carrier_id))), false) as is_over
                  from tollwire.attempts a where a.message_id = n.message_id and a.message_id between v_m_min and v_m_max group by a.part_no) q) p on true
        order by n.message_id
    loop
        -- A plan that charges the submit: the receipt proves it before the carrier's answer is recorded, or where that was lost. That a
        -- part was rejected proves nothing. What is charged is the same in either order.
        if r.pays_submit then
            c_id := c_id || r.message_id;
        end if;
        if r.possible_duplicate then
            d_id := d_id || r.message_id;
        end if;
        -- Where all are delivered, the end below says so.
        if r.delivered between 1 and r.parts_total - 1 then
            update tollwire.message_states s set parts_delivered = r.delivered where s.message_id = r.message_id and s.parts_delivered <> r.delivered;
        end if;
        if r.delivered >= r.parts_total then
            if tollwire.next_state_v1(r.state, 'delivered') is not null then
                f_id := f_id || r.message_id; f_event := f_event || 'delivered'::tollwire.message_event; f_reason := f_reason || 'delivered'::text;
                f_kind := f_kind || case when r.lock_state = 'HELD' and not r.pays_submit then 'capture'::ledger.entry_kind end;
            elsif r.state <> 'DELIVERED' and not r.late_receipt then
                l_id := l_id || r.message_id;
                l_sent := l_sent || (r.lock_state = 'RELEASED' and not r.waive_late_capture and coalesce(r.submitted_at, r.claimed_at) > v_now - c_match_window);
            end if;
        -- What waits to be asked again is over too, when the one that knows the id has said so: it would not send it again. And of an
        -- at_most_once message so is what nobody answered, whether or not its carrier is to be asked again by now: another submit would be
        -- a second one. Or when carriers had every part: what they took and lost is not sent again, whether or not it was SENT between the two.
        elsif r.open = 0 and (r.state in ('SENT', 'UNKNOWN', 'SENDING') or r.state in ('QUEUED', 'FAILED_TEMP') and (r.over > 0 or r.submitted >= r.parts_total)) then
            f_id := f_id || r.message_id;
            f_event := f_event || case when r.expired > 0 and r.delivered = 0 then 'carrier_expired'::tollwire.message_event else 'undelivered' end;
            f_reason := f_reason || case when r.expired > 0 and r.delivered = 0 then 'expired_by_carrier' when r.delivered > 0 then 'delivered_in_part' else 'undelivered' end;
            f_kind := f_kind || case when r.lock_state = 'HELD' and not r.pays_submit then 'release'::ledger.entry_kind end;
        elsif r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN') then
            t_id := t_id || r.message_id;
        end if;
    end loop;

    -- The submits that receipts prove, then the ends: first the ordinary, then what came late.
    perform ledger.settle_holds_v1(c_id, array_fill('capture'::ledger.entry_kind, array[cardinality(c_id)]), array_fill('submitted'::text, array[cardinality(c_id)]));
    -- Nothing more is sent of what the carrier has whole.
    if cardinality(t_id) > 0 then
        select coalesce(array_agg(t.o_message), '{}') into t_id from tollwire.end_taken_v1(t_id, 'receipt') t;
    end if;
    -- Nor was anything sent twice of what was to be sent once more and was not.
    if cardinality(d_id) > 0 then
        update tollwire.message_states s set possible_duplicate = false
            where s.message_id = any (d_id) and s.message_id = any (f_id) and s.message_id between v_m_min and v_m_max and not tollwire.may_be_twice_v1(s.message_id);
    end if;
    select coalesce(array_agg(t.o_message), '{}'), coalesce(array_agg(t.o_state), '{}'), coalesce(array_agg(t.o_callback), '{}'),
           coalesce(array_agg(t.o_endpoint), '{}'), coalesce(array_agg(t.o_url), '{}'), coalesce(array_agg(t.o_own_url), '{}'), coalesce(array_agg(t.o_skip), '{}')
        into b_id, b_state, b_callback, b_endpoint, b_url, b_own, b_skip
        from tollwire.finish_v1(f_id, f_event, f_kind, f_reason, p_lease_seconds) t;
    if cardinality(l_id) > 0 then
        perform ledger.settle_holds_v1((select array_agg(x.id order by x.id) from unnest(l_id, l_sent) x(id, take) where x.take),
                                       (select array_agg('late_capture'::ledger.entry_kind) from unnest(l_sent) x(take) where x.take),
                                       (select array_agg('delivered_late'::text) from unnest(l_sent) x(take) where x.take));
        update tollwire.message_states s set late_receipt = true, sequence = s.sequence + 1, updated_at = v_now
            where s.message_id = any (l_id) and s.message_id between v_m_min and v_m_max;
        for r in select t.o_message, t.o_callback from tollwire.add_callbacks_v1(l_id, array_fill('message.late_receipt'::text, array[cardinality(l_id)]), p_lease_seconds) t loop
            b_id := b_id || r.o_message; b_state := b_state || null::tollwire.message_state; b_callback := b_callback || r.o_callback;
            b_endpoint := b_endpoint || null::bigint; b_url := b_url || null::text; b_own := b_own || null::boolean; b_skip := b_skip || null::text;
        end loop;
    end if;

    -- One position tells each move, the first of a final word; the others of the same message say "noted", and so does one that tells SENT. Lists of one flush
    -- meet here: each by each would be a quarter of a million pairs.
    perform set_config('enable_hashjoin', 'on', true);
    for r in select (array_agg(x.nth::integer order by not x.is_final, x.nth))[1] as nth, x.message_id, f.id is not null as is_moved, t.id is not null as is_sent, l.sent, b.state, b.callback, b.endpoint, b.url, b.own_url, b.skip
             from unnest(p_message, v_outcome, v_is_final) with ordinality x(message_id, outcome, is_final, nth)
             left join unnest(f_id) f(id) on f.id = x.message_id left join unnest(t_id) t(id) on t.id = x.message_id left join unnest(l_id, l_sent) l(id, sent) on l.id = x.message_id
             left join unnest(b_id, b_state, b_callback, b_endpoint, b_url, b_own, b_skip) b(id, state, callback, endpoint, url, own_url, skip) on b.id = x.message_id
             where x.outcome = 'noted' group by x.message_id, f.id, t.id, l.sent, b.state, b.callback, b.endpoint, b.url, b.own_url, b.skip loop
        v_callback[r.nth] := r.callback;
        if r.is_moved then
            v_outcome[r.nth] := 'moved';
            v_state[r.nth] := r.state; v_endpoint[r.nth] := r.endpoint; v_url[r.nth] := r.url; v_own[r.nth] := r.own_url; v_skip[r.nth] := r.skip;
        elsif r.sent is not null then
            v_outcome[r.nth] := case when r.sent then 'late_capture' else 'late' end;
        elsif r.is_sent then
            v_state[r.nth] := 'SENT';
        end if;
    end loop;
    perform set_config('enable_hashjoin', 'off', true);
    select array_agg(x.id), array_agg(x.outcome), array_agg(x.message_id), array_agg(x.attempt_no), array_agg(x.part_no) into k_id, k_outcome, k_message, k_attempt, k_part
        from (select * from unnest(p_receipt, v_outcome, p_message, p_attempt, p_part) y(id, outcome, message_id, attempt_no, part_no)
              where y.outcome <> 'done' order by y.id) x;
    update tollwire.receipts k
        set (settled_at, outcome, message_id, attempt_no, part_no, msisdn, tries, due_at) = (
            select case when k_outcome[i] not in ('waiting', 'early') then v_now end, case when k_outcome[i] not in ('waiting', 'early') then k_outcome[i] end, k_message[i], k_attempt[i], coalesce(k.part_no, k_part[i]),
                   -- What was erased does not come back by a late receipt; and a number told without its country's code is found by who erases it.
                   case when k.msisdn is null or k_message[i] is null then k.msisdn else (
                       select case when m.msisdn not like '+999%' then m.msisdn end from tollwire.messages m where m.id = k_message[i] and m.id between v_m_min and v_m_max) end,
                   least(k.tries + 1, 30000), case k_outcome[i] when 'early' then v_now + c_early_wait when 'waiting' then
                       v_now + least(power(2, least(k.tries, 16)), greatest(c_wait_seconds, floor(extract(epoch from v_now - k.received_at) / c_looks_an_age))) * interval '1 second' else k.due_at end
            from width_bucket(k.id, k_id) i)
        where k.id = any (k_id) and k.id between v_min and v_max;
    return query
        select x.nth::integer, case x.outcome when 'early' then 'waiting' else x.outcome end, x.message_id, x.state, x.callback, s.sequence, s.attempt_no, s.carrier_id, s.error_code, s.possible_duplicate,
               s.parts_delivered, coalesce(s.final_at, s.updated_at), l.state = 'CAPTURED', x.endpoint, x.url, x.own_url, x.skip
        from unnest(v_outcome, p_message, v_state, v_callback, v_endpoint, v_url, v_own, v_skip) with ordinality x(outcome, message_id, state, callback, endpoint, url, own_url, skip, nth)
        left join lateral (
            select * from tollwire.message_states c
            where x.state is not null and c.message_id = x.message_id and c.message_id between v_m_min and v_m_max offset 0) s on true
        left join lateral (
            select * from ledger.credit_locks c
            where x.state is not null and c.message_id = x.message_id and c.message_id between v_m_min and v_m_max offset 0) l on true
        order by x.nth;
end $$;
