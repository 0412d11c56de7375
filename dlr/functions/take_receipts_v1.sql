-- Keeps carriers' receipts and settles them in one transaction: what receive_batch_v1 and settle_batch_v1 do one after the other,
-- for one commit. Arrays and answers as theirs; an answer for each position. Where it cannot be done now (an account is locked for
-- long), the caller keeps them alone and settles them later (RULES 24).
create or replace function tollwire.take_receipts_v1(p_id uuid[], p_carrier smallint[], p_reference text[], p_state tollwire.receipt_state[], p_done_at timestamptz[],
                                          p_msisdn text[], p_error text[], p_part smallint[], p_echo_message uuid[], p_echo_attempt smallint[],
                                          p_receipt_lease_seconds integer, p_lease_seconds integer, p_keep_hours integer)
returns table (o_outcome text, o_client bigint, o_region text, o_lane tollwire.lane, o_carrier_id smallint, o_submitted_at timestamptz,
               o_callback uuid, o_skip text, o_endpoint bigint, o_url text, o_own_url boolean, o_event_type text, o_sequence smallint, o_attempts smallint, o_created_at timestamptz,
               o_message uuid, o_state tollwire.message_state, o_msisdn text, o_sender text, o_client_ref text, o_segments smallint,
               o_price bigint, o_currency text, o_charged boolean, o_error text, o_message_attempts smallint, o_possible_duplicate boolean,
               o_late_receipt boolean, o_parts_delivered smallint, o_message_created_at timestamptz, o_final_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Not by receive_batch_v1: it locks receipts that it finds, and messages come first (docs/adr/0020). Settling locks each of them in its turn,
    -- which is also why this commit waits for the standby where nothing is new.
    perform tollwire.keep_receipts_v1(p_id, p_carrier, p_reference, p_state, p_done_at, p_msisdn, p_error, p_part, p_echo_message, p_echo_attempt,
                                      p_receipt_lease_seconds);
    return query select * from tollwire.settle_batch_v1(p_id, p_lease_seconds, p_keep_hours);
end $$;

grant execute on function tollwire.take_receipts_v1 to tollwire_dlr;
