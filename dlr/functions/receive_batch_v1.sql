-- Keeps carriers' receipts, before the carriers hear "received" (RULES 24, 37). Leased to the caller, who settles them at once.
-- The same id again is nothing new.
create or replace function tollwire.receive_batch_v1(p_id uuid[], p_carrier smallint[], p_reference text[], p_state tollwire.receipt_state[], p_done_at timestamptz[],
                                          p_msisdn text[], p_error text[], p_part smallint[], p_echo_message uuid[], p_echo_attempt smallint[], p_lease_seconds integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- A commit that wrote nothing does not wait for the standby, and the first call's may have been cancelled while it waited.
    if tollwire.keep_receipts_v1(p_id, p_carrier, p_reference, p_state, p_done_at, p_msisdn, p_error, p_part, p_echo_message, p_echo_attempt, p_lease_seconds)
       < cardinality(p_id) then
        perform 1 from tollwire.receipts where id = any (p_id) order by id for key share;
    end if;
end $$;

-- The rows alone, for the two that keep receipts; how many are new. It locks none that was there: take_receipts_v1 locks messages next.
create or replace function tollwire.keep_receipts_v1(p_id uuid[], p_carrier smallint[], p_reference text[], p_state tollwire.receipt_state[], p_done_at timestamptz[],
                                          p_msisdn text[], p_error text[], p_part smallint[], p_echo_message uuid[], p_echo_attempt smallint[], p_lease_seconds integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_now timestamptz := clock_timestamp();
    v_new integer;
begin
    insert into tollwire.receipts (id, carrier_id, reference, state, done_at, msisdn, error_code, part_no, echo_message_id, echo_attempt_no, received_at, due_at)
        select x.id, x.carrier_id, x.reference, x.state, x.done_at, x.msisdn, x.error, x.part_no, x.echo_message, x.echo_attempt, v_now, v_now + p_lease_seconds * interval '1 second'
        from unnest(p_id, p_carrier, p_reference, p_state, p_done_at, p_msisdn, p_error, p_part, p_echo_message, p_echo_attempt)
             x(id, carrier_id, reference, state, done_at, msisdn, error, part_no, echo_message, echo_attempt)
        order by x.id
        on conflict (id) do nothing;
    get diagnostics v_new = row_count;
    return v_new;
end $$;

grant execute on function tollwire.receive_batch_v1 to tollwire_dlr, tollwire_worker;
