"""The database moves messages by the same table as Python does."""

from pathlib import Path

from shared.domain.states import TRANSITIONS, MessageEvent, MessageState
from shared.storage.state_table import guard_sql, state_table_sql
from tests.support.flow import open_flow
from tests.support.servers import Database

ROOT = Path(__file__).parents[2]
FUNCTION = ROOT / "shared" / "storage" / "functions" / "next_state_v1.sql"
# The newest; it goes by a migration.
GUARD = ROOT / "alembic" / "versions" / "0003_guard.sql"


def test_the_sql_files_are_made_from_the_table() -> None:
    assert FUNCTION.read_text(encoding="utf-8") == state_table_sql()
    assert GUARD.read_text(encoding="utf-8") == guard_sql()


async def test_the_database_answers_every_pair_as_the_table_does(database: Database) -> None:
    sql = """
        select s::text, e::text, tollwire.next_state_v1(s, e)::text
        from unnest(enum_range(null::tollwire.message_state)) s,
             unnest(enum_range(null::tollwire.message_event)) e
    """
    async with open_flow(database) as flow:
        answers = {(state, event): after for state, event, after in await flow.pool.fetch(sql)}
    assert answers == {
        (state.value, event.value): after.value if (after := TRANSITIONS.get((state, event))) else None
        for state in MessageState
        for event in MessageEvent
    }
