"""The SQL of `tollwire recover` (ledger/functions/recover_restored_v1.sql)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from ledger.recover_facts import Told
from shared.domain.retry import ATTEMPTS_MAX
from shared.runtime.postgres import Pool, call, call_telling

CALL_DEADLINE_SECONDS: Final = 20.0
MARK: Final = "recover"


class Decided(NamedTuple):
    """What became of a message: its state, and whether it may reach somebody twice."""

    message_id: UUID
    after: str
    is_possible_duplicate: bool


SERVICES = """
    select distinct application_name from pg_catalog.pg_stat_activity
    where datname = current_database() and application_name = any ($1) order by 1
"""


async def connected(pool: Pool, names: Sequence[str]) -> list[str]:
    """Which of these programs are connected to the database."""
    rows = await call(pool, SERVICES, list(names), deadline_seconds=CALL_DEADLINE_SECONDS)
    return [str(row[0]) for row in rows]


NEWEST = "select clock_timestamp(), max(last_entry_at) from ledger.accounts where kind = 'client'"


async def times(pool: Pool) -> tuple[datetime, datetime | None]:
    """The database's now, and the moment of the newest entry in any client's journal."""
    ((now, newest),) = await call(pool, NEWEST, deadline_seconds=CALL_DEADLINE_SECONDS)
    # An account that was never used has -infinity, which is no moment in Python.
    return now, newest if isinstance(newest, datetime) and newest.year > 1 else None


READ_MARK = "select position from tollwire.watermarks where name = $1"
WRITE_MARK = "select tollwire.set_watermark_v1($1, $2)"


async def read_mark(pool: Pool) -> str:
    """How far a recovery is: empty, or what ``write_mark`` wrote last."""
    rows = await call(pool, READ_MARK, MARK, deadline_seconds=CALL_DEADLINE_SECONDS)
    return str(rows[0][0]) if rows else ""


async def write_mark(pool: Pool, position: str) -> None:
    """Remember how far it is."""
    await call(pool, WRITE_MARK, MARK, position, deadline_seconds=CALL_DEADLINE_SECONDS)


WAITING = "select message_id from tollwire.outbox where message_id > $1 order by message_id limit $2"


async def waiting(pool: Pool, after: UUID, limit: int) -> list[UUID]:
    """The next messages that have something to be done."""
    rows = await call(pool, WAITING, after, limit, deadline_seconds=CALL_DEADLINE_SECONDS)
    return [row[0] for row in rows]


KNOWN = "select id from tollwire.messages where id = any ($1::uuid[])"


async def known(pool: Pool, message_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these messages the database has."""
    rows = await call(pool, KNOWN, list(message_ids), deadline_seconds=CALL_DEADLINE_SECONDS)
    return {row[0] for row in rows}


DECIDE = """
    select o_message, o_after, o_twice from tollwire.recover_restored_v1(
        $1, $2::text[]::tollwire.message_state[], $3, $4, $5, $6, $7, $8, $9)
"""
# Nobody else changes any: what has changed since it was asked for is what was decided.
NOW = "select clock_timestamp()"
CHANGED = """
    select message_id, state, possible_duplicate from tollwire.message_states
    where message_id = any ($1::uuid[]) and message_id between $2 and $3 and updated_at >= $4
"""


async def decide(
    pool: Pool, told: Sequence[Told], *, began: datetime, until: datetime, holds_back: bool
) -> list[Decided]:
    """Decide for messages, with what was last told of each; what nothing can have happened to is left out.

    Where an answer was lost, what that try decided is looked up, beside what the last one answered: a
    primary whose clock is behind may have written times from before the question.
    """
    ids = [id_ for id_, _ in told]
    ((asked_at,),) = await call(pool, NOW, deadline_seconds=CALL_DEADLINE_SECONDS)
    rows, is_repeated = await call_telling(
        pool,
        DECIDE,
        ids,
        [said and said.status for _, said in told],
        [said and said.error for _, said in told],
        [said is not None and said.was_sent for _, said in told],
        [said and said.carrier_id for _, said in told],
        began,
        until,
        holds_back,
        ATTEMPTS_MAX,
        deadline_seconds=CALL_DEADLINE_SECONDS,
    )
    if is_repeated:
        rows += await call(
            pool, CHANGED, ids, min(ids), max(ids), asked_at, deadline_seconds=CALL_DEADLINE_SECONDS
        )
    return list({row[0]: Decided(*row) for row in rows}.values())


CLIENT_NAMES = "select id, name from tollwire.clients"


async def client_names(pool: Pool) -> dict[int, str]:
    """What the clients are called, those that the restored database has."""
    rows = await call(pool, CLIENT_NAMES, deadline_seconds=CALL_DEADLINE_SECONDS)
    return {row[0]: row[1] for row in rows}


SILENT = "select coalesce(sum(open_holds), 0)::bigint from ledger.accounts"


async def open_holds(pool: Pool) -> int:
    """How many holds are open."""
    rows = await call(pool, SILENT, deadline_seconds=CALL_DEADLINE_SECONDS)
    return int(rows[0][0])
