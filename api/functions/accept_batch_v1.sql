-- Accepts messages: one call is one flush (DESIGN 2, RULES 1 to 11). For each position, in arrival order within an account:
--   accepted          hold placed; message, text, state and outbox lease written
--   replayed          the key (or the id, when the same call is sent again) was accepted before; o_message is that message
--   refused           decided now; remembered under the key, if there is one
--   refused_before    the key was refused before, and stays refused
--   mismatch          the key stands for another request
-- p_refusal names what the caller decided before (a blocked destination or sender): remembered, never held.
-- A replay of a dead letter names it in p_replay_of; p_item is then its number, and (dead letter, number) is unique (RULES 21). Its
-- refusal is not remembered: an operator tops up and asks for it again, and knows what he sends. What was delivered since, also
-- as another replay, is refused: looked at under the account's lock, which a capture takes too, so that none goes unseen.
-- Arguments are read by subscripts (p_key[n]): as a column of an unnest of them all, each would cost twice as much.
-- The outbox row is leased to the caller for p_lease_seconds when it may be dispatched now, else it waits for its dispatch_at.
create or replace function tollwire.accept_batch_v1(
    p_account bigint[], p_message uuid[], p_key text[], p_item smallint[], p_fingerprint bytea[], p_refusal text[], p_refusal_args jsonb[],
    p_amount bigint[], p_max_price bigint[], p_msisdn text[], p_region text[], p_sender text[], p_lane tollwire.lane[], p_encoding text[],
    p_segments smallint[], p_currency text[], p_rate_version bigint[], p_client_ref text[], p_delivery tollwire.delivery[], p_charge tollwire.charge[],
    p_send_at timestamptz[], p_valid_seconds integer[], p_callback_url text[], p_is_test boolean[], p_text bytea[], p_text_days smallint[],
    p_carrier smallint[], p_parts smallint[], p_replay_of uuid[], p_fingerprint_version smallint, p_incarnation bigint, p_lease_seconds integer
) returns table (o_outcome text, o_message uuid, o_problem text, o_args jsonb, o_available bigint, o_state tollwire.message_state,
                 o_created_at timestamptz, o_dispatch_now boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    c_slot_seconds constant integer := 43200;
    c_slots_kept constant integer := 6;  -- six whole slots of 12 h before this one: 72 h
    v_n integer := coalesce(cardinality(p_message), 0);
    v_now timestamptz;
    v_soon timestamptz;  -- what is due by then is due: the clockwork would not be faster
    v_slot integer;
    v_min uuid; v_max uuid;
    r record;
    v_outcome text[] := array_fill(null::text, array[v_n]);
    v_message uuid[] := p_message;
    v_problem text[] := array_fill(null::text, array[v_n]);
    v_args jsonb[] := array_fill(null::jsonb, array[v_n]);
    v_available bigint[] := array_fill(null::bigint, array[v_n]);
    v_dispatch timestamptz[] := array_fill(null::timestamptz, array[v_n]);
    v_is_plain boolean;
    v_fresh integer[] := '{}';
    h_account bigint[]; h_message uuid[]; h_amount bigint[]; h_max bigint[]; h_paced boolean[];  -- of those, what asks for a hold
    v_twins integer[] := '{}'; v_first integer[] := '{}';
    i integer; j integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then  -- asked here: the call is a statement, of every flush
        perform ledger.require_read_committed_v1();
    end if;
    if v_n = 0 then
        return;
    end if;
    perform 1 from ledger.accounts where id = any (p_account) order by id for update;
    -- From here on nobody else decides for these accounts: what the next statement reads is the truth (RULES 2, 11).
    v_now := clock_timestamp();
    v_soon := v_now + interval '50 milliseconds';
    v_slot := floor(extract(epoch from v_now) / c_slot_seconds)::integer;
    -- The ordinary flush: nothing in it was seen before, nothing is in it twice, nothing was refused. (Two keys of one hash only
    -- cost it the short way.)
    select min(p_message[n]::text collate "C")::uuid, max(p_message[n]::text collate "C")::uuid,
           count(distinct p_message[n]) = v_n and count(p_refusal[n]) = 0
               and count(distinct hashtextextended(p_key[n], p_account[n] * 40000 + p_item[n])) = count(p_key[n])
        into v_min, v_max, v_is_plain from generate_series(1, v_n) n;
    v_is_plain := v_is_plain
        and not exists (select from ledger.credit_locks l where l.message_id = any (p_message) and l.message_id between v_min and v_max)
        -- Of any of the accounts, under any of the keys: wider than what is asked, and read in one pass of each slot's index.
        and not exists (select from tollwire.idempotency_keys k where k.account_id = any (p_account) and k.key = any (p_key)
                        and k.slot >= v_slot - c_slots_kept and k.slot <= v_slot + 1);
    -- A replay that is not refused goes the short way too: else all that is sent beside it would go the long one.
    if v_is_plain and num_nonnulls(variadic p_replay_of) > 0 then
        v_is_plain := not exists (select from unnest(p_replay_of) x(id) where x.id is not null and tollwire.delivered_late_v1(x.id));
    end if;
    if v_is_plain then
        v_fresh := array(select generate_series(1, v_n));
    else
        for r in
            select x.nth::integer as nth, x.fingerprint, x.refusal, x.key,
                   least(min(x.nth) over (partition by x.message_id),
                         case when x.key is not null then min(x.nth) over (partition by x.account_id, x.key, x.item) end)::integer as first_nth,
                   k.message_id as known_message, k.fingerprint as known_fingerprint, k.problem as known_problem, k.problem_args as known_args,
                   l.message_id is not null as same_id
            from unnest(p_account, p_message, p_key, p_item, p_fingerprint, p_refusal) with ordinality
                 x(account_id, message_id, key, item, fingerprint, refusal, nth)
            left join lateral (
                select k.* from tollwire.idempotency_keys k
                where k.account_id = x.account_id and k.key = x.key and k.item = x.item
                  -- One slot ahead too: after a failover the clock may stand a little before what was written.
                  and k.slot >= v_slot - c_slots_kept and k.slot <= v_slot + 1 and k.created_at > v_now - interval '72 hours'
                order by k.slot desc limit 1) k on true
            left join ledger.credit_locks l on l.message_id = x.message_id and l.message_id between v_min and v_max
            order by x.nth
        loop
            if r.same_id then
                v_outcome[r.nth] := 'replayed';
            elsif r.known_message is not null then
                v_message[r.nth] := r.known_message;
                if r.known_fingerprint <> r.fingerprint then
                    v_outcome[r.nth] := 'mismatch';
                elsif r.known_problem is not null then
                    v_outcome[r.nth] := case when r.known_message = p_message[r.nth] then 'refused' else 'refused_before' end;
                    v_problem[r.nth] := r.known_problem;
                    v_args[r.nth] := r.known_args;
                else
                    v_outcome[r.nth] := 'replayed';
                end if;
            elsif r.first_nth < r.nth then
                v_twins := v_twins || r.nth; v_first := v_first || r.first_nth;
            elsif p_replay_of[r.nth] is not null and tollwire.delivered_late_v1(p_replay_of[r.nth]) then
                v_outcome[r.nth] := 'refused';
                v_problem[r.nth] := 'already_delivered';
            elsif r.refusal is not null then
                v_outcome[r.nth] := 'refused';
                v_problem[r.nth] := r.refusal;
                v_args[r.nth] := p_refusal_args[r.nth];
            else
                v_fresh := v_fresh || r.nth;
            end if;
        end loop;
    end if;

    -- What is not scheduled takes a place in its account's pace; what is scheduled takes it when its time has come, and a test message
    -- never: a client's live messages do not wait behind what its test keys send.
    if v_is_plain then
        h_account := p_account; h_message := p_message; h_amount := p_amount; h_max := p_max_price;
    else
        select array_agg(p_account[n] order by k), array_agg(p_message[n] order by k), array_agg(p_amount[n] order by k), array_agg(p_max_price[n] order by k)
            into h_account, h_message, h_amount, h_max from unnest(v_fresh) with ordinality f(n, k);
    end if;
    h_paced := array(select not p_is_test[n] and (p_send_at[n] is null or p_send_at[n] <= v_soon) from unnest(v_fresh) n);
    for r in
        select v_fresh[h.k] as nth, h.o_problem, h.o_available, h.o_dispatch_at
        from ledger.place_holds_v1(h_account, h_message, h_amount, h_max, h_paced) with ordinality h(o_problem, o_available, o_dispatch_at, k)
    loop
        v_outcome[r.nth] := case when r.o_problem is null then 'accepted' else 'refused' end;
        v_problem[r.nth] := r.o_problem;
        v_available[r.nth] := r.o_available;
        v_dispatch[r.nth] := greatest(r.o_dispatch_at, p_send_at[r.nth], v_now);
        if r.o_problem is not null then
            v_args[r.nth] := jsonb_build_object('price_micros', p_amount[r.nth], 'available_micros', r.o_available, 'max_price_micros', p_max_price[r.nth]);
        end if;
    end loop;

    -- The same key or id twice in one call: the second gets the first one's answer (RULES 5).
    for i in 1 .. cardinality(v_twins) loop
        j := v_first[i];
        v_message[v_twins[i]] := v_message[j];
        if p_fingerprint[v_twins[i]] <> p_fingerprint[j] then
            v_outcome[v_twins[i]] := 'mismatch';
            continue;
        end if;
        v_problem[v_twins[i]] := v_problem[j]; v_args[v_twins[i]] := v_args[j];
        v_outcome[v_twins[i]] := case v_outcome[j] when 'accepted' then 'replayed' when 'refused' then 'refused_before' else v_outcome[j] end;
    end loop;

    insert into tollwire.idempotency_keys (slot, account_id, key, item, fingerprint, fingerprint_version, message_id, problem, problem_args, created_at)
        select v_slot, p_account[n], p_key[n], p_item[n], p_fingerprint[n], p_fingerprint_version, p_message[n], v_problem[n], v_args[n], v_now
        from generate_series(1, v_n) n
        where p_key[n] is not null and v_outcome[n] in ('accepted', 'refused') and v_message[n] = p_message[n]
          and (v_outcome[n] = 'accepted' or p_replay_of[n] is null)
          -- A refusal that this very call was told before stands there already. Nothing else does, under the accounts' locks; were it not so,
          -- the call must fail: a key that went unwritten would let its message be sent again.
          and (v_outcome[n] = 'accepted' or (select k.slot from tollwire.idempotency_keys k
                                             where k.account_id = p_account[n] and k.key = p_key[n] and k.item = p_item[n] and k.slot = v_slot limit 1) is null)
        order by p_account[n], p_key[n], p_item[n];

    with ok as materialized (
        select n, p_message[n] as id, p_lane[n] as lane, p_send_at[n] as send_at, p_carrier[n] as carrier_id, v_dispatch[n] as dispatch_at,
               case when p_send_at[n] > v_soon then 'SCHEDULED'::tollwire.message_state else 'QUEUED' end as state,
               v_dispatch[n] <= v_soon as due, greatest(v_now, p_send_at[n]) + p_valid_seconds[n] * interval '1 second' as valid_until
        from generate_series(1, v_n) n
        where v_outcome[n] = 'accepted'
    ), message as (
        insert into tollwire.messages (id, client_id, msisdn, region, sender, lane, encoding, segments, price_micros, currency, rate_version, client_ref,
                                       delivery, charge, send_at, valid_until, callback_url, is_test, replay_of, created_at)
            select id, p_account[n], p_msisdn[n], p_region[n], p_sender[n], lane, p_encoding[n], p_segments[n], p_amount[n], p_currency[n],
                   p_rate_version[n], p_client_ref[n], p_delivery[n], p_charge[n], send_at, valid_until, p_callback_url[n], p_is_test[n],
                   p_replay_of[n], v_now from ok
    ), state as (
        insert into tollwire.message_states (message_id, state, carrier_id, parts_total, updated_at)
            select id, state, carrier_id, p_parts[n], v_now from ok
    ), body as (
        insert into tollwire.message_texts (message_id, sealed, expires_on)
            -- 0 days: gone at the final state. Else the text outlives the message's validity, since a retry needs it.
            select id, p_text[n], case when p_text_days[n] = 0 then date '0001-01-01' else (valid_until at time zone 'UTC')::date + p_text_days[n] end from ok
    ), replay as (
        insert into tollwire.replays (replay_of, number, message_id) select p_replay_of[n], p_item[n], id from ok where p_replay_of[n] is not null
    )
    insert into tollwire.outbox (message_id, lane, carrier_id, due_at, dispatch_at, leased_at, lease_seconds, incarnation)
        select id, lane, carrier_id, case when due then least(v_now + p_lease_seconds * interval '1 second', valid_until) else least(dispatch_at, valid_until) end,
               case when due then v_now else dispatch_at end, case when due then v_now end, p_lease_seconds, case when due then p_incarnation else 0 end
        from ok;

    return query
        select v_outcome[n], v_message[n], v_problem[n], v_args[n], v_available[n],
               case when v_outcome[n] = 'accepted' then case when p_send_at[n] > v_soon then 'SCHEDULED'::tollwire.message_state else 'QUEUED' end end,
               v_now, coalesce(v_outcome[n] = 'accepted' and v_dispatch[n] <= v_soon, false)
        from generate_series(1, v_n) n;
end $$;

-- Whether the text of a message that was given up is on the phone all the same: a receipt says so of it, of what it is a replay of, or of
-- any other replay of these. Each is looked up by itself, so that one day's part is opened for it; a line of replays is short. A message
-- whose day was dropped says nothing of it any more, nor does what it replayed.
create or replace function tollwire.delivered_late_v1(p_message uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_line uuid[] := array[p_message];
    v_id uuid := p_message;
    i integer := 1;
begin
    loop
        select m.replay_of into v_id from tollwire.messages m where m.id = v_id;
        exit when v_id is null;
        v_line := v_line || v_id;
    end loop;
    while i <= cardinality(v_line) loop
        v_line := v_line || array(select r.message_id from tollwire.replays r where r.replay_of = v_line[i] and r.message_id <> all (v_line));
        i := i + 1;
    end loop;
    foreach v_id in array v_line loop
        if (select s.late_receipt or s.state = 'DELIVERED' from tollwire.message_states s where s.message_id = v_id) then
            return true;
        end if;
    end loop;
    return false;
end $$;

grant execute on function tollwire.accept_batch_v1, tollwire.delivered_late_v1 to tollwire_api;
