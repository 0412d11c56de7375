-- Opens a client's account, empty, in one currency for ever. The currency's system accounts are made here, in one order,
-- so that no hot function ever makes one: two flushes that each made the first two of two currencies could wait for each other.
create or replace function ledger.open_account_v1(p_currency text, p_dispatch_interval_us bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_id bigint;
begin
    perform ledger.system_account_v1(p_currency, k) from unnest(enum_range(null::ledger.account_kind)) k where k <> 'client';
    -- Its entries begin today, and behind the newest seal (close_day_v1), whatever the clock says.
    perform pg_advisory_xact_lock_shared(hashtextextended('ledger.seals', 0));
    insert into ledger.accounts (kind, currency, dispatch_interval_us, last_entry_at)
        select 'client', p_currency, p_dispatch_interval_us,
               greatest((clock_timestamp() at time zone 'UTC')::date, max(day) + 1)::timestamp at time zone 'UTC' from ledger.seals
        returning id into v_id;
    return v_id;
end $$;

-- Where the pace of an account goes on: behind the last of its messages that waits for its place, and never so early that what left just
-- now and the next stand closer than the interval. What was to wait and does not any more (cancelled, expired) gives its place back so.
-- Reads the outbox from p_next backwards: whatever waits for a place is due at it. After p_rows_max rows it is content with how far it came.
create or replace function ledger.pace_end_v1(p_account bigint, p_next timestamptz, p_interval_us bigint, p_rows_max integer) returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
    c_soon constant interval := '50 milliseconds';  -- accept_batch_v1 dispatches at once what is due by then
    c_clocks_differ constant interval := '5 seconds';
    v_now constant timestamptz := clock_timestamp();
    v_interval constant interval := p_interval_us * interval '1 microsecond';
    v_first constant timestamptz := v_now + c_soon + v_interval;
    v_seen integer := 0;
    r record;
begin
    if p_interval_us = 0 then
        return '-infinity';
    elsif p_next <= v_first then
        return p_next;
    end if;
    for r in
        select o.message_id, o.due_at, o.leased_at is null and o.dispatch_no = 1 and o.dispatch_at <= o.due_at as waits
        from tollwire.outbox o where o.due_at > v_now and o.due_at < p_next order by o.due_at desc limit p_rows_max
    loop
        v_seen := v_seen + 1;
        -- Not test messages, which have no place, nor what a clock that was ahead accepted, or started: its place is of a time that nobody
        -- else is in.
        if v_seen = p_rows_max or r.waits
           and exists (select from tollwire.messages m where m.id = r.message_id and m.client_id = p_account and not m.is_test and m.created_at <= v_now + c_clocks_differ)
           and exists (select from tollwire.message_states s where s.message_id = r.message_id and s.state = 'QUEUED' and s.updated_at <= v_now + c_clocks_differ) then
            return least(p_next, greatest(v_first, r.due_at + v_interval));
        end if;
    end loop;
    return v_first;
end $$;

-- After messages that waited have ended: their accounts' pace goes on from what still waits. The caller has locked the accounts.
create or replace function ledger.give_back_places_v1(p_account bigint[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.accounts a set next_dispatch_at = ledger.pace_end_v1(a.id, a.next_dispatch_at, a.dispatch_interval_us, 1000)
    where a.id = any (p_account) and a.dispatch_interval_us > 0
      and a.next_dispatch_at > clock_timestamp() + a.dispatch_interval_us * interval '1 microsecond'
$$;

-- The contracted rate of dispatch, as the gap between two messages; 0 is "no pacing". What waits keeps its place; what comes follows it
-- at the new rate.
create or replace function ledger.set_pacing_v1(p_account bigint, p_dispatch_interval_us bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from ledger.accounts where id = p_account and kind = 'client' for update;
    update ledger.accounts set dispatch_interval_us = p_dispatch_interval_us,
        next_dispatch_at = ledger.pace_end_v1(p_account, next_dispatch_at, p_dispatch_interval_us, 20000)
    where id = p_account and kind = 'client';
end $$;

grant execute on function ledger.open_account_v1, ledger.set_pacing_v1 to tollwire_api;
