-- Ends holds: capture, release, or capture late after a release (RULES 23). Each hold ends once; what is not HELD any more
-- (or, for a late capture, was captured late already) answers false and moves nothing. Answers in the order of the arrays.
-- Shape: three arrays of one length; p_kind is capture, release or late_capture. The caller has locked the accounts.
create function ledger.settle_holds_v1(p_message uuid[], p_kind ledger.entry_kind[], p_reason text[])
returns table (o_settled boolean, o_amount bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    a ledger.accounts;
    r record;
    v_n integer := coalesce(cardinality(p_message), 0);
    v_min uuid; v_max uuid;
    v_holds bigint; v_revenue bigint; v_at_us bigint; v_debit bigint; v_credit bigint;
    v_settled boolean[] := array_fill(false, array[v_n]);
    v_amount bigint[] := array_fill(null::bigint, array[v_n]);
    e_account bigint[] := '{}'; e_version bigint[] := '{}'; e_at timestamptz[] := '{}'; e_kind ledger.entry_kind[] := '{}'; e_message uuid[] := '{}';
    e_debit bigint[] := '{}'; e_credit bigint[] := '{}'; e_amount bigint[] := '{}'; e_posted bigint[] := '{}'; e_held bigint[] := '{}';
    e_reason text[] := '{}'; e_hash bytea[] := '{}';
    s_account bigint[] := '{}'; s_posted bigint[] := '{}'; s_held bigint[] := '{}'; s_open bigint[] := '{}'; s_over bigint[] := '{}';
    s_version bigint[] := '{}'; s_head bytea[] := '{}'; s_at timestamptz[] := '{}';
begin
    perform ledger.require_read_committed_v1();
    if v_n = 0 then
        return;
    end if;
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from ledger.accounts where id in (
        select l.account_id from unnest(p_message) m join ledger.credit_locks l on l.message_id = m and l.message_id between v_min and v_max) order by id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    for r in
        select x.message_id, x.kind, x.reason, x.nth, l.account_id, l.amount_micros as amount,
               lead(l.account_id) over (order by l.account_id, x.nth) is distinct from l.account_id as last_of_account
        from (select m.message_id, m.kind, m.reason, m.nth, row_number() over (partition by m.message_id order by m.nth) as copy
              from unnest(p_message, p_kind, p_reason) with ordinality m(message_id, kind, reason, nth)) x
        join ledger.credit_locks l on l.message_id = x.message_id and l.message_id between v_min and v_max
        where x.copy = 1 and case x.kind when 'late_capture' then l.state = 'RELEASED' and l.late_captured_at is null else l.state = 'HELD' end
        order by l.account_id, x.nth
    loop
        if a.id is distinct from r.account_id then
            select * into strict a from ledger.accounts where id = r.account_id;
            v_holds := ledger.system_account_v1(a.currency, 'holds');
            v_revenue := ledger.system_account_v1(a.currency, 'revenue');
            a.last_entry_at := greatest(clock_timestamp(), a.last_entry_at);
            v_at_us := (extract(epoch from a.last_entry_at) * 1000000)::bigint;
        end if;
        case r.kind
            when 'capture' then
                v_debit := v_holds; v_credit := v_revenue;
                a.held_micros := a.held_micros - r.amount; a.open_holds := a.open_holds - 1; a.posted_micros := a.posted_micros - r.amount;
            when 'release' then
                v_debit := v_holds; v_credit := a.id;
                a.held_micros := a.held_micros - r.amount; a.open_holds := a.open_holds - 1;
            when 'late_capture' then
                v_debit := a.id; v_credit := v_revenue;
                a.posted_micros := a.posted_micros - r.amount;
            else
                raise exception 'a hold does not end by %', r.kind using errcode = 'invalid_parameter_value';
        end case;
        -- What is missing, never more: a late capture raises it, what comes back lowers it first (RULES 23).
        a.overdrawn_micros := greatest(0, -(a.posted_micros - a.held_micros + a.credit_limit_micros));
        a.version := a.version + 1;
        a.chain_head := ledger.entry_hash_v1(a.chain_head, a.id, a.version, v_at_us, r.kind, r.message_id, v_debit, v_credit, r.amount,
                                             a.posted_micros, a.held_micros, null, r.reason);
        v_settled[r.nth] := true;
        v_amount[r.nth] := r.amount;
        e_account := e_account || a.id; e_version := e_version || a.version; e_at := e_at || a.last_entry_at; e_kind := e_kind || r.kind;
        e_message := e_message || r.message_id; e_debit := e_debit || v_debit; e_credit := e_credit || v_credit; e_amount := e_amount || r.amount;
        e_posted := e_posted || a.posted_micros; e_held := e_held || a.held_micros; e_reason := e_reason || r.reason; e_hash := e_hash || a.chain_head;
        if r.last_of_account then
            s_account := s_account || a.id; s_posted := s_posted || a.posted_micros; s_held := s_held || a.held_micros; s_open := s_open || a.open_holds;
            s_over := s_over || a.overdrawn_micros; s_version := s_version || a.version; s_head := s_head || a.chain_head; s_at := s_at || a.last_entry_at;
        end if;
    end loop;
    insert into ledger.entries (account_id, version, day, at, kind, message_id, debit_account, credit_account, amount_micros,
                                posted_after_micros, held_after_micros, reason, hash)
        select x.account_id, x.version, (x.at at time zone 'UTC')::date, x.at, x.kind, x.message_id, x.debit, x.credit, x.amount, x.posted, x.held, x.reason, x.hash
        from unnest(e_account, e_version, e_at, e_kind, e_message, e_debit, e_credit, e_amount, e_posted, e_held, e_reason, e_hash)
             x(account_id, version, at, kind, message_id, debit, credit, amount, posted, held, reason, hash);
    update ledger.credit_locks l
        set state = case x.kind when 'capture' then 'CAPTURED'::ledger.lock_state when 'release' then 'RELEASED' else l.state end,
            resolved_at = coalesce(l.resolved_at, x.at), reason = coalesce(l.reason, x.reason),
            late_captured_at = case x.kind when 'late_capture' then x.at else l.late_captured_at end
        from unnest(e_message, e_kind, e_reason, e_at) x(message_id, kind, reason, at)
        where l.message_id = x.message_id and l.message_id between v_min and v_max;
    update ledger.accounts t set posted_micros = x.posted, held_micros = x.held, open_holds = x.open, overdrawn_micros = x.over,
                                 version = x.version, chain_head = x.head, last_entry_at = x.at
        from unnest(s_account, s_posted, s_held, s_open, s_over, s_version, s_head, s_at) x(account_id, posted, held, open, over, version, head, at)
        where t.id = x.account_id;
    return query select * from unnest(v_settled, v_amount);
end $$;
