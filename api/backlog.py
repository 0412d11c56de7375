"""What of a client's waits: asked for by an operator, one client at a time, never a label of a metric."""

from typing import Final

from api.admin_schemas import ClientBacklog
from shared.runtime.postgres import Pool

# Rows looked at: those of all clients that are due first. A client whose messages are not among so many has
# others before it, and that is what its operator sees.
OUTBOX_ROWS_MAX: Final = 50_000
CALLBACKS_MAX: Final = 10_000
READ_SECONDS: Final = 4.0

READ_BACKLOG: Final = """
    with clock as materialized (select clock_timestamp() as now),
    mine as (
        select o.dispatch_at from (
            select message_id, dispatch_at from tollwire.outbox order by due_at limit $2) o
        join tollwire.messages m on m.id = o.message_id where m.client_id = $1
    ),
    callbacks as (
        select c.due_at from tollwire.callbacks c
        where c.done_at is null and c.endpoint_id = (
            select e.id from tollwire.callback_endpoints e where e.client_id = $1) limit $3
    )
    select
        (select count(*) from mine, clock where dispatch_at <= now),
        (select count(*) from mine, clock where dispatch_at > now),
        (select coalesce(extract(epoch from max(now - dispatch_at)), 0) from mine, clock
         where dispatch_at <= now),
        (select count(*) from callbacks),
        (select coalesce(extract(epoch from max(now - due_at)), 0) from callbacks, clock where due_at <= now)
"""


async def read_backlog(pool: Pool, client_id: int) -> ClientBacklog:
    """Count what of the client's waits now."""
    row = await pool.fetchrow(READ_BACKLOG, client_id, OUTBOX_ROWS_MAX, CALLBACKS_MAX, timeout=READ_SECONDS)
    dispatchable, scheduled, oldest, callbacks, oldest_callback = row or (0, 0, 0, 0, 0)
    return ClientBacklog(
        dispatchable=dispatchable,
        scheduled=scheduled,
        oldest_seconds=round(float(oldest), 3),
        callbacks=callbacks,
        oldest_callback_seconds=round(float(oldest_callback), 3),
    )
