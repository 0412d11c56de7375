-- Holds credit for each request, greedily in arrival order (RULES 9): a request takes its price from what is left or is
-- refused alone, and a refused one takes nothing. Answers in the order of the arrays.
-- Shape: five arrays of one length. o_problem is null when the hold was placed. o_dispatch_at is the place in the account's pace of
-- what is paced, and -infinity for what may go at once.
-- The caller has locked the accounts already; the lock here, account by account in the same order, makes the function safe alone.
create or replace function ledger.place_holds_v1(p_account bigint[], p_message uuid[], p_amount bigint[], p_max bigint[], p_paced boolean[])
returns table (o_problem text, o_available bigint, o_dispatch_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan as $$
declare
    r record;
    -- The account at hand, in scalars: assigning a column of a record costs several times as much.
    v_id bigint; v_posted bigint; v_held bigint; v_limit bigint; v_open bigint; v_version bigint; v_head bytea;
    v_last timestamptz; v_next timestamptz; v_interval_us bigint;
    v_n integer := coalesce(cardinality(p_message), 0);
    v_holds bigint; v_currency text;
    v_now timestamptz;
    v_at_us bigint;
    v_available bigint;
    v_problem text[] := array_fill(null::text, array[v_n]);
    v_left bigint[] := array_fill(null::bigint, array[v_n]);
    v_dispatch timestamptz[] := array_fill('-infinity'::timestamptz, array[v_n]);
    e_account bigint[] := '{}'; e_version bigint[] := '{}'; e_at timestamptz[] := '{}'; e_message uuid[] := '{}';
    e_holds bigint[] := '{}'; e_amount bigint[] := '{}'; e_posted bigint[] := '{}'; e_held bigint[] := '{}'; e_hash bytea[] := '{}';
    s_account bigint[] := '{}'; s_held bigint[] := '{}'; s_open bigint[] := '{}'; s_version bigint[] := '{}';
    s_head bytea[] := '{}'; s_at timestamptz[] := '{}'; s_next timestamptz[] := '{}';
begin
    if current_setting('transaction_isolation') <> 'read committed' then  -- as in accept_batch_v1
        perform ledger.require_read_committed_v1();
    end if;
    for r in
        select p_account[n] as account_id, p_message[n] as message_id, p_amount[n] as amount, p_max[n] as max_amount, p_paced[n] as paced, n as nth
        from generate_series(1, v_n) n order by p_account[n], n
    loop
        if v_id is distinct from r.account_id then
            if v_id is not null then
                s_account := s_account || v_id; s_held := s_held || v_held; s_open := s_open || v_open; s_version := s_version || v_version;
                s_head := s_head || v_head; s_at := s_at || v_last; s_next := s_next || v_next;
            end if;
            select t.id, t.posted_micros, t.held_micros, t.credit_limit_micros, t.open_holds, t.version, t.chain_head, t.next_dispatch_at,
                   t.dispatch_interval_us, t.last_entry_at, t.currency,
                   (select s.id from ledger.accounts s where s.kind = 'holds' and s.currency = t.currency and s.kind <> 'client')
                into v_id, v_posted, v_held, v_limit, v_open, v_version, v_head, v_next, v_interval_us, v_last, v_currency, v_holds
                from ledger.accounts t where t.id = r.account_id and t.kind = 'client' for update;
            if not found then
                raise exception 'there is no client account %', r.account_id using errcode = 'foreign_key_violation';
            end if;
            v_holds := coalesce(v_holds, ledger.system_account_v1(v_currency, 'holds'));
            v_now := clock_timestamp();
            v_last := greatest(v_now, v_last);
            if v_interval_us > 0 and v_last > v_now + interval '5 seconds' then  -- the clock was ahead, and the next place may be of then
                v_next := ledger.pace_end_v1(v_id, v_next, v_interval_us, 1000);
            end if;
            v_at_us := (extract(epoch from v_last) * 1000000)::bigint;
        end if;
        v_available := v_posted - v_held + v_limit;
        if r.amount > r.max_amount then
            v_problem[r.nth] := 'max_price_exceeded';
        elsif r.amount > v_available and r.amount > 0 then  -- what costs nothing needs no credit: test keys work on any account
            v_problem[r.nth] := 'insufficient_credit';
        else
            v_available := v_available - r.amount;
            v_held := v_held + r.amount;
            v_open := v_open + 1;
            v_version := v_version + 1;
            v_head := ledger.entry_hash_v1(v_head, v_id, v_version, v_at_us, 'hold', r.message_id, v_id, v_holds, r.amount,
                                           v_posted, v_held, null, null);
            if r.paced and v_interval_us > 0 then
                v_next := greatest(v_now, v_next);
                v_dispatch[r.nth] := v_next;
                v_next := v_next + v_interval_us * interval '1 microsecond';
            end if;
            e_account := e_account || v_id; e_version := e_version || v_version; e_at := e_at || v_last;
            e_message := e_message || r.message_id; e_holds := e_holds || v_holds; e_amount := e_amount || r.amount;
            e_posted := e_posted || v_posted; e_held := e_held || v_held; e_hash := e_hash || v_head;
        end if;
        v_left[r.nth] := v_available;
    end loop;
    s_account := s_account || v_id; s_held := s_held || v_held; s_open := s_open || v_open; s_version := s_version || v_version;
    s_head := s_head || v_head; s_at := s_at || v_last; s_next := s_next || v_next;
    insert into ledger.entries (account_id, version, day, at, kind, message_id, debit_account, credit_account, amount_micros,
                                posted_after_micros, held_after_micros, hash)
        select e_account[n], e_version[n], (e_at[n] at time zone 'UTC')::date, e_at[n], 'hold', e_message[n], e_account[n], e_holds[n], e_amount[n],
               e_posted[n], e_held[n], e_hash[n]
        from generate_series(1, cardinality(e_message)) n;
    insert into ledger.credit_locks (message_id, account_id, amount_micros, hold_version, held_at)
        select e_message[n], e_account[n], e_amount[n], e_version[n], e_at[n]
        from generate_series(1, cardinality(e_message)) n order by e_message[n];
    update ledger.accounts t set held_micros = x.held, open_holds = x.open, version = x.version, chain_head = x.head, last_entry_at = x.at, next_dispatch_at = x.next
        from unnest(s_account, s_held, s_open, s_version, s_head, s_at, s_next) x(account_id, held, open, version, head, at, next)
        where t.id = x.account_id and t.version <> x.version;
    return query select v_problem[n], v_left[n], v_dispatch[n] from generate_series(1, v_n) n;
end $$;
