-- Retention (RULES 11, 28): a day of messages is seen closed, archived, retired, and then its partitions are taken off and dropped.
-- Nothing here trusts its caller: each step looks for itself whether the one before it was done, and refuses with a reason.

-- Takes or renews the upkeep for a while; false when another process has it.
create or replace function tollwire.take_upkeep_v1(p_name text, p_holder uuid, p_seconds integer) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with taken as (
        insert into tollwire.upkeep_leases as l (name, holder, until) values (p_name, p_holder, clock_timestamp() + p_seconds * interval '1 second')
        on conflict (name) do update set holder = excluded.holder, until = excluded.until
            where l.holder = excluded.holder or l.until <= clock_timestamp()
        returning 1)
    select exists (select from taken)
$$;

-- The next p_limit rows of a day: where they end, and how many they are. For tables that are cut by an id.
create or replace function tollwire.chunk_end_v1(p_parent text, p_after uuid, p_to uuid, p_limit integer) returns table (o_last uuid, o_rows bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_column text;
begin
    select a.attname into v_column
        from tollwire.partition_rules r
        join pg_partitioned_table t on t.partrelid = r.parent::regclass
        join pg_attribute a on a.attrelid = t.partrelid and a.attnum = t.partattrs[0]
        where r.parent = p_parent and r.cut = 'uuid';
    if v_column is null then
        raise exception '% is not cut by an id', p_parent using errcode = 'invalid_parameter_value';
    end if;
    return query execute format(
        'select max(c.id::text collate "C")::uuid, count(*) from (select %I as id from %s where %I > $1 and %I < $2 order by 1 limit $3) c',
        v_column, p_parent::regclass, v_column, v_column) using p_after, p_to, p_limit;
end $$;

-- Looks at the next rows of a day and closes it when all of them have ended. o_reason says what keeps it open; o_seen 0: nothing left.
create or replace function tollwire.inspect_day_v1(p_day date, p_limit integer) returns table (o_closed boolean, o_seen bigint, o_reason text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    d tollwire.day_inspections;
    r record;
    v_from uuid := tollwire.uuid7_floor_v1(p_day::timestamp at time zone 'UTC');
    v_to uuid := tollwire.uuid7_floor_v1((p_day + 1)::timestamp at time zone 'UTC');
begin
    -- A message of a day is accepted by its end and the clocks' skew; after another day nothing comes any more.
    if p_day > (clock_timestamp() at time zone 'UTC')::date - 2 then
        return query select false, 0::bigint, 'the day has not been over for a day'::text;
        return;
    end if;
    insert into tollwire.day_inspections (day) values (p_day) on conflict do nothing;
    select * into strict d from tollwire.day_inspections where day = p_day for update;
    if d.closed_at is not null then
        return query select true, 0::bigint, null::text;
        return;
    end if;
    if not d.states_done then
        -- What ended without a carrier's answer may have been handed over until it ended.
        select count(*) as seen, max(c.message_id::text collate "C")::uuid as last, max(coalesce(c.submitted_at, case when c.attempt_no > 0 then c.final_at end)) as submit_at,
               min(c.message_id::text collate "C") filter (where c.final_at is null) as open_id
            into r
            from (select s.message_id, s.final_at, s.submitted_at, s.attempt_no from tollwire.message_states s
                  where s.message_id >= v_from and s.message_id < v_to and (d.states_after is null or s.message_id > d.states_after) order by s.message_id limit p_limit) c;
        if r.open_id is not null then
            return query select false, r.seen, format('message %s is %s', r.open_id, (select s.state from tollwire.message_states s where s.message_id = r.open_id::uuid));
            return;
        end if;
        update tollwire.day_inspections set states = states + r.seen, states_after = coalesce(r.last, states_after), states_done = r.seen < p_limit,
                                            last_submit_at = greatest(last_submit_at, r.submit_at) where day = p_day;
        return query select false, greatest(r.seen, 1), null::text;
    elsif not d.locks_done then
        select count(*) as seen, max(c.message_id::text collate "C")::uuid as last, min(c.message_id::text collate "C") filter (where c.state = 'HELD') as open_id
            into r
            from (select l.message_id, l.state from ledger.credit_locks l
                  where l.message_id >= v_from and l.message_id < v_to and (d.locks_after is null or l.message_id > d.locks_after) order by l.message_id limit p_limit) c;
        if r.open_id is not null then
            return query select false, r.seen, format('the hold of message %s is HELD', r.open_id);
            return;
        end if;
        update tollwire.day_inspections set locks = locks + r.seen, locks_after = coalesce(r.last, locks_after), locks_done = r.seen < p_limit where day = p_day;
        return query select false, greatest(r.seen, 1), null::text;
    elsif d.states <> d.locks then
        return query select false, 0::bigint, format('it has %s messages and %s holds: verify the ledger', d.states, d.locks);
    else
        update tollwire.day_inspections set closed_at = clock_timestamp() where day = p_day;
        return query select true, 0::bigint, null::text;
    end if;
end $$;

-- The first thing that still needs a day's rows; null: nothing does.
create or replace function tollwire.day_blocker_v1(p_day date) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    c_late_receipts constant interval := '8 days';  -- a late receipt captures within 7 days of the submit (RULES 23)
    d tollwire.day_inspections;
    v_id uuid;
    v_from uuid := tollwire.uuid7_floor_v1(p_day::timestamp at time zone 'UTC');
    v_to uuid := tollwire.uuid7_floor_v1((p_day + 1)::timestamp at time zone 'UTC');
begin
    select * into d from tollwire.day_inspections where day = p_day;
    if d.closed_at is null then
        return 'not all of its messages and holds have been seen ended';
    end if;
    if d.last_submit_at > clock_timestamp() - c_late_receipts then
        return format('a receipt may still come for what may have been submitted at %s', to_char(d.last_submit_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'));
    end if;
    select o.message_id into v_id from tollwire.outbox o where o.message_id >= v_from and o.message_id < v_to limit 1;
    if found then
        return format('message %s is in the outbox', v_id);
    end if;
    select h.message_id into v_id from tollwire.hold_watch h where h.message_id >= v_from and h.message_id < v_to limit 1;
    if found then
        return format('the hold of message %s is watched', v_id);
    end if;
    -- A callback is made after its message, so its id is greater. In an order, so that it is read from the index of what is open.
    select c.id into v_id from tollwire.callbacks c
        where c.done_at is null and c.id >= v_from and (c.id < v_to or c.message_id >= v_from and c.message_id < v_to)
        order by c.endpoint_id limit 1;
    if found then
        return format('callback %s is open', v_id);
    end if;
    select k.id into v_id from tollwire.receipts k where k.settled_at is null and k.id >= v_from and k.id < v_to limit 1;
    if found then
        return format('receipt %s is not settled', v_id);
    end if;
    return null;
end $$;

-- Ends what nobody looks after any more, so that it cannot keep a day for ever: callbacks 6 days after they were due (their schedule
-- lasts 3, and a replay makes them due) and receipts after 14 days (they match within 7). At most p_limit of each.
-- None of them while nobody looks for what is due, nor in the 6 days after: lease_callbacks_v1 notes it.
create or replace function tollwire.end_forgotten_v1(p_limit integer) returns table (o_callbacks integer, o_receipts integer)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
    v_after timestamptz;
    v_ids uuid[];
    v_callbacks integer;
    v_receipts integer;
begin
    select to_timestamp(w.position::double precision) into v_after
        from tollwire.watermarks w where w.name = 'end_forgotten' and w.at > v_now - interval '1 day';
    if v_after is null or v_now < v_after then
        return query select 0, 0;
        return;
    end if;
    -- By their ids and not by a join, as everywhere (ledger/functions/settle_holds_v1.sql).
    select array_agg(f.id order by f.id) into v_ids from (
        select c.id from tollwire.callbacks c
        where c.done_at is null and c.due_at < v_now - interval '6 days' and c.id < tollwire.uuid7_floor_v1(v_now - interval '6 days') limit p_limit for update skip locked) f;
    update tollwire.callbacks c set done_at = v_now, outcome = case when c.attempts > 0 then 'gave_up' else 'discarded' end
        where c.id = any (v_ids) and c.id between v_ids[1] and v_ids[cardinality(v_ids)];
    get diagnostics v_callbacks = row_count;
    select array_agg(f.id order by f.id) into v_ids from (
        select k.id from tollwire.receipts k
        where k.settled_at is null and k.received_at < v_now - interval '14 days' and k.id < tollwire.uuid7_floor_v1(v_now - interval '14 days') limit p_limit for update skip locked) f;
    update tollwire.receipts k set settled_at = v_now, outcome = 'unmatched'
        where k.id = any (v_ids) and k.id between v_ids[1] and v_ids[cardinality(v_ids)];
    get diagnostics v_receipts = row_count;
    return query select v_callbacks, v_receipts;
end $$;

grant execute on function
    tollwire.take_upkeep_v1, tollwire.chunk_end_v1, tollwire.inspect_day_v1, tollwire.day_blocker_v1, tollwire.end_forgotten_v1
    to tollwire_ledger;
