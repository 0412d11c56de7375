-- Made from shared/domain/states.py by `python -m shared.storage.state_table`; do not edit.
-- The state after an event; null where the table has no such pair: the caller decides what that means.
-- Typed inside: a cast of the whole would be no immutable expression, and no call would be inlined.
create or replace function tollwire.next_state_v1(
    p_state tollwire.message_state, p_event tollwire.message_event
) returns tollwire.message_state
language sql immutable parallel safe as $$
    select case p_state
        when 'SCHEDULED' then case p_event when 'due' then 'QUEUED' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' else null::tollwire.message_state end
        when 'QUEUED' then case p_event when 'claimed' then 'SENDING' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' when 'submitted' then 'SENT' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' else null::tollwire.message_state end
        when 'SENDING' then case p_event when 'no_route' then 'FAILED_PERM' when 'unclaimed' then 'QUEUED' when 'throttled' then 'QUEUED' when 'submitted' then 'SENT' when 'refused_temp' then 'FAILED_TEMP' when 'refused_perm' then 'FAILED_PERM' when 'uncertain' then 'UNKNOWN' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' else null::tollwire.message_state end
        when 'SENT' then case p_event when 'receipt_wait_ended' then 'EXPIRED' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' else null::tollwire.message_state end
        when 'FAILED_TEMP' then case p_event when 'claimed' then 'SENDING' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' when 'submitted' then 'SENT' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' else null::tollwire.message_state end
        when 'UNKNOWN' then case p_event when 'unclaimed' then 'QUEUED' when 'throttled' then 'QUEUED' when 'submitted' then 'SENT' when 'refused_temp' then 'FAILED_TEMP' when 'refused_perm' then 'FAILED_PERM' when 'uncertain' then 'UNKNOWN' when 'asked_again' then 'QUEUED' when 'outcome_wait_ended' then 'FAILED_PERM' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' else null::tollwire.message_state end
    end
$$;

grant execute on function tollwire.next_state_v1 to tollwire_ledger, tollwire_readonly;
