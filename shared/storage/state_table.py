"""Writes the state table as SQL, so that the database moves messages by the same table as Python does.

``python -m shared.storage.state_table`` prints shared/storage/functions/next_state_v1.sql, and with ``guard``
the trigger of alembic/versions/0003_guard.sql; a test keeps them equal. A table that changes needs a
migration that runs the guard again: it is no function, and not renewed as those are.
"""

import sys

from shared.domain.states import TRANSITIONS, MessageState

HEAD = """\
-- Made from shared/domain/states.py by `python -m shared.storage.state_table`; do not edit.
-- The state after an event; null where the table has no such pair: the caller decides what that means.
-- Typed inside: a cast of the whole would be no immutable expression, and no call would be inlined.
create or replace function tollwire.next_state_v1(
    p_state tollwire.message_state, p_event tollwire.message_event
) returns tollwire.message_state
language sql immutable parallel safe as $$
    select case p_state
"""

TAIL = """\
    end
$$;

grant execute on function tollwire.next_state_v1 to tollwire_ledger, tollwire_readonly;
"""

GUARD_HEAD = """\
-- Made from shared/domain/states.py by `python -m shared.storage.state_table guard`; do not edit.
-- The guard of message_states: only the moves that some chain of events makes inside one statement. The
-- condition spells the table out: a function's text would be parsed again for each statement that moves.
create or replace trigger message_states_move before update on tollwire.message_states for each row
    when (new.state <> old.state and not case old.state
"""

GUARD_TAIL = """\
        else false end)
    execute function tollwire.refuse_move();
"""

# Gives the whole its type.
_NONE = "null::tollwire.message_state"


def state_table_sql() -> str:
    """Return the whole .sql file of the function."""
    lines = [HEAD]
    for state in MessageState:
        moves = {event: after for (before, event), after in TRANSITIONS.items() if before is state}
        if moves:
            cases = " ".join(f"when '{event.value}' then '{after.value}'" for event, after in moves.items())
            lines.append(f"        when '{state.value}' then case p_event {cases} else {_NONE} end\n")
    return "".join(lines) + TAIL


def guard_sql() -> str:
    """Return the whole .sql file of the trigger."""
    lines = [GUARD_HEAD]
    for state in MessageState:
        targets = sorted(
            {after.value for (before, _), after in TRANSITIONS.items() if before is state} | _two_steps(state)
        )
        if targets:
            listed = ", ".join(f"'{target}'" for target in targets)
            lines.append(f"        when '{state.value}' then new.state in ({listed})\n")
    return "".join(lines) + GUARD_TAIL


def _two_steps(state: MessageState) -> set[str]:
    """Moves that one statement makes in two steps: an outcome becomes UNKNOWN and is asked again at once."""
    reaches_unknown = any(
        before is state and after is MessageState.UNKNOWN for (before, _), after in TRANSITIONS.items()
    )
    return {MessageState.QUEUED.value} if reaches_unknown else set()


if __name__ == "__main__":
    print(guard_sql() if sys.argv[1:] == ["guard"] else state_table_sql(), end="")
