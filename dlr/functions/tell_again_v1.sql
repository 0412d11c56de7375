-- What a settle did whose answer was lost: asked by the one who made the call again and heard "done" (RULES 4). Answers as
-- settle_batch_v1, for each receipt that brought its message to its end; o_callback only while it is as that call left it, and without
-- o_event_type: it is to be loaded. Nothing for any other receipt. The order is that of the receipts' ids.
create or replace function tollwire.tell_again_v1(p_receipt uuid[])
returns table (o_receipt uuid, o_outcome text, o_client bigint, o_region text, o_lane tollwire.lane, o_carrier_id smallint, o_submitted_at timestamptz,
               o_callback uuid, o_skip text, o_endpoint bigint, o_url text, o_own_url boolean, o_event_type text, o_sequence smallint, o_attempts smallint, o_created_at timestamptz,
               o_message uuid, o_state tollwire.message_state, o_msisdn text, o_sender text, o_client_ref text, o_segments smallint,
               o_price bigint, o_currency text, o_charged boolean, o_error text, o_message_attempts smallint, o_possible_duplicate boolean,
               o_late_receipt boolean, o_parts_delivered smallint, o_message_created_at timestamptz, o_final_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    return query
        select k.id, k.outcome, m.client_id, m.region, m.lane, s.carrier_id, s.submitted_at,
               b.id, null::text, coalesce(b.endpoint_id, 0), null::text, null::boolean, null::text, s.sequence, 0::smallint, s.final_at,
               m.id, s.state, m.msisdn, m.sender, m.client_ref, m.segments, m.price_micros, m.currency,
               l.state = 'CAPTURED' or l.late_captured_at is not null, s.error_code, s.attempt_no, s.possible_duplicate,
               s.late_receipt, s.parts_delivered, m.created_at, s.final_at
        from (select distinct x.id from unnest(p_receipt) x(id)) x
        cross join lateral (select * from tollwire.receipts c where c.id = x.id and c.outcome = 'moved' offset 0) k
        cross join lateral (select * from tollwire.messages c where c.id = k.message_id offset 0) m
        cross join lateral (select * from tollwire.message_states c where c.message_id = k.message_id and c.final_at is not null offset 0) s
        cross join lateral (select c.state, c.late_captured_at from ledger.credit_locks c where c.message_id = k.message_id offset 0) l
        left join lateral (
            -- The end's own: a late receipt has been told since, by an event of its own.
            select c.id, c.endpoint_id from tollwire.callbacks c
            where c.id = tollwire.callback_id_v1(s.final_at, s.message_id, (s.sequence - s.late_receipt::integer)::smallint)
              and c.done_at is null and c.attempts = 0 and c.due_at > v_now
            offset 0) b on true
        order by k.id;
end $$;

grant execute on function tollwire.tell_again_v1 to tollwire_dlr;
