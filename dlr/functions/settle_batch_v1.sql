-- Settles receipts: finds their messages, notes them on the attempts, and where that decides a message moves it and its money
-- (DESIGN 3, RULES 17, 23, 24). For each position:
--   moved          this message reached its final state by this call; o_callback is its callback, leased to the caller
--   noted          kept on the attempt; it ends nothing (an intermediate report, a part of several, a retry under way, or the message has
--                  ended and it does not say delivered). What the carrier has whole, though its answer was lost, is SENT: told by
--                  o_state, and by o_created_at when
--   repeated       the part has its final receipt already; the first stands
--   late_capture   delivered after the hold was released: taken by an entry of its own kind; one callback tells it
--   late           delivered after the end, and nothing to take (taken with the submit, over 7 days after it, or waived); one callback
--                  tells it
--   waiting        no such reference yet: kept with a longer lease, up to p_keep_hours; then unmatched. Also for minutes, where only
--                  messages that are over have it, and nothing shows that one of them is meant
--   ambiguous      several open messages have this reference: kept for an operator, never guessed
--   done           settled before
-- What moved is answered with all that its callback and its fact say, so that nobody has to ask again: from o_callback on as
-- load_callbacks_v1 would. A callback without o_event_type is loaded by that.
--
-- The ordinary case (one part, one attempt, SENT, its first final receipt) is settled by a few statements for all of them; the rest
-- goes through settle_rest_v1, in the same call and under the same locks. How rows are found: see ledger/functions/settle_holds_v1.sql.
create or replace function tollwire.settle_batch_v1(p_receipt uuid[], p_lease_seconds integer, p_keep_hours integer)
returns table (o_outcome text, o_client bigint, o_region text, o_lane tollwire.lane, o_carrier_id smallint, o_submitted_at timestamptz,
               o_callback uuid, o_skip text, o_endpoint bigint, o_url text, o_own_url boolean, o_event_type text, o_sequence smallint, o_attempts smallint, o_created_at timestamptz,
               o_message uuid, o_state tollwire.message_state, o_msisdn text, o_sender text, o_client_ref text, o_segments smallint,
               o_price bigint, o_currency text, o_charged boolean, o_error text, o_message_attempts smallint, o_possible_duplicate boolean,
               o_late_receipt boolean, o_parts_delivered smallint, o_message_created_at timestamptz, o_final_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    c_match_window constant interval := '7 days';
    v_now timestamptz;
    v_soon timestamptz;  -- nothing was submitted after it: days to come need no look
    v_min uuid; v_max uuid;
    v_m_min uuid; v_m_max uuid;
    v_n integer := coalesce(cardinality(p_receipt), 0);
    -- What one reference leads to, by message; and the positions that need a closer look.
    m_nth integer[]; m_id uuid[]; m_msisdn text[]; m_client bigint[];
    x_nth integer[];
    -- The rest: positions, and for each what it matched, or already its outcome.
    r_nth integer[] := '{}'; r_message uuid[] := '{}'; r_attempt smallint[] := '{}'; r_part smallint[] := '{}'; r_outcome text[] := '{}';
    v_accounts bigint[]; v_has_rest boolean;
    -- Under the locks: states and holds by message, receipts by their ids.
    s_id uuid[]; s_state tollwire.message_state[]; s_attempt smallint[]; s_parts smallint[]; s_sequence smallint[]; s_carrier smallint[]; s_twice boolean[]; s_submitted timestamptz[];
    l_state ledger.lock_state[];
    k_id uuid[]; k_state tollwire.receipt_state[]; k_at timestamptz[]; k_open boolean[];
    -- The ordinary ends, by message; and their receipts.
    f_nth integer[]; f_id uuid[]; f_word tollwire.receipt_state[]; f_at timestamptz[]; f_kind ledger.entry_kind[]; f_reason text[];
    f_state tollwire.message_state[]; f_callback uuid[]; f_final timestamptz[]; f_endpoint bigint[]; f_url text[]; f_own boolean[]; f_skip text[];
    g_id uuid[]; g_message uuid[];
    h_id uuid[]; h_kind ledger.entry_kind[]; h_reason text[];  -- of them, those that end a hold
begin
    perform ledger.require_read_committed_v1();
    if v_n = 0 then
        return;
    end if;
    v_now := clock_timestamp();
    v_soon := v_now + interval '1 minute';
    select array_agg(x order by x) into k_id from unnest(p_receipt) x;
    v_min := k_id[1];
    v_max := k_id[v_n];

    -- 1. Match. References are written once, so reading them before any lock is safe; what they lead to is read again under locks.
    select array_agg(t.nth) filter (where t.is_only), array_agg(t.message_id) filter (where t.is_only), array_agg(t.msisdn) filter (where t.is_only),
           array_agg(t.nth) filter (where not t.is_only)
        into m_nth, m_id, m_msisdn, x_nth
        from (
            select z.*, z.is_fit and z.twins = 1 and count(*) over (partition by z.message_id) = 1 as is_only
            from (
                select x.nth::integer as nth, f.message_id, k.msisdn, count(*) over (partition by x.nth) as twins,
                       coalesce(k.settled_at is null and f.attempt_no = 1 and f.part_no = 1 and coalesce(k.part_no, 1) = 1 and coalesce(k.echo_message_id, f.message_id) = f.message_id, false) as is_fit
                from unnest(p_receipt) with ordinality x(id, nth)
                left join lateral (
                    select r.carrier_id, r.reference, r.received_at, r.settled_at, r.msisdn, r.part_no, r.echo_message_id
                    from tollwire.receipts r where r.id = x.id and r.id between v_min and v_max offset 0) k on true
                left join lateral (
                    select c.message_id, c.attempt_no, c.part_no
                    from tollwire.carrier_references c
                    where c.carrier_id = k.carrier_id and c.reference = k.reference and c.submitted_at > k.received_at - c_match_window
                      and c.submitted_at <= k.received_at + c_match_window and c.submitted_at <= v_soon
                      -- What it says of a further part may be about a message that we submitted whole: then nothing of that is ordinary.
                      and (k.part_no is null or c.part_no = k.part_no or c.part_no = 1 and k.part_no > 1)
                    offset 0) f on true
            ) z
            order by z.message_id
        ) t;
    if m_id is not null then
        v_m_min := m_id[1];
        v_m_max := m_id[cardinality(m_id)];
        select array_agg(t.message_id), array_agg(t.state = 'SENT' and t.attempt_no = 1 and t.parts_total = 1) into s_id, s_twice
            from (select * from tollwire.message_states s where s.message_id = any (m_id) and s.message_id between v_m_min and v_m_max order by s.message_id) t;
        select array_agg(x.nth) filter (where x.is_plain), array_agg(x.id) filter (where x.is_plain), array_agg(x.client_id) filter (where x.is_plain),
               x_nth || array_agg(x.nth) filter (where not x.is_plain)
            into m_nth, m_id, m_client, x_nth
            from (select y.nth, y.id, t.client_id, coalesce(s_twice[width_bucket(y.id, s_id)] and s_id[width_bucket(y.id, s_id)] = y.id
                                                            and (y.msisdn is null or y.msisdn = t.msisdn), false) as is_plain
                  from unnest(m_nth, m_id, m_msisdn) y(nth, id, msisdn)
                  left join lateral (select c.client_id, c.msisdn from tollwire.messages c where c.id = y.id and c.id between v_m_min and v_m_max offset 0) t on true) x;
    end if;
    if cardinality(x_nth) > 0 then
        select array_agg(distinct n order by n) into x_nth from unnest(x_nth) n;  -- those with several references came several times
        select array_agg(x_nth[t.o_nth]), array_agg(t.o_message), array_agg(t.o_attempt), array_agg(t.o_part), array_agg(t.o_outcome), array_agg(t.o_client)
            into r_nth, r_message, r_attempt, r_part, r_outcome, v_accounts
            from tollwire.match_receipts_v1((select array_agg(p_receipt[n] order by k) from unnest(x_nth) with ordinality x(n, k)), p_keep_hours) t;
    end if;

    -- 2. Lock, in the one order (docs/adr/0020).
    select array_agg(distinct i order by i) filter (where i is not null) into s_id from unnest(m_id || r_message) i;
    if s_id is not null then
        v_m_min := s_id[1];
        v_m_max := s_id[cardinality(s_id)];
        select array_agg(distinct c) into v_accounts from unnest(m_client || v_accounts) c;
        select array_agg(t.message_id), array_agg(t.state), array_agg(t.attempt_no), array_agg(t.parts_total), array_agg(t.sequence), array_agg(t.carrier_id),
               array_agg(t.possible_duplicate), array_agg(t.submitted_at)
            into s_id, s_state, s_attempt, s_parts, s_sequence, s_carrier, s_twice, s_submitted
            from (select * from tollwire.message_states s where s.message_id = any (s_id) and s.message_id between v_m_min and v_m_max
                  order by s.message_id for update) t;
        select array_agg(t.state) into l_state
            from (select l.state from ledger.credit_locks l where l.message_id = any (s_id) and l.message_id between v_m_min and v_m_max
                  order by l.message_id for update) t;
        if cardinality(r_nth) > 0 then  -- what is SENT has none
            perform 1 from tollwire.outbox where message_id = any (r_message) order by message_id for update;
        end if;
    end if;
    v_now := clock_timestamp();
    select array_agg(t.id), array_agg(t.state), array_agg(coalesce(t.done_at, v_now)), array_agg(t.settled_at is null) into k_id, k_state, k_at, k_open
        from (select * from tollwire.receipts r where r.id = any (k_id) and r.id between v_min and v_max order by r.id for update) t;
    if s_id is not null and cardinality(s_id) is distinct from cardinality(l_state) then
        raise exception 'of % messages % have a hold', cardinality(s_id), cardinality(l_state) using errcode = 'data_corrupted';
    end if;

    -- 3. The ordinary: the message's only attempt, its only part, and a final word.
    if m_id is not null then
        select array_agg(t.nth) filter (where t.is_ordinary), array_agg(t.id) filter (where t.is_ordinary), array_agg(t.word) filter (where t.is_ordinary),
               array_agg(k_at[t.k]) filter (where t.is_ordinary),
               array_agg(case when l_state[t.i] = 'HELD' then case t.word when 'delivered' then 'capture'::ledger.entry_kind else 'release' end end)
                   filter (where t.is_ordinary),
               r_nth || array_agg(t.nth) filter (where not t.is_ordinary), r_message || array_agg(t.id) filter (where not t.is_ordinary),
               r_attempt || array_agg(1::smallint) filter (where not t.is_ordinary), r_part || array_agg(1::smallint) filter (where not t.is_ordinary),
               r_outcome || array_agg(null::text) filter (where not t.is_ordinary)
            into f_nth, f_id, f_word, f_at, f_kind, r_nth, r_message, r_attempt, r_part, r_outcome
            from (
                select y.*, k_state[y.k] as word,
                       s_state[y.i] = 'SENT' and s_attempt[y.i] = 1 and s_parts[y.i] = 1 and k_open[y.k]
                           and k_state[y.k] in ('delivered', 'undelivered', 'expired', 'rejected') as is_ordinary
                from (select x.nth, x.id, width_bucket(x.id, s_id) as i, width_bucket(p_receipt[x.nth], k_id) as k from unnest(m_nth, m_id) x(nth, id) offset 0) y
            ) t;
    end if;
    if f_id is not null then
        select array_agg(case w when 'delivered' then 'delivered' when 'expired' then 'expired_by_carrier' else 'undelivered' end order by n)
            into f_reason from unnest(f_word) with ordinality x(w, n);
        update tollwire.attempts a
            set receipt = f_word[width_bucket(a.message_id, f_id)], receipt_at = f_at[width_bucket(a.message_id, f_id)]
            where a.message_id = any (f_id) and a.message_id between v_m_min and v_m_max and a.attempt_no = 1 and a.part_no = 1;
        select array_agg(t.o_state), array_agg(t.o_callback), array_agg(t.o_at), array_agg(t.o_endpoint), array_agg(t.o_url), array_agg(t.o_own_url), array_agg(t.o_skip)
            into f_state, f_callback, f_final, f_endpoint, f_url, f_own, f_skip
            from tollwire.end_messages_v1(
                f_id,
                (select array_agg(case w when 'delivered' then 'delivered'::tollwire.message_event when 'expired' then 'carrier_expired' else 'undelivered' end order by n)
                 from unnest(f_word) with ordinality x(w, n)),
                f_reason, p_lease_seconds) t;
        if cardinality(f_state) is distinct from cardinality(f_id) then
            raise exception 'of % messages % were brought to their end', cardinality(f_id), cardinality(f_state) using errcode = 'data_corrupted';
        end if;
        select array_agg(p_receipt[x.nth] order by p_receipt[x.nth]), array_agg(x.id order by p_receipt[x.nth]) into g_id, g_message
            from unnest(f_nth, f_id) x(nth, id);
        update tollwire.receipts k
            set settled_at = v_now, outcome = 'moved', message_id = g_message[width_bucket(k.id, g_id)], attempt_no = 1, part_no = 1, tries = least(k.tries + 1, 30000)
            where k.id = any (g_id) and k.id between v_min and v_max;
        -- What was captured at the submit ends without money.
        select array_agg(x.id), array_agg(x.kind), array_agg(x.reason) into h_id, h_kind, h_reason
            from unnest(f_id, f_kind, f_reason) x(id, kind, reason) where x.kind is not null;
    end if;
    -- The rest moves money in steps of its own: all accounts before the first of them (docs/adr/0020), and the ordinary ends' entries first.
    v_has_rest := array_remove(r_message, null) <> '{}';
    if v_has_rest then
        perform 1 from ledger.accounts where id = any (v_accounts) order by id for update;
        perform ledger.settle_holds_v1(h_id, h_kind, h_reason);
    end if;

    return query
        select z.outcome, m.client_id, m.region, m.lane, z.carrier_id, s_submitted[width_bucket(m.id, s_id)],
               z.callback_id, z.skip, z.endpoint_id, z.url, z.own_url, tollwire.event_type_v1(z.state), z.sequence, 0::smallint, z.at,
               z.message_id, z.state, m.msisdn, m.sender, m.client_ref, m.segments, m.price_micros, m.currency, z.charged, z.error, z.attempts, z.twice,
               false, z.parts_delivered, m.created_at, case when z.outcome = 'moved' then z.at end
        from (select x.nth, 'moved' as outcome, x.message_id, x.state, x.callback_id, (s_sequence[x.i] + 1)::smallint as sequence, 1::smallint as attempts, s_carrier[x.i] as carrier_id,
                     case x.state when 'EXPIRED' then 'expired_by_carrier' when 'UNDELIVERED' then 'undelivered' end as error, s_twice[x.i] as twice,
                     (x.state = 'DELIVERED')::integer::smallint as parts_delivered, x.at, l_state[x.i] = 'CAPTURED' or coalesce(x.kind = 'capture', false) as charged, x.endpoint_id, x.url, x.own_url, x.skip
              from (select y.*, width_bucket(y.message_id, s_id) as i
                    from unnest(f_nth, f_id, f_state, f_callback, f_kind, f_final, f_endpoint, f_url, f_own, f_skip)
                         y(nth, message_id, state, callback_id, kind, at, endpoint_id, url, own_url, skip) offset 0) x
              union all
              select r_nth[t.o_nth], t.o_outcome, t.o_message, t.o_state, t.o_callback, t.o_sequence, t.o_attempts, t.o_carrier_id, t.o_error, t.o_possible_duplicate,
                     t.o_parts_delivered, t.o_at, t.o_charged, t.o_endpoint, t.o_url, t.o_own_url, t.o_skip
              from tollwire.settle_rest_v1((select array_agg(p_receipt[n] order by k) from unnest(r_nth) with ordinality x(n, k)),
                                           r_message, r_attempt, r_part, r_outcome, p_lease_seconds) t) z
        left join lateral (select * from tollwire.messages c where c.id = z.message_id and c.id between v_m_min and v_m_max offset 0) m on true
        order by z.nth;

    -- 4. The ordinary ends' money, at last: the answer stands already, and what follows is the commit.
    if v_has_rest is not true then
        perform ledger.settle_holds_v1(h_id, h_kind, h_reason);
    end if;
end $$;

grant execute on function tollwire.settle_batch_v1 to tollwire_dlr;
