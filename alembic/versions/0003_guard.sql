-- Made from shared/domain/states.py by `python -m shared.storage.state_table guard`; do not edit.
-- The guard of message_states: only the moves that some chain of events makes inside one statement. The
-- condition spells the table out: a function's text would be parsed again for each statement that moves.
create or replace trigger message_states_move before update on tollwire.message_states for each row
    when (new.state <> old.state and not case old.state
        when 'SCHEDULED' then new.state in ('CANCELLED', 'EXPIRED', 'FAILED_PERM', 'QUEUED')
        when 'QUEUED' then new.state in ('CANCELLED', 'DELIVERED', 'EXPIRED', 'FAILED_PERM', 'SENDING', 'SENT', 'UNDELIVERED')
        when 'SENDING' then new.state in ('DELIVERED', 'EXPIRED', 'FAILED_PERM', 'FAILED_TEMP', 'QUEUED', 'SENT', 'UNDELIVERED', 'UNKNOWN')
        when 'SENT' then new.state in ('DELIVERED', 'EXPIRED', 'UNDELIVERED')
        when 'FAILED_TEMP' then new.state in ('CANCELLED', 'DELIVERED', 'EXPIRED', 'FAILED_PERM', 'SENDING', 'SENT', 'UNDELIVERED')
        when 'UNKNOWN' then new.state in ('DELIVERED', 'EXPIRED', 'FAILED_PERM', 'FAILED_TEMP', 'QUEUED', 'SENT', 'UNDELIVERED', 'UNKNOWN')
        else false end)
    execute function tollwire.refuse_move();
