-- The clockwork: what to do when somebody must look at an outbox row (DESIGN 2 "Leases", RULES 16 to 20, 22).
-- look_due_v1 only reads; each of the others locks in the one order, looks again, and answers what it moved.

create or replace function tollwire.look_due_v1(p_limit integer) returns table (o_message uuid, o_work text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_margin constant interval := '5 seconds';
    v_now timestamptz := clock_timestamp();
    v_ids uuid[]; v_min uuid; v_max uuid;
begin
    select array_agg(d.message_id), min(d.message_id::text collate "C")::uuid, max(d.message_id::text collate "C")::uuid into v_ids, v_min, v_max
        from (select o.message_id from tollwire.outbox o where o.due_at <= v_now order by o.due_at limit p_limit) d;
    if v_ids is null then  -- asked twice a second, also of an installation that idles
        return;
    end if;
    return query
        select o.message_id, case
                when s.state is null or s.final_at is not null or s.state = 'SENT' then 'forget'
                when s.state = 'UNKNOWN' then 'expire'
                when s.state = 'SENDING' and s.claim_deadline + c_margin <= v_now then 'recover'
                when s.state = 'SENDING' then 'wait'
                when m.valid_until <= v_now or c.suspended then 'expire'
                when o.dispatch_at > v_now then 'wait'
                when s.state = 'SCHEDULED' then 'start'
                else 'dispatch' end
        from unnest(v_ids) x(id)
        join lateral (select b.* from tollwire.outbox b where b.message_id = x.id offset 0) o on true
        left join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on true
        left join lateral (select b.* from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
        left join tollwire.clients c on c.id = m.client_id;
end $$;

-- Puts off or removes rows that need nothing now.
create or replace function tollwire.tidy_outbox_v1(p_wait uuid[], p_forget uuid[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_wait || p_forget) m;
    perform 1 from tollwire.message_states where message_id = any (p_wait || p_forget) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_wait || p_forget) order by message_id for update;
    update tollwire.outbox o
        set due_at = greatest(clock_timestamp() + interval '1 second',
                              case when s.state = 'SENDING' then s.claim_deadline + interval '5 seconds' else least(o.dispatch_at, m.valid_until) end)
        from tollwire.message_states s, tollwire.messages m
        where o.message_id = any (p_wait) and s.message_id = o.message_id and s.message_id >= v_min
          and m.id = o.message_id and m.id >= v_min;
    delete from tollwire.outbox o where o.message_id = any (p_forget)
        and not exists (select from tollwire.message_states s where s.message_id = o.message_id and s.final_at is null and s.state <> 'SENT');
end $$;

-- What no call can work on: looked at again after its lease's length, which doubles from a minute to an hour, so that however many there
-- are, they never stay the oldest of what is due. Touches this table alone: whatever a call stumbled over stands elsewhere, or in a counter.
create or replace function tollwire.put_off_v1(p_message uuid[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    c_first_seconds constant integer := 60;
    c_half_of_longest_seconds constant integer := 1800;
begin
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    update tollwire.outbox o
        set due_at = clock_timestamp() + greatest(least(o.lease_seconds, c_half_of_longest_seconds * 2), c_first_seconds) * interval '1 second',
            lease_seconds = greatest(least(o.lease_seconds, c_half_of_longest_seconds), c_first_seconds) * 2
        where o.message_id = any (p_message) and o.due_at <= clock_timestamp();
end $$;

-- A scheduled message's time has come: QUEUED, in its client's pace. A test message goes at once.
create or replace function tollwire.start_scheduled_v1(p_message uuid[]) returns table (o_message uuid, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    v_clients bigint[];
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_clients := array(select distinct m.client_id from tollwire.messages m where m.id = any (p_message) and m.id between v_min and v_max);
    perform 1 from ledger.accounts where id = any (v_clients) order by id for update;
    v_now := clock_timestamp();
    -- The clock was ahead, and the next place may be of then (as in place_holds_v1).
    update ledger.accounts a set next_dispatch_at = ledger.pace_end_v1(a.id, a.next_dispatch_at, a.dispatch_interval_us, 1000)
        where a.id = any (v_clients) and a.dispatch_interval_us > 0 and a.last_entry_at > v_now + interval '5 seconds';
    return query
        with due as materialized (
            select o.message_id, m.client_id, m.valid_until, case when m.is_test then v_now else greatest(v_now, a.next_dispatch_at) end as first_slot,
                   case when m.is_test then 0 else a.dispatch_interval_us end as interval_us,
                   row_number() over (partition by m.client_id, m.is_test order by o.dispatch_at, o.message_id) - 1 as place
            from (select distinct m from unnest(p_message) m) x(id)
            join lateral (select b.* from tollwire.outbox b where b.message_id = x.id offset 0) o on o.dispatch_at <= v_now
            join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state = 'SCHEDULED'
            join lateral (select b.* from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
            join ledger.accounts a on a.id = m.client_id
        ), paced as (
            update ledger.accounts a set next_dispatch_at = d.last_slot
            from (select client_id, max(first_slot + (place + 1) * interval_us * interval '1 microsecond') as last_slot
                  from due where interval_us > 0 group by client_id) d where a.id = d.client_id
        ), waiting as (
            update tollwire.outbox o set dispatch_at = d.first_slot + d.place * d.interval_us * interval '1 microsecond',
                                         due_at = least(d.valid_until, d.first_slot + d.place * d.interval_us * interval '1 microsecond')
            from due d where o.message_id = d.message_id
        )
        update tollwire.message_states s set state = 'QUEUED', sequence = s.sequence + 1, updated_at = v_now
        from due d where s.message_id = d.message_id and s.message_id >= v_min
        returning s.message_id, s.state;
end $$;

-- Leases for dispatch what is not in the stream any more, or never was (RULES 19). p_oldest: the time of the oldest message still in the
-- stream for express, normal, bulk (null: none). p_incarnation: the stream's life. The dispatch number rises, so that an old bundle that
-- turns up is harmless. What is still in the stream is only put off, for twice as long each time. What is published again is looked at
-- within a minute, since who publishes it may die before; its next lease in the stream is longer all the same.
create or replace function tollwire.dispatch_due_v1(p_message uuid[], p_oldest timestamptz[], p_incarnation bigint)
returns table (o_message uuid, o_dispatch integer, o_lane tollwire.lane, o_carrier smallint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_first_seconds constant integer := 60;
    c_lease_max_seconds constant integer := 3600;
    c_clocks_differ constant interval := '5 seconds';
    v_now timestamptz;
    v_min uuid; v_max uuid;
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    return query
        with due as materialized (
            select o.message_id, m.valid_until,
                   coalesce(o.incarnation = p_incarnation and o.leased_at >= p_oldest[case o.lane when 'express' then 1 when 'normal' then 2 else 3 end] - c_clocks_differ, false) as in_stream
            from unnest(p_message) x(id)
            join lateral (select b.* from tollwire.outbox b where b.message_id = x.id offset 0) o on o.due_at <= v_now and o.dispatch_at <= v_now
            join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state in ('QUEUED', 'FAILED_TEMP')
            join lateral (select b.* from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on m.valid_until > v_now
        ), leased as (
            update tollwire.outbox o
                set lease_seconds = case when o.leased_at is null then o.lease_seconds else least(o.lease_seconds * 2, c_lease_max_seconds) end,
                    due_at = least(d.valid_until, v_now + case when d.in_stream then least(o.lease_seconds * 2, c_lease_max_seconds) else c_first_seconds end * interval '1 second'),
                    -- The first dispatch of a waiting row keeps its number: nobody has seen it yet.
                    dispatch_no = case when d.in_stream or o.leased_at is null then o.dispatch_no else o.dispatch_no + 1 end,
                    leased_at = case when d.in_stream then o.leased_at else v_now end,
                    incarnation = p_incarnation
                from due d where o.message_id = d.message_id
            returning o.message_id, o.dispatch_no, o.lane, o.carrier_id, d.in_stream
        )
        select l.message_id, l.dispatch_no, l.lane, l.carrier_id from leased l where not l.in_stream;
end $$;

-- What could not be published: due again at once. Its lease has its first length again: the doubling is for what was lost, and each round of
-- an outage would count as a loss.
create or replace function tollwire.return_leases_v1(p_message uuid[], p_dispatch integer[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    update tollwire.outbox o set due_at = least(o.due_at, clock_timestamp()), incarnation = 0, lease_seconds = 60
    from unnest(p_message, p_dispatch) x(id, dispatch_no) where o.message_id = x.id and o.dispatch_no = x.dispatch_no;
end $$;

-- Ends the sending of messages of which carriers have every part, by some attempt or other, and have not said that one is lost (as in
-- record_rest_v1): they are SENT, as of now. What else is on its way is noted as uncertain, with p_error. The caller has locked states and outbox.
create or replace function tollwire.end_taken_v1(p_message uuid[], p_error text) returns table (o_message uuid, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_min uuid; v_max uuid;
    t_id uuid[]; t_carrier smallint[];
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    select array_agg(s.message_id order by s.message_id), array_agg(a.carrier_id order by s.message_id) into t_id, t_carrier
        from (select distinct m from unnest(p_message) m) x(id)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state in ('QUEUED', 'FAILED_TEMP', 'SENDING', 'UNKNOWN')
        cross join lateral (
            select count(distinct b.part_no) as parts, (array_agg(b.carrier_id order by b.outcome_at desc, b.attempt_no desc))[1] as carrier_id
            from tollwire.attempts b where b.message_id = x.id and b.message_id between v_min and v_max and b.outcome = 'submitted'
               and (b.receipt is null or b.receipt not in ('undelivered', 'expired', 'rejected')) offset 0) a
        where a.parts >= s.parts_total;
    if t_id is null then
        return;
    end if;
    update tollwire.attempts a set outcome = 'uncertain', outcome_at = v_now, error_code = p_error
        where a.message_id = any (t_id) and a.message_id between v_min and v_max and a.outcome is null;
    delete from tollwire.outbox where message_id = any (t_id);
    update tollwire.message_states s
        set state = 'SENT', carrier_id = t_carrier[width_bucket(s.message_id, t_id)], submitted_at = v_now, error_code = null, sequence = s.sequence + 1,
            updated_at = v_now, claim_deadline = null,
            possible_duplicate = s.possible_duplicate and (p_error = 'restored' or tollwire.may_be_twice_v1(s.message_id))
        where s.message_id = any (t_id) and s.message_id between v_min and v_max;
    perform tollwire.add_callbacks_v1(t_id, array_fill('message.sent'::text, array[cardinality(t_id)]), 0);
    return query select x, 'SENT'::tollwire.message_state from unnest(t_id) x;
end $$;

-- A worker died between its claim and its record: the attempt's outcome is unknown, and the carrier's and the message's policy decide (RULES 16, 18).
-- Where no attempt is open, nothing is on its way: SENT when all parts were taken before, else UNKNOWN, and its wait ends it. Such is also what
-- a claim refused as uncertain.
create or replace function tollwire.recover_claims_v1(p_message uuid[], p_tries_max smallint) returns table (o_message uuid, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_margin constant interval := '5 seconds';
    r record;
    v_now timestamptz;
    v_min uuid; v_max uuid;
    n_id uuid[];
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    -- All at once, before the calls a carrier: they would take states after the first one's outbox rows (RULES 3).
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    select array_agg(s.message_id order by s.message_id) into n_id
        from (select distinct m from unnest(p_message) m) x(id)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state = 'SENDING' and s.claim_deadline + c_margin <= v_now
        cross join lateral (
            select count(*) as number from tollwire.attempts b
            where b.message_id = x.id and b.message_id between v_min and v_max and b.attempt_no = s.attempt_no and b.outcome is null offset 0) a
        where a.number = 0;
    if n_id is not null then
        return query select t.o_message, t.o_state from tollwire.end_taken_v1(n_id, 'worker_lost') t;
        return query
            with moved as (
                update tollwire.message_states s
                    -- No worker was lost where the claim refused it.
                    set state = 'UNKNOWN', error_code = coalesce((
                            select b.error_code from tollwire.attempts b
                            where b.message_id = s.message_id and b.message_id between v_min and v_max and b.attempt_no = s.attempt_no and b.error_code = 'not_asked_again' limit 1), 'worker_lost'),
                        sequence = s.sequence + 1, updated_at = v_now, claim_deadline = null
                    where s.message_id = any (n_id) and s.message_id between v_min and v_max and s.state = 'SENDING'
                returning s.message_id, s.state, s.carrier_id
            ), waiting as (
                update tollwire.outbox o set (dispatch_at, due_at) = (
                        select least(m.valid_until, v_now + k.receipt_wait_seconds * interval '1 second'), least(m.valid_until, v_now + k.receipt_wait_seconds * interval '1 second')
                        from moved v join tollwire.carriers k on k.id = v.carrier_id
                        cross join lateral (select b.valid_until from tollwire.messages b where b.id = v.message_id and b.id between v_min and v_max offset 0) m
                        where v.message_id = o.message_id),
                    dispatch_no = o.dispatch_no + 1, leased_at = null, incarnation = 0, lease_seconds = 60
                    where o.message_id in (select v.message_id from moved v)
            )
            select v.message_id, v.state from moved v;
    end if;
    for r in
        select s.carrier_id, k.idempotent_submit as ask_again, k.receipt_wait_seconds,
               array_agg(s.message_id order by s.message_id, a.part_no) as ids, array_agg(s.attempt_no order by s.message_id, a.part_no) as attempts,
               array_agg(a.part_no order by s.message_id, a.part_no) as parts, count(*)::integer as n
        from unnest(p_message) x(id)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state = 'SENDING' and s.claim_deadline + c_margin <= v_now
        join lateral (select b.* from tollwire.attempts b where b.message_id = s.message_id and b.message_id between v_min and v_max offset 0) a on a.attempt_no = s.attempt_no and a.outcome is null
        join tollwire.carriers k on k.id = s.carrier_id
        group by s.carrier_id, k.idempotent_submit, k.receipt_wait_seconds order by s.carrier_id
    loop
        return query
            select x.id, t.o_state
            from tollwire.record_batch_v1(r.ids, r.attempts, r.parts, array_fill('uncertain'::tollwire.attempt_outcome, array[r.n]), array_fill(null::text, array[r.n]),
                    array_fill('worker_lost'::text, array[r.n]), array_fill('the worker ended before it recorded the answer'::text, array[r.n]),
                    array_fill(1.0::double precision, array[r.n]), array_fill(null::smallint, array[r.n]), r.carrier_id, r.ask_again, p_tries_max, r.receipt_wait_seconds) with ordinality t(o_moved, o_state, o_receipts, o_client, nth)
            join unnest(r.ids) with ordinality x(id, nth) on x.nth = t.nth where t.o_moved;
    end loop;
end $$;

-- Ends what waited too long: validity over (EXPIRED), client suspended or outcome never known (FAILED_PERM); always with release.
-- What waits of a suspended client ends whenever it is named, all else when it is due.
create or replace function tollwire.expire_due_v1(p_message uuid[]) returns table (o_message uuid, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    f_id uuid[]; f_event tollwire.message_event[]; f_kind ledger.entry_kind[]; f_reason text[];
    v_clients bigint[];
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    select array_agg(e.id order by e.id), array_agg(e.event order by e.id), array_agg(case when e.held then 'release'::ledger.entry_kind end order by e.id), array_agg(e.reason order by e.id)
        into f_id, f_event, f_kind, f_reason
        from (
            select s.message_id as id, l.state = 'HELD' as held,
                   case when s.state = 'UNKNOWN' then 'outcome_wait_ended'::tollwire.message_event when m.valid_until <= v_now then 'validity_ended' else 'suspended' end as event,
                   case when s.state = 'UNKNOWN' then 'outcome_unknown' when m.valid_until <= v_now then 'validity_ended' else 'client_suspended' end as reason
            from unnest(p_message) x(id)
            join lateral (select b.* from tollwire.outbox b where b.message_id = x.id offset 0) o on true
            join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on true
            join lateral (select b.* from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
            join tollwire.clients c on c.id = m.client_id
            join lateral (select b.* from ledger.credit_locks b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) l on true
            where s.state = 'UNKNOWN' and o.due_at <= v_now
               or s.state in ('SCHEDULED', 'QUEUED', 'FAILED_TEMP') and (c.suspended or m.valid_until <= v_now and o.due_at <= v_now)
        ) e;
    if f_id is null then
        return;
    end if;
    return query select t.o_message, t.o_state from tollwire.end_messages_v1(f_id, f_event, f_reason, 0) t;
    v_clients := array(select distinct m.client_id from tollwire.messages m where m.id = any (f_id) and m.id between v_min and v_max);
    perform 1 from ledger.accounts where id = any (v_clients) order by id for update;
    perform ledger.settle_holds_v1(array_agg(x.id order by x.id), array_agg(x.kind order by x.id), array_agg(x.reason order by x.id))
        from unnest(f_id, f_kind, f_reason) x(id, kind, reason) where x.kind is not null;
    perform ledger.give_back_places_v1(v_clients);
end $$;

-- The walk over holds (RULES 22, 28): which HELD locks have ids in [p_from, p_to), at most p_limit, in id order.
create or replace function ledger.walk_holds_v1(p_from uuid, p_to uuid, p_limit integer) returns table (o_message uuid, o_held boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
begin
    return query
        -- A plan that captured at the submit has nothing held, and its message still has to end. Its state is looked up for each lock;
        -- of an "exists" the planner may make one list of all open messages, and read every state that there is for it.
        select l.message_id, l.state = 'HELD' or l.state = 'CAPTURED' and coalesce(
            (select s.final_at is null from tollwire.message_states s where s.message_id = l.message_id), false)
        from ledger.credit_locks l
        where l.message_id >= p_from and l.message_id < p_to order by l.message_id limit p_limit;
end $$;

-- Ends the holds of SENT messages whose receipt never came, by their carrier's policy, at no_receipt_seconds after the last submit.
-- What is held and not due yet is watched by its own time; what is not sent yet, an hour later at most: its clock starts at the submit.
create or replace function ledger.expire_holds_v1(p_message uuid[]) returns table (o_message uuid, o_state tollwire.message_state)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    f_id uuid[]; f_kind ledger.entry_kind[];
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    v_now := clock_timestamp();
    -- A plan that captured at the submit has nothing held; its message still has to end.
    select array_agg(s.message_id order by s.message_id), array_agg(case when l.state = 'HELD' then k.no_receipt_policy::ledger.entry_kind end order by s.message_id)
        into f_id, f_kind
        from unnest(p_message) x(id)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.state = 'SENT'
        join lateral (select b.* from ledger.credit_locks b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) l on true
        join tollwire.carriers k on k.id = s.carrier_id
        where s.submitted_at + k.no_receipt_seconds * interval '1 second' <= v_now;
    delete from tollwire.hold_watch where message_id = any (p_message);
    insert into tollwire.hold_watch (message_id, due_at, carrier_id, submitted_at)
        select s.message_id, case when s.state = 'SENT' then s.submitted_at + k.no_receipt_seconds * interval '1 second' else v_now + least(k.no_receipt_seconds, 3600) * interval '1 second' end,
               case when s.state = 'SENT' then s.carrier_id end, case when s.state = 'SENT' then s.submitted_at end
        from unnest(p_message) x(id)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.final_at is null
        left join tollwire.carriers k on k.id = s.carrier_id
        where not coalesce(s.message_id = any (f_id), false)
        order by s.message_id;
    if f_id is null then
        return;
    end if;
    return query select t.o_message, t.o_state
        from tollwire.finish_v1(f_id, array_fill('receipt_wait_ended'::tollwire.message_event, array[cardinality(f_id)]), f_kind,
                                array_fill('no_receipt'::text, array[cardinality(f_id)]), 0) t;
end $$;

-- Holds that no call can end: looked at again in an hour, whether the walk or the watch came upon them. The states are locked as
-- expire_holds_v1 locks them, so that the two meet in one order; nothing is written there.
create or replace function tollwire.watch_later_v1(p_message uuid[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    insert into tollwire.hold_watch (message_id, due_at)
        select distinct x.id, clock_timestamp() + interval '1 hour' from unnest(p_message) x(id) order by x.id
    -- Nor is it due by its carrier's wait before that.
    on conflict (message_id) do update set due_at = excluded.due_at, carrier_id = null, submitted_at = null;
end $$;

-- These dead letters are on sms.dlq. Answers those that nobody had told before.
create or replace function tollwire.tell_dead_letters_v1(p_message uuid[]) returns setof uuid
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    delete from tollwire.untold_dead_letters where message_id = any (p_message) returning message_id
$$;

-- Where a walk stands.
create or replace function tollwire.set_watermark_v1(p_name text, p_position text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into tollwire.watermarks (name, position) values (p_name, p_position)
    on conflict (name) do update set position = excluded.position, at = clock_timestamp()
$$;

grant execute on function
    tollwire.look_due_v1, tollwire.tidy_outbox_v1, tollwire.put_off_v1, tollwire.start_scheduled_v1, tollwire.dispatch_due_v1,
    tollwire.recover_claims_v1, tollwire.expire_due_v1, ledger.walk_holds_v1, ledger.expire_holds_v1, tollwire.watch_later_v1,
    tollwire.tell_dead_letters_v1, tollwire.set_watermark_v1
    to tollwire_ledger;
grant execute on function tollwire.return_leases_v1 to tollwire_api, tollwire_ledger;
