"""The spans that accepted messages are kept for those that come later, and found again."""

from shared.domain.ids import uuid7_from
from shared.events.traces import Traced
from shared.runtime.clock import Clock
from shared.storage.traces import keep_traces, load_traces
from tests.support.flow import open_flow
from tests.support.servers import Database


async def test_what_the_api_keeps_dlr_and_the_ledger_find(database: Database) -> None:
    now_ms = Clock().now_ms()
    ids = [uuid7_from(now_ms, number).hex for number in range(3)]
    kept = [Traced(ids[0], 2**127 + 1, 2**63 + 5), Traced(ids[1], 1, 1)]
    async with open_flow(database, "api") as api:
        await keep_traces(api.pool, kept)
        await keep_traces(api.pool, [Traced(ids[0], 9, 9)])  # the first one stands
    for role in ("dlr", "ledger"):
        async with open_flow(database, role) as reader:
            assert await load_traces(reader.pool, ids) == {one.message_id: one for one in kept}
