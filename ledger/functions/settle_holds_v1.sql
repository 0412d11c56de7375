-- The chain of an account's entries as a running value: over (partition by account order by version), started from the head it has.
create or replace function ledger.next_link_v1(
    p_link bytea, p_head bytea, p_account bigint, p_version bigint, p_at timestamptz, p_kind ledger.entry_kind, p_message uuid,
    p_debit bigint, p_credit bigint, p_amount bigint, p_posted_after bigint, p_held_after bigint, p_reason text
) returns bytea language plpgsql stable as $$
begin
    return ledger.entry_hash_v1(coalesce(p_link, p_head), p_account, p_version, (extract(epoch from p_at) * 1000000)::bigint, p_kind, p_message,
                                p_debit, p_credit, p_amount, p_posted_after, p_held_after, null, p_reason);
end $$;
create or replace aggregate ledger.chain_v1(
    p_head bytea, p_account bigint, p_version bigint, p_at timestamptz, p_kind ledger.entry_kind, p_message uuid,
    p_debit bigint, p_credit bigint, p_amount bigint, p_posted_after bigint, p_held_after bigint, p_reason text
) (sfunc = ledger.next_link_v1, stype = bytea);

-- Ends holds: capture, release, or capture late after a release (RULES 23). Each hold ends once; what is not HELD any more
-- (or, for a late capture, was captured late already) moves nothing. Answers for each position that ended a hold.
-- Shape: three arrays of one length; p_kind is capture, release or late_capture. The caller has locked the messages' states and holds, and
-- nobody touches a hold without them. The accounts are locked here, last of all (docs/adr/0020): everybody who sends for a busy account
-- waits for its row until the commit. A caller that moves money in more steps than one, or writes accounts itself, locks all of them
-- before the first, in order.
--
-- How rows are found, here and in the functions beside it: by sorted arrays of ids, "= any (ids) and between the first and the last", one
-- walk through the index of the one partition; what belongs to a row stands in an array beside the ids, at width_bucket(id, ids), a
-- binary search. A join with unnest(…) would be planned for ten rows and a small partition, and then compare each with each.
create or replace function ledger.settle_holds_v1(p_message uuid[], p_kind ledger.entry_kind[], p_reason text[])
returns table (o_nth integer, o_amount bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    m_id uuid[]; m_nth integer[]; m_kind ledger.entry_kind[]; m_reason text[];
    h_id uuid[]; h_nth integer[]; h_kind ledger.entry_kind[]; h_reason text[]; h_account bigint[]; h_amount bigint[];
    a_id bigint[]; a_posted bigint[]; a_held bigint[]; a_open bigint[]; a_version bigint[]; a_head bytea[]; a_at timestamptz[];
    a_holds bigint[]; a_revenue bigint[];
begin
    perform ledger.require_read_committed_v1();
    if coalesce(cardinality(p_message), 0) = 0 then
        return;
    end if;
    -- The same message twice is won by the first.
    select array_agg(x.id), array_agg(x.nth::integer), array_agg(x.kind), array_agg(x.reason) into m_id, m_nth, m_kind, m_reason
        from (select distinct on (y.id) y.id, y.kind, y.reason, y.nth from unnest(p_message, p_kind, p_reason) with ordinality y(id, kind, reason, nth)
              order by y.id, y.nth) x;
    v_min := m_id[1];
    v_max := m_id[cardinality(m_id)];
    select array_agg(t.id), array_agg(m_nth[t.i]), array_agg(m_kind[t.i]), array_agg(m_reason[t.i]), array_agg(t.account_id), array_agg(t.amount)
        into h_id, h_nth, h_kind, h_reason, h_account, h_amount
        from (select l.message_id as id, l.account_id, l.amount_micros as amount, l.state, l.late_captured_at, width_bucket(l.message_id, m_id) as i
              from ledger.credit_locks l where l.message_id = any (m_id) and l.message_id between v_min and v_max order by l.message_id) t
        where case m_kind[t.i] when 'late_capture' then t.state = 'RELEASED' and t.late_captured_at is null else t.state = 'HELD' end;
    if h_id is null then
        return;
    end if;
    select array_agg(distinct x order by x) into a_id from unnest(h_account) x;
    perform 1 from ledger.accounts where id = any (a_id) order by id for update;
    v_now := clock_timestamp();
    with owners as materialized (
        select * from ledger.accounts a where a.id = any (a_id)
    ), currencies as materialized (
        select d.currency, ledger.system_account_v1(d.currency, 'holds') as holds, ledger.system_account_v1(d.currency, 'revenue') as revenue
        from (select distinct o.currency from owners o) d
    )
    select array_agg(t.posted_micros), array_agg(t.held_micros), array_agg(t.open_holds), array_agg(t.version), array_agg(t.chain_head),
           array_agg(greatest(v_now, t.last_entry_at)), array_agg(t.holds), array_agg(t.revenue)
        into a_posted, a_held, a_open, a_version, a_head, a_at, a_holds, a_revenue
        from (select o.*, c.holds, c.revenue from owners o join currencies c on c.currency = o.currency order by o.id) t;
    if cardinality(a_version) is distinct from cardinality(a_id) then
        raise exception 'of % accounts with holds % are there', cardinality(a_id), cardinality(a_version) using errcode = 'data_corrupted';
    end if;

    with numbered as (
        select x.id, x.kind, x.reason, x.account_id, x.amount, x.i, row_number() over w as n,
               count(*) filter (where x.kind <> 'late_capture') over w as closed,
               coalesce(sum(x.amount) filter (where x.kind <> 'release') over w, 0)::bigint as taken,
               coalesce(sum(x.amount) filter (where x.kind <> 'late_capture') over w, 0)::bigint as freed
        from (select y.*, width_bucket(y.account_id, a_id) as i
              from unnest(h_id, h_nth, h_kind, h_reason, h_account, h_amount) y(id, nth, kind, reason, account_id, amount) offset 0) x
        window w as (partition by x.account_id order by x.nth rows unbounded preceding)
    ), valued as (
        select n.*, a_version[n.i] + n.n as version, a_at[n.i] as at, a_posted[n.i] - n.taken as posted, a_held[n.i] - n.freed as held,
               case n.kind when 'late_capture' then n.account_id else a_holds[n.i] end as debit,
               case n.kind when 'release' then n.account_id else a_revenue[n.i] end as credit
        from numbered n
    ), linked as materialized (
        select v.*, ledger.chain_v1(a_head[v.i], v.account_id, v.version, v.at, v.kind, v.id, v.debit, v.credit, v.amount, v.posted, v.held, v.reason)
                        over (partition by v.account_id order by v.n rows unbounded preceding) as hash
        from valued v
    ), booked as (
        insert into ledger.entries (account_id, version, day, at, kind, message_id, debit_account, credit_account, amount_micros,
                                    posted_after_micros, held_after_micros, reason, hash)
            select v.account_id, v.version, (v.at at time zone 'UTC')::date, v.at, v.kind, v.id, v.debit, v.credit, v.amount, v.posted, v.held, v.reason, v.hash
            from linked v
    )
    select array_agg(t.posted), array_agg(t.held), array_agg(a_open[t.i] - t.closed), array_agg(t.version), array_agg(t.hash)
        into a_posted, a_held, a_open, a_version, a_head
        from (select distinct on (v.account_id) v.* from linked v order by v.account_id, v.version desc) t;
    update ledger.accounts a
        -- What is missing, never more: a late capture raises overdrawn, what comes back lowers it first (RULES 23).
        set (posted_micros, held_micros, overdrawn_micros, open_holds, version, chain_head, last_entry_at) = (
            select a_posted[i], a_held[i], greatest(0, -(a_posted[i] - a_held[i] + a.credit_limit_micros)), a_open[i], a_version[i], a_head[i], a_at[i]
            from width_bucket(a.id, a_id) i)
        where a.id = any (a_id);
    update ledger.credit_locks l
        set state = case h_kind[width_bucket(l.message_id, h_id)] when 'capture' then 'CAPTURED'::ledger.lock_state when 'release' then 'RELEASED' else l.state end,
            resolved_at = coalesce(l.resolved_at, a_at[width_bucket(l.account_id, a_id)]),
            reason = coalesce(l.reason, h_reason[width_bucket(l.message_id, h_id)]),
            late_captured_at = case h_kind[width_bucket(l.message_id, h_id)] when 'late_capture' then a_at[width_bucket(l.account_id, a_id)] else l.late_captured_at end
        where l.message_id = any (h_id) and l.message_id between v_min and v_max;
    return query select * from unnest(h_nth, h_amount);
end $$;
