-- Everything that the oracle knows too, as one document: times in µs since the start.
create function sim.us(p_at timestamptz) returns bigint language sql stable as
    $$ select case when pg_catalog.isfinite(p_at) then (extract(epoch from p_at - current_setting('sim.start')::timestamptz) * 1000000)::bigint end $$;
create function sim.snapshot(p_accounts bigint[], p_messages uuid[], p_receipts uuid[]) returns jsonb
language plpgsql stable set search_path = sim, pg_catalog, tollwire, ledger as $$
begin
return jsonb_build_object(
    'accounts', (select jsonb_object_agg(id, jsonb_build_array(posted_micros, held_micros, credit_limit_micros, overdrawn_micros, open_holds, version, us(next_dispatch_at)))
                 from accounts where id = any (p_accounts)),
    'messages', (select jsonb_object_agg(s.message_id, jsonb_build_array(s.state, l.state, l.late_captured_at is not null, s.late_receipt, s.possible_duplicate, s.tries,
                                         s.attempt_no, s.parts_delivered, s.sequence, s.carrier_id, us(s.claim_deadline), us(s.submitted_at), us(s.final_at), s.error_code))
                 from messages m left join message_states s on s.message_id = m.id left join credit_locks l on l.message_id = m.id where m.id = any (p_messages)),
    'outbox', (select jsonb_object_agg(message_id, jsonb_build_array(dispatch_no, us(due_at), us(dispatch_at), us(leased_at), lease_seconds, incarnation, carrier_id))
               from outbox where message_id = any (p_messages)),
    'attempts', (select jsonb_object_agg(message_id || '/' || attempt_no || '/' || part_no, jsonb_build_array(carrier_id, outcome, reference, receipt))
                 from attempts where message_id = any (p_messages)),
    'entries', (select jsonb_object_agg(account_id || '/' || version, jsonb_build_array(kind, message_id, amount_micros, posted_after_micros, held_after_micros, reason))
                from entries where account_id = any (p_accounts)),
    'receipts', (select jsonb_object_agg(id, jsonb_build_array(outcome, message_id, attempt_no, part_no, us(due_at))) from receipts where id = any (p_receipts)),
    'callbacks', (select jsonb_object_agg(id, jsonb_build_array(message_id, event_type, sequence, attempts, us(due_at), us(done_at), outcome))
                  from callbacks where client_id = any (p_accounts)),
    'watch', (select jsonb_object_agg(message_id, jsonb_build_array(us(due_at))) from hold_watch where message_id = any (p_messages)));
end $$;
