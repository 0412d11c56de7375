"""The spans that accepted messages, kept for what comes later: retries, receipts, callbacks."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from shared.events.traces import Traced
from shared.runtime.postgres import Pool, call

KEEP: Final = "select tollwire.keep_traces_v1($1, $2, $3)"
LOAD: Final = "select * from tollwire.load_traces_v1($1)"
# A trace is worth no waiting: who cannot be told in time goes without.
DEADLINE_SECONDS: Final = 5.0
# PostgreSQL has no unsigned integers: the upper half of the span ids is negative there.
SPAN_IDS: Final = 2**64


async def keep_traces(pool: Pool, traced: Sequence[Traced]) -> None:
    """Keep the spans of sampled messages; the first one of a message stands."""
    await call(
        pool,
        KEEP,
        [UUID(one.message_id) for one in traced],
        [UUID(int=one.trace_id) for one in traced],
        [one.span_id - SPAN_IDS if one.span_id >= SPAN_IDS // 2 else one.span_id for one in traced],
        deadline_seconds=DEADLINE_SECONDS,
    )


async def load_traces(pool: Pool, message_ids: Sequence[str]) -> Mapping[str, Traced]:
    """Return what is kept of these messages, by message id in hex: the sampled ones."""
    rows = await call(pool, LOAD, [UUID(id_) for id_ in message_ids], deadline_seconds=DEADLINE_SECONDS)
    traced = (Traced(UUID(str(row[0])).hex, UUID(str(row[1])).int, row[2] % SPAN_IDS) for row in rows)
    return {one.message_id: one for one in traced}
