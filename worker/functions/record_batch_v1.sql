-- The outcomes that are not as plain as those that record_batch_v1 writes by columns: refusals, uncertain and late answers, retries of a
-- carrier that knows our ids, parts, plans that charge the submit. The caller has locked states, locks, outbox and accounts, in that order.
create or replace function tollwire.record_rest_v1(
    p_message uuid[], p_attempt smallint[], p_part smallint[], p_outcome tollwire.attempt_outcome[], p_reference text[], p_error text[], p_detail text[],
    p_retry_seconds double precision[], p_next_carrier smallint[], p_carrier smallint, p_ask_again boolean, p_tries_max smallint, p_receipt_wait_seconds integer
) returns table (o_moved boolean, o_state tollwire.message_state, o_client bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_now timestamptz;
    v_min uuid; v_max uuid;
    r record;
    v_n integer := coalesce(cardinality(p_message), 0);
    v_state tollwire.message_state[] := array_fill(null::tollwire.message_state, array[v_n]);
    v_moved boolean[] := array_fill(false, array[v_n]);
    v_client bigint[] := array_fill(null::bigint, array[v_n]);
    i integer;
    v_last boolean; v_reached boolean; v_bound boolean; v_taken boolean; v_used_up boolean;
    v_moved_id uuid;
    m_id uuid[] := '{}'; m_state tollwire.message_state[] := '{}'; m_tries smallint[] := '{}'; m_twice boolean[] := '{}'; m_error text[] := '{}'; m_sent boolean[] := '{}';
    w_id uuid[] := '{}'; w_at timestamptz[] := '{}'; w_carrier smallint[] := '{}';
    f_id uuid[] := '{}'; f_reason text[] := '{}';
    c_id uuid[] := '{}';
begin
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    v_now := clock_timestamp();

    with noted as (
        update tollwire.attempts a
            -- An answer without a name, or none, takes nothing from what a receipt has named, nor from its word that the carrier has it. Nor does
            -- a refusal: it was somebody's before the carrier, and what is not sent again is not sent twice.
            set outcome = case when a.receipt in ('enroute', 'accepted', 'delivered') then 'submitted' else x.outcome end, outcome_at = v_now,
                reference = coalesce(x.reference, a.reference), error_code = x.error, error_detail = left(x.detail, 200)
            from (select distinct on (y.message_id, y.attempt_no, y.part_no) y.*
                  from unnest(p_message, p_attempt, p_part, p_outcome, p_reference, p_error, p_detail) with ordinality
                       y(message_id, attempt_no, part_no, outcome, reference, error, detail, nth)
                  order by y.message_id, y.attempt_no, y.part_no, y.nth) x
            where a.message_id = x.message_id and a.attempt_no = x.attempt_no and a.part_no = x.part_no
              and a.message_id = any (p_message) and a.message_id between v_min and v_max
              and (a.outcome is null or a.outcome = 'uncertain' and x.outcome <> 'uncertain')
        returning a.message_id, a.attempt_no, a.part_no, a.outcome, case when x.outcome = 'submitted' then x.reference else a.reference end as reference
    )
    insert into tollwire.carrier_references (carrier_id, reference, submitted_at, message_id, attempt_no, part_no)
        select p_carrier, n.reference, v_now, n.message_id, n.attempt_no, n.part_no
        from noted n where n.outcome = 'submitted' and n.reference is not null;
    if p_ask_again then
        -- The carrier knows our ids: what was asked before and not answered is this same submit, and its receipt is for both.
        update tollwire.attempts a set outcome = 'submitted', outcome_at = v_now, reference = n.reference
            from tollwire.attempts n, unnest(p_message, p_attempt, p_part) x(message_id, attempt_no, part_no)
            where n.message_id = any (p_message) and n.message_id between v_min and v_max
              and n.message_id = x.message_id and n.attempt_no = x.attempt_no and n.part_no = x.part_no
              and n.outcome = 'submitted' and n.outcome_at = v_now
              and a.message_id = any (p_message) and a.message_id between v_min and v_max
              and a.message_id = n.message_id and a.part_no = n.part_no and a.attempt_no < n.attempt_no
              and a.carrier_id = p_carrier and coalesce(a.outcome, 'uncertain') = 'uncertain';
    end if;

    -- One verdict a message and attempt: what its parts say together, the worst for certainty first. Only what the journal did not
    -- know decides; what it knew already, because this call was made before, is answered as it was then (RULES 4). Of a taken attempt only an
    -- answer that was outweighed has left an error.
    for r in
        select x.message_id, x.attempt_no, min(x.nth)::integer as nth, array_agg(x.nth::integer) as positions,
               bool_or(a.outcome_at = v_now) as is_news, bool_and(a.outcome = x.outcome or a.outcome = 'submitted' and coalesce(a.error_code = x.error, false)) as is_known,
               bool_or(x.outcome = 'submitted') as is_answered,
               case when bool_or(f.outcome = 'uncertain') then 'uncertain' when bool_or(f.outcome = 'refused_perm') then 'refused_perm'
                    when bool_or(f.outcome = 'refused_temp') then 'refused_temp' when bool_or(f.outcome = 'throttled') then 'throttled'
                    when bool_or(f.outcome = 'unclaimed') then 'unclaimed' else 'submitted' end as outcome,
               max(x.retry_seconds) as retry_seconds, max(x.error) as error,
               s.state, s.attempt_no = x.attempt_no as holds_token, s.tries, s.possible_duplicate, s.parts_total, m.valid_until, m.delivery, m.charge, m.client_id
        from unnest(p_message, p_attempt, p_part, p_outcome, p_retry_seconds, p_error) with ordinality x(message_id, attempt_no, part_no, outcome, retry_seconds, error, nth)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.message_id and b.message_id between v_min and v_max offset 0) s on true
        join lateral (select b.* from tollwire.messages b where b.id = x.message_id and b.id between v_min and v_max offset 0) m on true
        left join lateral (select b.* from tollwire.attempts b where b.message_id = x.message_id and b.message_id between v_min and v_max offset 0) a on a.attempt_no = x.attempt_no and a.part_no = x.part_no
        cross join lateral (select case when a.outcome_at = v_now then a.outcome end as outcome) f
        group by x.message_id, x.attempt_no, s.state, s.attempt_no, s.tries, s.possible_duplicate, s.parts_total, m.valid_until, m.delivery, m.charge, m.client_id
        order by x.message_id, x.attempt_no
    loop
        foreach i in array r.positions loop
            v_state[i] := r.state;
            v_client[i] := r.client_id;
        end loop;
        if not coalesce(r.is_news, false) then
            v_moved[r.nth] := r.holds_token and coalesce(r.is_known, false);
            continue;
        end if;
        -- What a receipt has proved it has charged.
        if r.outcome = 'submitted' and r.charge = 'submitted' and r.is_answered then
            c_id := c_id || r.message_id;
        end if;
        -- By some attempt or other a carrier has every part, and has not said that one of them is lost. The answer to an attempt that was
        -- given up may come while the next one is on its way: then it counts, whatever becomes of that one.
        v_taken := (r.outcome <> 'submitted' or r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN')) and r.parts_total <= (
            select count(distinct a.part_no) from tollwire.attempts a
            where a.message_id = r.message_id and a.message_id between v_min and v_max and a.outcome = 'submitted'
              and (a.receipt is null or a.receipt not in ('undelivered', 'expired', 'rejected')));
        if v_taken and (r.holds_token or r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN')) then
            r.outcome := 'submitted';
        end if;
        if r.outcome = 'submitted' then
            r.error := null;
        end if;
        continue when tollwire.next_state_v1(r.state, r.outcome::tollwire.message_event) is null or v_moved_id = r.message_id;
        -- A late word moves a message that waits only when no part is missing.
        continue when case when r.outcome = 'submitted' and r.state in ('QUEUED', 'FAILED_TEMP', 'UNKNOWN') then not v_taken else not r.holds_token end;
        -- Nor does it send again what was given up, while another part of that attempt may have left: both would go.
        continue when r.state = 'UNKNOWN' and r.outcome in ('throttled', 'unclaimed', 'refused_temp') and exists (
            select from tollwire.attempts a where a.message_id = r.message_id and a.attempt_no = r.attempt_no and coalesce(a.outcome, 'uncertain') = 'uncertain');
        v_moved_id := r.message_id;
        v_moved[r.nth] := true;
        if r.outcome in ('refused_temp', 'refused_perm') then
            v_last := r.outcome = 'refused_perm' or r.tries + 1 >= p_tries_max or v_now + r.retry_seconds * interval '1 second' >= r.valid_until;
            -- Every part that was refused may still be delivered by an earlier attempt; a carrier that knows our ids speaks for all of its own.
            v_reached := not exists (
                select from tollwire.attempts x
                where x.message_id = r.message_id and x.attempt_no = r.attempt_no and x.outcome in ('refused_temp', 'refused_perm') and not exists (
                    select from tollwire.attempts a where a.message_id = r.message_id and a.part_no = x.part_no and a.attempt_no < r.attempt_no
                       and not (p_ask_again and a.carrier_id = p_carrier) and (a.outcome is null or a.outcome in ('submitted', 'uncertain')) and (a.receipt is null or a.receipt in ('enroute', 'accepted', 'unknown'))));
        end if;
        -- The one resend is used up by what may have gone, not by what was refused, or was proved since never to have left.
        v_used_up := r.outcome = 'uncertain' and r.possible_duplicate and exists (
            select from tollwire.attempts a
            where a.message_id = r.message_id and a.attempt_no < r.attempt_no and coalesce(a.outcome in ('submitted', 'uncertain'), true)
              and (a.error_code = 'restored' or a.part_no in (select x.part_no from tollwire.attempts x where x.message_id = r.message_id and x.attempt_no = r.attempt_no)));
        if r.outcome = 'submitted' then
            v_state[r.nth] := 'SENT';
        elsif r.outcome in ('throttled', 'unclaimed') then
            v_state[r.nth] := 'QUEUED';
        elsif r.outcome in ('refused_temp', 'refused_perm') and not v_last then
            v_state[r.nth] := 'FAILED_TEMP';
        elsif r.outcome in ('refused_temp', 'refused_perm') and not v_reached then
            v_state[r.nth] := 'FAILED_PERM';
            f_id := f_id || r.message_id; f_reason := f_reason || coalesce(r.error, 'refused');
            continue;
        elsif r.outcome = 'uncertain' and (p_ask_again or r.delivery = 'at_least_once' and not v_used_up)
              and r.tries + 1 < p_tries_max and v_now + r.retry_seconds * interval '1 second' < r.valid_until then
            v_state[r.nth] := 'QUEUED';
        else
            v_state[r.nth] := 'UNKNOWN';
        end if;
        m_id := m_id || r.message_id; m_state := m_state || v_state[r.nth]; m_error := m_error || r.error; m_sent := m_sent || (r.outcome = 'submitted');
        m_tries := m_tries || (r.tries + case when r.outcome in ('throttled', 'unclaimed') then 0 else 1 end)::smallint;
        m_twice := m_twice || case when not r.possible_duplicate then r.outcome = 'uncertain' and not p_ask_again and v_state[r.nth] = 'QUEUED'
                                   else v_state[r.nth] <> 'SENT' or tollwire.may_be_twice_v1(r.message_id) end;
        if v_state[r.nth] <> 'SENT' then
            w_id := w_id || r.message_id; -- What this carrier may have taken is asked again of this carrier alone: another one has never seen the id.
            v_bound := p_ask_again and exists (select from tollwire.attempts a where a.message_id = r.message_id and a.carrier_id = p_carrier and a.outcome = 'uncertain');
            w_carrier := w_carrier || case when not v_bound then p_next_carrier[r.nth] end;
            w_at := w_at || least(r.valid_until, case when v_state[r.nth] = 'UNKNOWN' then v_now + p_receipt_wait_seconds * interval '1 second'
                                                      when r.outcome = 'unclaimed' and not v_bound then v_now else v_now + r.retry_seconds * interval '1 second' end);
        end if;
    end loop;

    update tollwire.message_states s
        -- By the place in the array, which is in id order: joined, it would be read once for each row by a plan made for few.
        set (state, tries, possible_duplicate, error_code, submitted_at) = (
                select m_state[k], m_tries[k], m_twice[k], m_error[k], case when m_sent[k] then v_now else s.submitted_at end
                from width_bucket(s.message_id, m_id) k),
            sequence = s.sequence + 1, updated_at = v_now, claim_deadline = null
        where s.message_id = any (m_id) and s.message_id between v_min and v_max;
    update tollwire.outbox o
        set (dispatch_at, due_at, carrier_id) = (select w_at[k], w_at[k], coalesce(w_carrier[k], o.carrier_id) from width_bucket(o.message_id, w_id) k),
            dispatch_no = o.dispatch_no + 1, leased_at = null, incarnation = 0, lease_seconds = 60
        where o.message_id = any (w_id);
    delete from tollwire.outbox where message_id in (select x.id from unnest(m_id, m_sent) x(id, sent) where x.sent);
    if cardinality(f_id) > 0 then
        perform tollwire.finish_v1(f_id, array_fill('refused_perm'::tollwire.message_event, array[cardinality(f_id)]),
                                   array_fill('release'::ledger.entry_kind, array[cardinality(f_id)]), f_reason, 0);
    end if;
    if cardinality(c_id) > 0 then
        perform ledger.settle_holds_v1(c_id, array_fill('capture'::ledger.entry_kind, array[cardinality(c_id)]), array_fill('submitted'::text, array[cardinality(c_id)]));
    end if;
    if true = any (m_sent) then
        perform tollwire.add_callbacks_v1(
            (select array_agg(x.id) from unnest(m_id, m_sent) x(id, sent) where x.sent),
            (select array_agg('message.sent'::text) from unnest(m_sent) x(sent) where x.sent), 0);
    end if;
    return query select * from unnest(v_moved, v_state, v_client);
end $$;

-- Records what became of attempts (RULES 15, 17, 18, DESIGN 3). The journal and the carrier's reference are written whatever the
-- message's state is by now; the state moves only for the attempt that holds the token. For each position:
--   submitted      SENT, also when it is said late, of an attempt that was given up, while no other is on its way; the outbox row
--                  ends; captured here when the plan charges the submit
--   throttled      QUEUED again after p_retry_seconds, or at the end of the validity, whose end that is; uses up no try. Also said
--                  late, when the attempt was given up as uncertain: nothing of it left (so with unclaimed)
--   refused_temp   FAILED_TEMP and again after p_retry_seconds; after the last try, or past the validity, as refused_perm
--   refused_perm   FAILED_PERM and release; but UNKNOWN while an earlier attempt may have reached the carrier
--   uncertain      UNKNOWN; asked again when p_ask_again (the carrier knows our ids), sent again once when the policy is at_least_once
--                  (then possible_duplicate), else it waits for a receipt until min(validity, receipt wait)
--   unclaimed      QUEUED at once: nothing was written to the carrier
-- What is SENT at last by the only submit that was written is no possible_duplicate any more.
-- Each of the last five is as submitted where a receipt has said before it that the carrier has it; the journal keeps the answer's error.
-- p_next_carrier names the carrier to try next, where it is another one. o_receipts names receipts that waited for this reference: wake dlr with them.
create or replace function tollwire.record_batch_v1(
    p_message uuid[], p_attempt smallint[], p_part smallint[], p_outcome tollwire.attempt_outcome[], p_reference text[], p_error text[], p_detail text[],
    p_retry_seconds double precision[], p_next_carrier smallint[], p_carrier smallint, p_ask_again boolean, p_tries_max smallint, p_receipt_wait_seconds integer
) returns table (o_moved boolean, o_state tollwire.message_state, o_receipts uuid[], o_client bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    v_n integer := coalesce(cardinality(p_message), 0);
    v_now timestamptz;
    v_min uuid; v_max uuid;
    v_lines_up boolean;
    -- The positions by message id, and what the tables have for them; they line up when each message is asked for once and is there.
    x_id uuid[]; x_nth integer[]; x_attempt smallint[]; x_reference text[]; x_is_plain boolean[]; x_outcome tollwire.attempt_outcome[];
    m_id uuid[]; m_client bigint[]; m_pays_submit boolean[];
    s_attempt smallint[]; s_is_plain boolean[];
    v_accounts bigint[]; v_money uuid[];
    f_id uuid[]; f_nth integer[]; f_attempt smallint[]; f_reference text[]; f_client bigint[];
    r_nth integer[]; r_moved boolean[]; r_state tollwire.message_state[]; r_client bigint[];
    w_reference text[]; w_id uuid[];
begin
    perform ledger.require_read_committed_v1();
    if v_n = 0 then
        return;
    end if;
    select array_agg(x.message_id), array_agg(x.nth), array_agg(x.attempt_no), array_agg(x.reference),
           array_agg(x.outcome = 'submitted' and x.part_no = 1 and x.error is null and x.detail is null and (x.attempt_no = 1 or not p_ask_again)),
           array_agg(x.outcome)
        into x_id, x_nth, x_attempt, x_reference, x_is_plain, x_outcome
        from (select * from unnest(p_message, p_attempt, p_part, p_outcome, p_reference, p_error, p_detail) with ordinality
                            y(message_id, attempt_no, part_no, outcome, reference, error, detail, nth) order by y.message_id, y.nth) x;
    v_min := x_id[1]; v_max := x_id[v_n];
    select array_agg(m.id), array_agg(m.client_id), array_agg(m.charge = 'submitted') into m_id, m_client, m_pays_submit
        from (select id, client_id, charge from tollwire.messages where id = any (x_id) and id between v_min and v_max order by id) m;
    v_lines_up := cardinality(m_id) = v_n;
    -- The money that may be captured or released here.
    if v_lines_up then
        select array_agg(x.id), array_agg(x.client_id) into v_money, v_accounts
            from unnest(x_id, m_client, x_outcome, m_pays_submit) x(id, client_id, outcome, pays_submit)
            where x.outcome in ('refused_temp', 'refused_perm') or x.outcome = 'submitted' and x.pays_submit;
    else
        select array_agg(x.id) into v_money from unnest(x_id, x_outcome) x(id, outcome) where x.outcome in ('refused_temp', 'refused_perm', 'submitted');
        v_accounts := m_client;
    end if;
    select array_agg(s.attempt_no), array_agg(s.state = 'SENDING' and s.parts_total = 1 and not s.possible_duplicate) into s_attempt, s_is_plain
        from (select attempt_no, state, parts_total, possible_duplicate from tollwire.message_states where message_id = any (x_id) and message_id between v_min and v_max order by message_id for update) s;
    if v_money is not null then
        perform 1 from ledger.credit_locks where message_id = any (v_money) and message_id between v_min and v_max order by message_id for update;
    end if;
    perform 1 from tollwire.outbox where message_id = any (x_id) order by message_id for update;
    -- Accounts last (docs/adr/0020), and all of them here: record_rest_v1 moves money in two steps.
    if v_money is not null then
        perform 1 from ledger.accounts where id = any (v_accounts) order by id for update;
    end if;
    v_now := clock_timestamp();

    -- Plain: the first word on an attempt that holds the token, and it was taken. All others one by one.
    if v_lines_up and cardinality(s_attempt) = v_n then
        select array_agg(x.id) filter (where w.plain), array_agg(x.nth) filter (where w.plain), array_agg(x.attempt_no) filter (where w.plain),
               array_agg(x.reference) filter (where w.plain), array_agg(x.client_id) filter (where w.plain), array_agg(x.nth) filter (where not w.plain)
            into f_id, f_nth, f_attempt, f_reference, f_client, r_nth
            from unnest(x_id, x_nth, x_attempt, x_reference, m_client, x_is_plain, m_pays_submit, s_attempt, s_is_plain)
                 x(id, nth, attempt_no, reference, client_id, is_plain, pays_submit, token, is_sending)
            cross join lateral (select x.is_plain and x.is_sending and x.attempt_no = x.token and not x.pays_submit as plain) w;
    else
        r_nth := x_nth;
    end if;
    if f_id is not null then
        -- Two lists of one flush meet, both read in one go.
        perform set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'off', true);
        update tollwire.attempts a set outcome = 'submitted', outcome_at = v_now, reference = coalesce(x.reference, a.reference)
            from unnest(f_id, f_attempt, f_reference) x(id, attempt_no, reference)
            where a.message_id = any (f_id) and a.message_id between v_min and v_max and a.message_id = x.id and a.attempt_no = x.attempt_no and a.part_no = 1 and a.outcome is null;
        perform set_config('enable_hashjoin', 'off', true), set_config('enable_nestloop', 'on', true);
        insert into tollwire.carrier_references (carrier_id, reference, submitted_at, message_id, attempt_no, part_no)
            select p_carrier, x.reference, v_now, x.id, x.attempt_no, 1 from unnest(f_id, f_attempt, f_reference) x(id, attempt_no, reference) where x.reference is not null;
        update tollwire.message_states
            set state = 'SENT', tries = tries + 1, error_code = null, sequence = sequence + 1, updated_at = v_now, claim_deadline = null, submitted_at = v_now
            where message_id = any (f_id) and message_id between v_min and v_max;
        delete from tollwire.outbox where message_id = any (f_id);
    end if;
    if r_nth is not null then
        select array_agg(t.o_moved), array_agg(t.o_state), array_agg(t.o_client) into r_moved, r_state, r_client
            from (select array_agg(p_message[n]) as message, array_agg(p_attempt[n]) as attempt, array_agg(p_part[n]) as part, array_agg(p_outcome[n]) as outcome,
                         array_agg(p_reference[n]) as reference, array_agg(p_error[n]) as error, array_agg(p_detail[n]) as detail,
                         array_agg(p_retry_seconds[n]) as retry_seconds, array_agg(p_next_carrier[n]) as next_carrier from unnest(r_nth) n) x
            cross join lateral tollwire.record_rest_v1(x.message, x.attempt, x.part, x.outcome, x.reference, x.error, x.detail, x.retry_seconds, x.next_carrier,
                                                       p_carrier, p_ask_again, p_tries_max, p_receipt_wait_seconds) t;
    end if;
    if exists (select from tollwire.callback_endpoints e where e.client_id = any (f_client) and 'message.sent' = any (e.events)) then
        perform tollwire.add_callbacks_v1(f_id, array_fill('message.sent'::text, array[cardinality(f_id)]), 0);
    end if;

    -- Receipts that waited for these references.
    select array_agg(k.reference), array_agg(k.id) into w_reference, w_id
        from tollwire.receipts k
        where k.carrier_id = p_carrier and k.reference = any (p_reference) and k.settled_at is null
          and k.id > tollwire.uuid7_floor_v1(v_now - interval '4 days') and k.id < tollwire.uuid7_floor_v1(v_now + interval '1 hour');
    return query
        select x.moved, x.state,
               case when w_id is not null and p_outcome[x.nth] = 'submitted' then (select array_agg(w.id) from unnest(w_reference, w_id) w(reference, id) where w.reference = p_reference[x.nth]) end,
               x.client_id
        from (select f.nth, true, 'SENT'::tollwire.message_state, f.client_id from unnest(f_nth, f_client) f(nth, client_id)
              union all
              select * from unnest(r_nth, r_moved, r_state, r_client)) x(nth, moved, state, client_id)
        order by x.nth;
end $$;

grant execute on function tollwire.record_batch_v1 to tollwire_worker;
