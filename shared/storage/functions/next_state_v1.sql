-- Made from shared/domain/states.py by `python -m shared.storage.state_table`; do not edit.
-- The state after an event; null where the table has no such pair: the caller decides what that means.
create function tollwire.next_state_v1(p_state tollwire.message_state, p_event tollwire.message_event)
returns tollwire.message_state
language sql immutable parallel safe as $$
    select (case p_state
        when 'SCHEDULED' then case p_event when 'due' then 'QUEUED' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' end
        when 'QUEUED' then case p_event when 'claimed' then 'SENDING' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' when 'submitted' then 'SENT' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' end
        when 'SENDING' then case p_event when 'unclaimed' then 'QUEUED' when 'throttled' then 'QUEUED' when 'no_route' then 'FAILED_PERM' when 'submitted' then 'SENT' when 'refused_temp' then 'FAILED_TEMP' when 'refused_perm' then 'FAILED_PERM' when 'uncertain' then 'UNKNOWN' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' end
        when 'SENT' then case p_event when 'receipt_wait_ended' then 'EXPIRED' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' end
        when 'FAILED_TEMP' then case p_event when 'claimed' then 'SENDING' when 'validity_ended' then 'EXPIRED' when 'cancelled' then 'CANCELLED' when 'no_route' then 'FAILED_PERM' when 'suspended' then 'FAILED_PERM' when 'submitted' then 'SENT' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' end
        when 'UNKNOWN' then case p_event when 'submitted' then 'SENT' when 'refused_temp' then 'FAILED_TEMP' when 'refused_perm' then 'FAILED_PERM' when 'uncertain' then 'UNKNOWN' when 'asked_again' then 'QUEUED' when 'outcome_wait_ended' then 'FAILED_PERM' when 'delivered' then 'DELIVERED' when 'undelivered' then 'UNDELIVERED' when 'carrier_expired' then 'EXPIRED' end
    end)::tollwire.message_state
$$;

-- True for the moves that some chain of events makes inside one statement; the guard of message_states.
create function tollwire.may_move_v1(p_from tollwire.message_state, p_to tollwire.message_state)
returns boolean
language sql immutable parallel safe as $$
    select case p_from
        when 'SCHEDULED' then p_to in ('CANCELLED', 'EXPIRED', 'FAILED_PERM', 'QUEUED')
        when 'QUEUED' then p_to in ('CANCELLED', 'DELIVERED', 'EXPIRED', 'FAILED_PERM', 'SENDING', 'SENT', 'UNDELIVERED')
        when 'SENDING' then p_to in ('DELIVERED', 'EXPIRED', 'FAILED_PERM', 'FAILED_TEMP', 'QUEUED', 'SENT', 'UNDELIVERED', 'UNKNOWN')
        when 'SENT' then p_to in ('DELIVERED', 'EXPIRED', 'UNDELIVERED')
        when 'FAILED_TEMP' then p_to in ('CANCELLED', 'DELIVERED', 'EXPIRED', 'FAILED_PERM', 'SENDING', 'SENT', 'UNDELIVERED')
        when 'UNKNOWN' then p_to in ('DELIVERED', 'EXPIRED', 'FAILED_PERM', 'FAILED_TEMP', 'QUEUED', 'SENT', 'UNDELIVERED', 'UNKNOWN')
        else false end
$$;
