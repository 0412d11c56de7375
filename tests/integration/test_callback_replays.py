"""What a replay says is on its way is told; what nobody would tell keeps the record of what became of it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api import callback_reads
from api.callback_reads import ReplayWish
from dlr import store
from dlr.store import CallbackRecord
from tests.support.flow import LEASE_SECONDS, Flow, open_flow
from tests.support.servers import Database

EVENTS = ["message.sent", "message.delivered"]
ROWS = "select event_type, outcome from tollwire.callbacks order by sequence"


async def submitted(flow: Flow, outcome: str) -> tuple[int, int, str, UUID]:
    """A message whose submit was told, or not: its client, carrier, reference and that callback."""
    carrier, client = await flow.carrier(), await flow.client()
    await flow.endpoint(client, events=EVENTS)
    (reference,) = await flow.submitted(await flow.accepted(client), carrier)
    ((sent, _),) = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
    await noted(flow, sent, outcome)
    return client, carrier, reference, sent


async def noted(flow: Flow, callback_id: UUID, outcome: str) -> None:
    record = CallbackRecord(callback_id, 1, outcome, 204, None, 3, "127.0.0.1", None, 0.0)
    await store.record_callbacks(flow.pool, [record])


async def replayed(flow: Flow, client: int, wish: ReplayWish) -> int:
    async with flow.pool.acquire() as connection:
        number, _ = await callback_reads.replay_callbacks(connection, client, wish)
    return number


async def rows(flow: Flow) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in await flow.pool.fetch(ROWS)]


@pytest.mark.parametrize(
    ("outcome", "is_named"), [("delivered", True), ("gave_up", True), ("gave_up", False)]
)
async def test_the_submit_of_an_ended_message_is_not_replayed_and_its_record_stays(
    database: Database, outcome: str, is_named: bool
) -> None:
    async with open_flow(database) as flow:
        client, carrier, reference, sent = await submitted(flow, outcome)
        end = (await flow.receipt(carrier, reference, "delivered")).told
        await noted(flow, end.callback_id, outcome)
        since = datetime.now(UTC) - timedelta(hours=1)
        named = ReplayWish([sent, end.callback_id], None, None)
        assert await replayed(flow, client, named if is_named else ReplayWish(None, since, None)) == 1
        assert await rows(flow) == [("message.sent", outcome), ("message.delivered", None)]


async def test_the_submit_of_a_message_that_is_still_on_its_way_is_told_again(database: Database) -> None:
    async with open_flow(database) as flow:
        client, _, _, sent = await submitted(flow, "delivered")
        assert await replayed(flow, client, ReplayWish([sent], None, None)) == 1
        ((leased, _),) = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        (work,) = await store.load_callbacks(flow.pool, [leased])
        assert (work.callback_id, work.skip) == (sent, None)


async def test_what_its_message_is_gone_of_is_not_replayed(database: Database) -> None:
    database.is_corrupted_on_purpose()  # half of a day is dropped
    async with open_flow(database) as flow:
        client, _, _, sent = await submitted(flow, "delivered")
        tested = await flow.pool.fetchval("select tollwire.test_callback_v1($1)", client)
        await noted(flow, tested, "delivered")
        for table in ("message_states", "messages"):
            await flow.pool.execute(f"truncate tollwire.{table} cascade")
        assert await replayed(flow, client, ReplayWish([sent, tested], None, None)) == 1
        assert await rows(flow) == [("callback.test", None), ("message.sent", "delivered")]
