-- After a restore to an earlier moment (RULES 34): messages that wait may have been sent since, and nobody remembers. For each position
-- p_said is what sms.event last told of the message after the restored moment (a state's name, or null), with p_error, and by p_carrier;
-- p_sent, whether it ever told SENT. The move is:
--   a final state     made again, with its reason and its money: the client was told so. A plan that charges the submit is charged for
--                     what a carrier took; EXPIRED is charged to others only when no receipt came, by that carrier's policy
--   SENT              SENT again, without the carrier's reference; its receipt is waited for by the carrier's policy
--   nothing           SENT, where the journal of attempts knows that carriers have every part. Else as after a submit whose answer was
--                     lost (RULES 17, 18): an attempt is noted as uncertain. A carrier that knows our ids is asked again,
--                     at_least_once goes out once more as possible_duplicate, at_most_once is UNKNOWN and waits
-- With p_holds_back nothing goes out by itself: what is not known is UNKNOWN, ends as a dead letter, and an operator decides.
-- Left alone: what was not to be dispatched before p_until, and what has changed since p_began, so that the call may be made again.
create or replace function tollwire.recover_restored_v1(
    p_message uuid[], p_said tollwire.message_state[], p_error text[], p_sent boolean[], p_carrier smallint[], p_began timestamptz, p_until timestamptz, p_holds_back boolean, p_tries_max smallint
) returns table (o_message uuid, o_before tollwire.message_state, o_after tollwire.message_state, o_twice boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    -- Beyond every validity: then an attempt of unknown outcome is not repeated.
    c_never_seconds constant double precision := 1e9;
    v_now timestamptz;
    v_min uuid; v_max uuid;
    r record;
    m_id uuid[]; m_said tollwire.message_state[]; m_error text[]; m_sent boolean[]; m_carrier smallint[]; m_before tollwire.message_state[];
    f_id uuid[]; f_event tollwire.message_event[]; f_kind ledger.entry_kind[]; f_reason text[];
    c_id uuid[];
begin
    perform ledger.require_read_committed_v1();
    select min(m::text collate "C")::uuid, max(m::text collate "C")::uuid into v_min, v_max from unnest(p_message) m;
    perform 1 from tollwire.message_states where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.credit_locks where message_id = any (p_message) order by message_id for update;
    perform 1 from tollwire.outbox where message_id = any (p_message) order by message_id for update;
    perform 1 from ledger.accounts where id in (select account_id from ledger.credit_locks where message_id = any (p_message)) order by id for update;
    v_now := clock_timestamp();
    select array_agg(s.message_id order by s.message_id), array_agg(x.said order by s.message_id), array_agg(x.error order by s.message_id),
           array_agg(x.sent order by s.message_id), array_agg(k.id order by s.message_id), array_agg(s.state order by s.message_id)
        into m_id, m_said, m_error, m_sent, m_carrier, m_before
        -- That it was queued, or refused for a while, says nothing of what came next.
        from (select distinct on (y.id) y.id, y.error, y.sent, y.carrier,
                     case when y.said in ('SENT', 'DELIVERED', 'UNDELIVERED', 'EXPIRED', 'FAILED_PERM', 'CANCELLED') then y.said end as said
              from unnest(p_message, p_said, p_error, p_sent, p_carrier) y(id, said, error, sent, carrier) order by y.id, y.said) x
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.final_at is null and s.updated_at < p_began
        left join lateral (select b.* from tollwire.outbox b where b.message_id = x.id offset 0) o on true
        left join tollwire.carriers k on k.id = x.carrier  -- it may be younger than the restored moment
        where x.said is not null or s.state = 'SENDING' or s.state in ('SCHEDULED', 'QUEUED', 'FAILED_TEMP') and o.dispatch_at <= p_until;
    if m_id is null then
        return;
    end if;

    -- A scheduled message may have started since; only its cancellation needs no start. What was under way was cancelled after it had come
    -- back, and nothing of it had left (RULES 20).
    update tollwire.attempts a set outcome = 'unclaimed', outcome_at = v_now, error_code = 'restored'
        from unnest(m_id, m_said, m_before) x(id, said, before)
        where a.message_id = x.id and a.message_id between v_min and v_max and x.said = 'CANCELLED' and x.before in ('SENDING', 'UNKNOWN')
          and coalesce(a.outcome, 'uncertain') = 'uncertain' and a.receipt is null;
    update tollwire.message_states s set state = 'QUEUED', sequence = s.sequence + 1, updated_at = v_now, claim_deadline = null
        from unnest(m_id, m_said) x(id, said)
        where s.message_id = x.id and s.message_id >= v_min and case when x.said = 'CANCELLED' then s.state in ('SENDING', 'UNKNOWN') else s.state = 'SCHEDULED' end;

    select array_agg(e.id order by e.id), array_agg(e.event order by e.id), array_agg(case when e.held then e.kind end order by e.id),
           array_agg(e.reason order by e.id)
        into f_id, f_event, f_kind, f_reason
        from (
            select x.id, l.state = 'HELD' as held, v.event, coalesce(x.error, 'restored') as reason,
                   case when x.said = 'DELIVERED' then 'capture'
                        when m.charge = 'submitted' and (
                            x.said = 'UNDELIVERED' or x.said = 'EXPIRED' and (x.sent or x.error in ('expired_by_carrier', 'no_receipt'))) then 'capture'
                        when x.said = 'EXPIRED' and x.error = 'no_receipt' then coalesce(k.no_receipt_policy, 'release')
                        else 'release' end::ledger.entry_kind as kind
            from unnest(m_id, m_said, m_error, m_sent, m_carrier) x(id, said, error, sent, carrier)
            join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on true
            join lateral (select b.* from ledger.credit_locks b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) l on true
            join lateral (select b.charge from tollwire.messages b where b.id = x.id and b.id between v_min and v_max offset 0) m on true
            left join tollwire.carriers k on k.id = coalesce(x.carrier, s.carrier_id)
            cross join lateral (
                select case x.said when 'DELIVERED' then 'delivered' when 'UNDELIVERED' then 'undelivered' when 'EXPIRED' then 'carrier_expired'
                           when 'CANCELLED' then 'cancelled'
                           when 'FAILED_PERM' then case when s.state in ('SENDING', 'UNKNOWN') then 'refused_perm' else 'no_route' end
                       end::tollwire.message_event as event) v
            where tollwire.next_state_v1(s.state, v.event) is not null
        ) e;
    perform * from tollwire.finish_v1(f_id, f_event, f_kind, f_reason, 0);

    -- A late word on an attempt that was given up: nothing is missing.
    perform tollwire.end_taken_v1(m_id, 'restored');

    -- Whatever is left may have reached a carrier: an attempt of each is in the journal from here on.
    select array_agg(s.message_id order by s.message_id) into c_id
        from tollwire.message_states s join tollwire.outbox o on o.message_id = s.message_id
        where s.message_id = any (m_id) and s.message_id between v_min and v_max and s.state in ('QUEUED', 'FAILED_TEMP');
    update tollwire.message_states s
        set state = 'SENDING', attempt_no = s.attempt_no + 1, sequence = s.sequence + 1, updated_at = v_now, claim_deadline = v_now,
            carrier_id = case when x.said = 'SENT' then coalesce(x.carrier, o.carrier_id) else o.carrier_id end
        from unnest(m_id, m_said, m_carrier) x(id, said, carrier) join tollwire.outbox o on o.message_id = x.id
        where s.message_id = any (c_id) and s.message_id between v_min and v_max and s.message_id = x.id;
    insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at)
        select s.message_id, s.attempt_no, part, s.carrier_id, v_now
        from tollwire.message_states s
        cross join lateral (
            select array_agg(distinct t.part_no) as parts, count(distinct t.part_no) as number
            from tollwire.attempts t where t.message_id = s.message_id and t.message_id between v_min and v_max and t.outcome = 'submitted' offset 0) taken,
        generate_series(1, s.parts_total) part
        -- As a claim chooses them: all, should all have been taken and one be lost.
        where s.message_id = any (c_id) and s.message_id between v_min and v_max and (taken.number >= s.parts_total or part <> all (coalesce(taken.parts, '{}')));
    for r in
        select s.carrier_id, k.idempotent_submit as ask_again, k.receipt_wait_seconds, count(*)::integer as n,
               array_agg(s.message_id order by s.message_id, a.part_no) as ids, array_agg(s.attempt_no order by s.message_id, a.part_no) as attempts,
               array_agg(a.part_no order by s.message_id, a.part_no) as parts,
               array_agg(case when x.said = 'SENT' then 'submitted'::tollwire.attempt_outcome else 'uncertain' end order by s.message_id, a.part_no) as outcomes,
               -- What is known to have gone on and is not known to have been sent goes out no more either.
               array_agg(case when p_holds_back or x.said is not null then c_never_seconds else 1.0 end order by s.message_id, a.part_no) as retry_seconds
        from unnest(m_id, m_said) x(id, said)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on true
        join lateral (select b.* from tollwire.attempts b where b.message_id = s.message_id and b.message_id between v_min and v_max offset 0) a on a.attempt_no = s.attempt_no
             and (s.state = 'SENDING' and a.outcome is null or s.state = 'UNKNOWN' and x.said = 'SENT' and a.outcome = 'uncertain')
        join tollwire.carriers k on k.id = s.carrier_id
        group by s.carrier_id, k.idempotent_submit, k.receipt_wait_seconds order by s.carrier_id
    loop
        perform * from tollwire.record_batch_v1(r.ids, r.attempts, r.parts, r.outcomes, array_fill(null::text, array[r.n]),
            (select array_agg(case when o = 'uncertain' then 'restored' end order by nth) from unnest(r.outcomes) with ordinality y(o, nth)),
            array_fill(null::text, array[r.n]), r.retry_seconds, array_fill(null::smallint, array[r.n]), r.carrier_id, r.ask_again, p_tries_max, r.receipt_wait_seconds);
    end loop;
    return query
        select x.id, x.before, s.state, s.possible_duplicate
        from unnest(m_id, m_before) x(id, before)
        join lateral (select b.* from tollwire.message_states b where b.message_id = x.id and b.message_id between v_min and v_max offset 0) s on s.updated_at >= v_now;
end $$;

grant execute on function tollwire.recover_restored_v1 to tollwire_ledger;
