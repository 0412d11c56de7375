-- Holds credit for each request, greedily in arrival order (RULES 9): a request takes its price from what is left or is
-- refused alone, and a refused one takes nothing. Answers in the order of the arrays.
-- Shape: five arrays of one length. o_problem is null when the hold was placed. o_dispatch_at is the place in the account's pace of
-- what is paced, and -infinity for what may go at once.
-- The caller has locked the accounts already; the lock here makes the function safe alone, in the same order.
create function ledger.place_holds_v1(p_account bigint[], p_message uuid[], p_amount bigint[], p_max bigint[], p_paced boolean[])
returns table (o_problem text, o_available bigint, o_dispatch_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan as $$
declare
    a ledger.accounts;
    r record;
    v_n integer := coalesce(cardinality(p_message), 0);
    v_holds bigint;
    v_now timestamptz;
    v_at_us bigint;
    v_available bigint;
    v_problem text[] := array_fill(null::text, array[v_n]);
    v_left bigint[] := array_fill(null::bigint, array[v_n]);
    v_dispatch timestamptz[] := array_fill(null::timestamptz, array[v_n]);
    e_account bigint[] := '{}'; e_version bigint[] := '{}'; e_at timestamptz[] := '{}'; e_message uuid[] := '{}';
    e_holds bigint[] := '{}'; e_amount bigint[] := '{}'; e_posted bigint[] := '{}'; e_held bigint[] := '{}'; e_hash bytea[] := '{}';
    s_account bigint[] := '{}'; s_held bigint[] := '{}'; s_open bigint[] := '{}'; s_version bigint[] := '{}';
    s_head bytea[] := '{}'; s_at timestamptz[] := '{}'; s_next timestamptz[] := '{}';
begin
    perform ledger.require_read_committed_v1();
    perform 1 from ledger.accounts where id = any (p_account) order by id for update;
    for r in
        select x.account_id, x.message_id, x.amount, x.max_amount, x.paced, x.nth,
               lead(x.account_id) over (order by x.account_id, x.nth) is distinct from x.account_id as last_of_account
        from unnest(p_account, p_message, p_amount, p_max, p_paced) with ordinality x(account_id, message_id, amount, max_amount, paced, nth)
        order by x.account_id, x.nth
    loop
        if a.id is distinct from r.account_id then
            select * into a from ledger.accounts where id = r.account_id and kind = 'client';
            if not found then
                raise exception 'there is no client account %', r.account_id using errcode = 'foreign_key_violation';
            end if;
            v_holds := ledger.system_account_v1(a.currency, 'holds');
            v_now := clock_timestamp();
            a.last_entry_at := greatest(v_now, a.last_entry_at);
            v_at_us := (extract(epoch from a.last_entry_at) * 1000000)::bigint;
        end if;
        v_available := a.posted_micros - a.held_micros + a.credit_limit_micros;
        if r.amount > r.max_amount then
            v_problem[r.nth] := 'max_price_exceeded';
        elsif r.amount > v_available and r.amount > 0 then  -- what costs nothing needs no credit: test keys work on any account
            v_problem[r.nth] := 'insufficient_credit';
        else
            v_available := v_available - r.amount;
            a.held_micros := a.held_micros + r.amount;
            a.open_holds := a.open_holds + 1;
            a.version := a.version + 1;
            a.chain_head := ledger.entry_hash_v1(a.chain_head, a.id, a.version, v_at_us, 'hold', r.message_id, a.id, v_holds, r.amount,
                                                 a.posted_micros, a.held_micros, null, null);
            v_dispatch[r.nth] := '-infinity';
            if r.paced and a.dispatch_interval_us > 0 then
                v_dispatch[r.nth] := greatest(v_now, a.next_dispatch_at);
                a.next_dispatch_at := v_dispatch[r.nth] + a.dispatch_interval_us * interval '1 microsecond';
            end if;
            e_account := e_account || a.id; e_version := e_version || a.version; e_at := e_at || a.last_entry_at;
            e_message := e_message || r.message_id; e_holds := e_holds || v_holds; e_amount := e_amount || r.amount;
            e_posted := e_posted || a.posted_micros; e_held := e_held || a.held_micros; e_hash := e_hash || a.chain_head;
        end if;
        v_left[r.nth] := v_available;
        if r.last_of_account then
            s_account := s_account || a.id; s_held := s_held || a.held_micros; s_open := s_open || a.open_holds; s_version := s_version || a.version;
            s_head := s_head || a.chain_head; s_at := s_at || a.last_entry_at; s_next := s_next || a.next_dispatch_at;
        end if;
    end loop;
    insert into ledger.entries (account_id, version, day, at, kind, message_id, debit_account, credit_account, amount_micros,
                                posted_after_micros, held_after_micros, hash)
        select x.account_id, x.version, (x.at at time zone 'UTC')::date, x.at, 'hold', x.message_id, x.account_id, x.holds, x.amount, x.posted, x.held, x.hash
        from unnest(e_account, e_version, e_at, e_message, e_holds, e_amount, e_posted, e_held, e_hash)
             x(account_id, version, at, message_id, holds, amount, posted, held, hash);
    insert into ledger.credit_locks (message_id, account_id, amount_micros, hold_version, held_at)
        select x.message_id, x.account_id, x.amount, x.version, x.at
        from unnest(e_message, e_account, e_amount, e_version, e_at) x(message_id, account_id, amount, version, at) order by x.message_id;
    update ledger.accounts t set held_micros = x.held, open_holds = x.open, version = x.version, chain_head = x.head, last_entry_at = x.at, next_dispatch_at = x.next
        from unnest(s_account, s_held, s_open, s_version, s_head, s_at, s_next) x(account_id, held, open, version, head, at, next)
        where t.id = x.account_id and t.version <> x.version;
    return query select * from unnest(v_problem, v_left, v_dispatch);
end $$;
