-- Settles receipts: finds their messages, notes them on the attempts, and where that decides a message moves it and its money
-- (DESIGN 3, RULES 17, 23, 24). For each position:
--   moved          this message reached its final state by this call; o_callback is its callback, leased to the caller
--   noted          kept on the attempt; it decides nothing (an intermediate report, a part of several, a retry under way)
--   repeated       the part has its final receipt already; the first stands
--   late_capture   delivered after the hold was released: taken by an entry of its own kind; one callback tells it
--   late           after the end, and nothing to take (over 7 days after the submit, waived, or not delivered)
--   waiting        no such reference yet: kept with a longer lease, up to p_keep_hours; then unmatched
--   ambiguous      several open messages have this reference: kept for an operator, never guessed
--   done           settled before
create function tollwire.settle_batch_v1(p_receipt uuid[], p_lease_seconds integer, p_keep_hours integer)
returns table (o_outcome text, o_message uuid, o_state tollwire.message_state, o_callback uuid, o_client bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_match_window constant interval := '7 days';
    v_now timestamptz;
    v_soon timestamptz;  -- nothing was submitted after it: days to come need no look
    v_min uuid; v_max uuid;
    v_m_min uuid; v_m_max uuid;
    r record;
    v_n integer := coalesce(cardinality(p_receipt), 0);
    v_outcome text[] := array_fill(null::text, array[v_n]);
    v_message uuid[] := array_fill(null::uuid, array[v_n]);
    v_attempt smallint[] := array_fill(null::smallint, array[v_n]);
    v_part smallint[] := array_fill(null::smallint, array[v_n]);
    v_state tollwire.message_state[] := array_fill(null::tollwire.message_state, array[v_n]);
    v_callback uuid[] := array_fill(null::uuid, array[v_n]);
    v_ids uuid[];
    f_id uuid[] := '{}'; f_event tollwire.message_event[] := '{}'; f_kind ledger.entry_kind[] := '{}'; f_reason text[] := '{}';
    l_id uuid[] := '{}'; l_sent boolean[] := '{}';
    b_id uuid[] := '{}'; b_state tollwire.message_state[] := '{}'; b_callback uuid[] := '{}';
begin
    perform ledger.require_read_committed_v1();
    if v_n = 0 then
        return;
    end if;
    v_now := clock_timestamp();
    v_soon := v_now + interval '1 minute';
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_receipt) m;
    -- 1. Match. References are written once, so reading them before any lock is safe; what they lead to is read again under locks.
    for r in
        select x.nth::integer as nth, k.id, k.settled_at, k.received_at, row_number() over (partition by x.id order by x.nth) > 1 as is_again,
               coalesce(e.message_id, c.message_id) as message_id, coalesce(e.attempt_no, c.attempt_no) as attempt_no, coalesce(e.part_no, c.part_no) as part_no,
               case when e.message_id is null then coalesce(c.open_count, 0) else 1 end as open_count
        from unnest(p_receipt) with ordinality x(id, nth)
        join tollwire.receipts k on k.id = x.id and k.id between v_min and v_max
        left join lateral (
            -- Attempts of one message under one reference are one submit that was asked again; parts and messages are counted.
            select y.message_id, y.attempt_no, y.part_no, max(y.place) filter (where y.is_open) over () as open_count
            from (select f.message_id, f.attempt_no, f.part_no, f.submitted_at, w.is_open, dense_rank() over (partition by w.is_open order by f.message_id, f.part_no) as place
                  from tollwire.carrier_references f
                  join tollwire.messages m on m.id = f.message_id
                  join tollwire.attempts a on a.message_id = f.message_id and a.attempt_no = f.attempt_no and a.part_no = f.part_no
                  cross join lateral (select a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown') as is_open) w
                  where f.carrier_id = k.carrier_id and f.reference = k.reference and f.submitted_at > k.received_at - c_match_window
                    and f.submitted_at <= k.received_at + c_match_window and f.submitted_at <= v_soon
                    and (k.msisdn is null or m.msisdn = k.msisdn) and (k.part_no is null or k.part_no = f.part_no)) y
            order by y.is_open desc, y.submitted_at desc, y.attempt_no desc, y.part_no
            limit 1) c on k.settled_at is null
        -- Where the reference alone finds nothing (its reply was lost) or too much, our own id decides, if the carrier echoes it and
        -- everything else fits: this carrier had this attempt of this message to this number.
        left join lateral (
            select a.message_id, a.attempt_no, a.part_no
            from tollwire.attempts a
            join tollwire.messages m on m.id = a.message_id
            where a.message_id = k.echo_message_id and a.carrier_id = k.carrier_id and (k.echo_attempt_no is null or a.attempt_no = k.echo_attempt_no)
              and (k.part_no is null or a.part_no = k.part_no) and (k.msisdn is null or m.msisdn = k.msisdn)
              and (a.outcome is null or a.outcome in ('submitted', 'uncertain')) and a.claimed_at > k.received_at - c_match_window
            order by a.attempt_no desc, a.part_no limit 1) e on k.settled_at is null and k.echo_message_id is not null and coalesce(c.open_count, 0) <> 1
        order by x.nth
    loop
        if r.settled_at is not null or r.is_again then
            v_outcome[r.nth] := 'done';
        elsif r.open_count > 1 then
            v_outcome[r.nth] := 'ambiguous';
        elsif r.message_id is null then
            v_outcome[r.nth] := case when r.received_at > v_now - p_keep_hours * interval '1 hour' then 'waiting' else 'unmatched' end;
        else
            v_message[r.nth] := r.message_id; v_attempt[r.nth] := r.attempt_no; v_part[r.nth] := r.part_no;
        end if;
    end loop;

    -- 2. Lock, in the one order (RULES 3).
    select array_agg(distinct m) filter (where m is not null), min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_ids, v_m_min, v_m_max from unnest(v_message) m;
    if v_ids is not null then
        perform 1 from ledger.accounts where id in (select client_id from tollwire.messages where id = any (v_ids)) order by id for update;
        perform 1 from tollwire.message_states where message_id = any (v_ids) order by message_id for update;
        perform 1 from ledger.credit_locks where message_id = any (v_ids) order by message_id for update;
        perform 1 from tollwire.outbox where message_id = any (v_ids) order by message_id for update;
    end if;
    perform 1 from tollwire.receipts where id = any (p_receipt) order by id for update;
    -- Somebody else may have settled them while we waited.
    for r in select x.nth::integer as nth from unnest(p_receipt) with ordinality x(id, nth)
             join tollwire.receipts k on k.id = x.id and k.id between v_min and v_max where k.settled_at is not null loop
        v_outcome[r.nth] := 'done';
    end loop;
    v_now := clock_timestamp();

    -- 3. Note them on the attempts: the first final word on a part stands.
    for r in
        select x.nth::integer as nth, k.state, k.done_at, k.carrier_id, k.reference, a.receipt, a.message_id, a.attempt_no, a.part_no,
               row_number() over (partition by x.message_id, x.attempt_no, x.part_no order by (k.state in ('enroute', 'accepted', 'unknown')), x.nth) as word
        from unnest(p_receipt, v_message, v_attempt, v_part, v_outcome) with ordinality x(id, message_id, attempt_no, part_no, outcome, nth)
        join tollwire.receipts k on k.id = x.id and k.id between v_min and v_max
        join tollwire.attempts a on a.message_id = x.message_id and a.attempt_no = x.attempt_no and a.part_no = x.part_no and a.message_id between v_m_min and v_m_max
        where x.outcome is null
        order by x.nth
    loop
        if r.receipt in ('delivered', 'undelivered', 'expired', 'rejected') or r.word > 1 then
            v_outcome[r.nth] := 'repeated';
        else
            v_outcome[r.nth] := 'noted';
            update tollwire.attempts a set receipt = r.state, receipt_at = coalesce(r.done_at, v_now)
                where a.message_id = r.message_id and a.part_no = r.part_no
                  and (a.attempt_no = r.attempt_no or a.carrier_id = r.carrier_id and a.reference = r.reference and a.outcome = 'submitted')
                  and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown'));
        end if;
    end loop;

    -- 4. Fold each message that got news over all its attempts that may have reached the carrier.
    for r in
        select n.message_id, s.state, s.submitted_at, l.state as lock_state, l.late_captured_at, m.charge, c.waive_late_capture,
               s.parts_total, s.late_receipt, p.delivered, p.open, p.expired
        from (select distinct x.message_id
              from unnest(v_message, v_outcome) x(message_id, outcome) where x.outcome = 'noted') n
        join tollwire.message_states s on s.message_id = n.message_id and s.message_id between v_m_min and v_m_max
        join tollwire.messages m on m.id = n.message_id and m.id between v_m_min and v_m_max
        join tollwire.clients c on c.id = m.client_id
        join ledger.credit_locks l on l.message_id = n.message_id and l.message_id between v_m_min and v_m_max
        join lateral (
            -- A part that some attempt delivered waits for nobody.
            select count(*) filter (where q.is_delivered) as delivered, count(*) filter (where q.is_open and not q.is_delivered) as open,
                   count(*) filter (where q.is_expired) as expired
            from (select coalesce(bool_or(a.receipt = 'delivered'), false) as is_delivered, coalesce(bool_or(a.receipt = 'expired'), false) as is_expired,
                         bool_or((a.outcome is null or a.outcome in ('submitted', 'uncertain')) and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown'))) as is_open
                  from tollwire.attempts a where a.message_id = n.message_id group by a.part_no) q) p on true
        order by n.message_id
    loop
        -- Where all are delivered, the end below says so.
        if r.delivered between 1 and r.parts_total - 1 then
            update tollwire.message_states s set parts_delivered = r.delivered where s.message_id = r.message_id and s.parts_delivered <> r.delivered;
        end if;
        if r.delivered >= r.parts_total then
            if tollwire.next_state_v1(r.state, 'delivered') is not null then
                f_id := f_id || r.message_id; f_event := f_event || 'delivered'::tollwire.message_event; f_reason := f_reason || 'delivered'::text;
                f_kind := f_kind || case when r.lock_state = 'HELD' then 'capture'::ledger.entry_kind end;
            elsif r.state <> 'DELIVERED' and not r.late_receipt then
                l_id := l_id || r.message_id;
                l_sent := l_sent || (r.lock_state = 'RELEASED' and not r.waive_late_capture and coalesce(r.submitted_at, v_now) > v_now - c_match_window);
            end if;
        elsif r.open = 0 and r.state in ('SENT', 'UNKNOWN', 'SENDING') then
            f_id := f_id || r.message_id;
            f_event := f_event || case when r.expired > 0 and r.delivered = 0 then 'carrier_expired'::tollwire.message_event else 'undelivered' end;
            f_reason := f_reason || case when r.expired > 0 and r.delivered = 0 then 'expired_by_carrier' when r.delivered > 0 then 'delivered_in_part' else 'undelivered' end;
            f_kind := f_kind || case when r.lock_state = 'HELD' then 'release'::ledger.entry_kind end;
        end if;
    end loop;

    -- 5. The ends: first the ordinary, then what came late.
    select coalesce(array_agg(t.o_message), '{}'), coalesce(array_agg(t.o_state), '{}'), coalesce(array_agg(t.o_callback), '{}') into b_id, b_state, b_callback
        from tollwire.finish_v1(f_id, f_event, f_kind, f_reason, p_lease_seconds) t;
    if cardinality(l_id) > 0 then
        perform ledger.settle_holds_v1((select array_agg(x.id order by x.id) from unnest(l_id, l_sent) x(id, take) where x.take),
                                       (select array_agg('late_capture'::ledger.entry_kind) from unnest(l_sent) x(take) where x.take),
                                       (select array_agg('delivered_late'::text) from unnest(l_sent) x(take) where x.take));
        update tollwire.message_states s set late_receipt = true, sequence = s.sequence + 1, updated_at = v_now
            where s.message_id = any (l_id) and s.message_id between v_m_min and v_m_max;
        for r in select t.o_message, t.o_callback from tollwire.add_callbacks_v1(l_id, array_fill('message.late_receipt'::text, array[cardinality(l_id)]), p_lease_seconds) t loop
            b_id := b_id || r.o_message; b_state := b_state || null::tollwire.message_state; b_callback := b_callback || r.o_callback;
        end loop;
    end if;

    -- 6. One position tells each end; the others of the same message say "noted". Lists of one flush meet here: each by each would be
    -- a quarter of a million pairs.
    perform set_config('enable_hashjoin', 'on', true);
    for r in select min(x.nth)::integer as nth, x.message_id, f.id is not null as is_moved, l.sent, b.state, b.callback from unnest(v_message, v_outcome) with ordinality x(message_id, outcome, nth)
             left join unnest(f_id) f(id) on f.id = x.message_id left join unnest(l_id, l_sent) l(id, sent) on l.id = x.message_id
             left join unnest(b_id, b_state, b_callback) b(id, state, callback) on b.id = x.message_id
             where x.outcome = 'noted' group by x.message_id, f.id, l.sent, b.state, b.callback loop
        v_callback[r.nth] := r.callback;
        if r.is_moved then
            v_outcome[r.nth] := 'moved';
            v_state[r.nth] := r.state;
        elsif r.sent is not null then
            v_outcome[r.nth] := case when r.sent then 'late_capture' else 'late' end;
        end if;
    end loop;
    perform set_config('enable_hashjoin', 'off', true);
    update tollwire.receipts k
        set settled_at = case when x.outcome <> 'waiting' then v_now end, outcome = nullif(x.outcome, 'waiting'), message_id = x.message_id, attempt_no = x.attempt_no, part_no = coalesce(x.part_no, k.part_no),
            tries = least(k.tries + 1, 30000), due_at = case when x.outcome = 'waiting' then v_now + least(power(2, least(k.tries, 10)), 900) * interval '1 second' else k.due_at end
        from unnest(p_receipt, v_outcome, v_message, v_attempt, v_part) x(id, outcome, message_id, attempt_no, part_no)
        where k.id = x.id and k.id between v_min and v_max and x.outcome <> 'done';
    return query
        select x.outcome, x.message_id, x.state, x.callback, m.client_id
        from unnest(v_outcome, v_message, v_state, v_callback) with ordinality x(outcome, message_id, state, callback, nth)
        left join tollwire.messages m on m.id = x.message_id and m.id between v_m_min and v_m_max
        order by x.nth;
end $$;
