"""A long lease is for what was seen in the stream; nothing else waits for its end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from ledger import clockwork_store as store
from tests.support.flow import TRIES_MAX, Flow, open_flow
from tests.support.servers import Database
from worker.store import claim_batch

NONE_IN_STREAM = [None, None, None]
ALL_IN_STREAM = [datetime(2020, 1, 1, tzinfo=UTC)] * 3
# The walk over all leases, as after a stream was made anew.
FROM_THE_LONGEST = datetime.max.replace(tzinfo=UTC)


async def seen_in_stream(flow: Flow, ids: list[UUID], times: int = 6) -> None:
    """Let messages wait in the stream until their leases have come to an hour."""
    for _ in range(times):
        await flow.pool.execute(
            "update tollwire.outbox set due_at = clock_timestamp() where message_id = any ($1)", ids
        )
        assert await store.dispatch_due(flow.pool, ids, ALL_IN_STREAM, 1) == []


async def row_of(flow: Flow, message: UUID) -> asyncpg.Record:
    row = await flow.outbox(message)
    assert row is not None
    return row


async def due_in(flow: Flow, message: UUID) -> float:
    """In how many seconds somebody looks at a message."""
    sql = "select extract(epoch from due_at - clock_timestamp()) from tollwire.outbox where message_id = $1"
    return float(await flow.pool.fetchval(sql, message))


@pytest.mark.parametrize("beside", [[], [UUID(int=1)]], ids=["by columns", "beside a stranger"])
@pytest.mark.parametrize("deadline_seconds", [20, 60, 120])
async def test_a_claim_is_looked_at_soon_after_its_deadline_however_long_its_lease_was(
    database: Database, beside: list[UUID], deadline_seconds: int
) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        long, fresh = ids = await flow.accepted(client, 2)
        await seen_in_stream(flow, [long])
        assert await due_in(flow, long) > 3_500
        before = (await row_of(flow, fresh))["due_at"]
        work = [*((id_.hex, 1) for id_ in ids), *((id_.hex, 1) for id_ in beside)]
        name = uuid4()
        for _ in range(2):  # the second call is the first one's, whose answer was lost
            claims = await claim_batch(flow.pool, work, carrier, deadline_seconds, name)
            assert [claim.refusal for claim in claims[:2]] == [None, None]
        deadline = (await flow.state_row(long))["claim_deadline"]
        assert (await row_of(flow, long))["due_at"] == deadline + timedelta(seconds=5)
        assert (await row_of(flow, fresh))["due_at"] == before, "what is due soon is not written"
        await flow.later(ids, deadline_seconds + 6)
        assert (await store.look_due(flow.pool, 10))["recover"].count(long) == 1
        assert [m.state for m in await store.recover_claims(flow.pool, [long], TRIES_MAX)] == ["UNKNOWN"]


async def test_a_claim_is_never_looked_at_later_than_at_the_messages_end(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client(), valid_seconds=90)
        await seen_in_stream(flow, [message])
        valid_until = await flow.pool.fetchval("select valid_until from tollwire.messages")
        assert (await row_of(flow, message))["due_at"] == valid_until
        await flow.later([message], 5)
        await claim_batch(flow.pool, [(message.hex, 1)], await flow.carrier(), 120, uuid4())
        assert (await row_of(flow, message))["due_at"] <= valid_until


async def test_what_is_published_again_is_looked_at_within_a_minute_however_often_it_was_lost(
    database: Database,
) -> None:
    """Who published it may have died before it did."""
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        await seen_in_stream(flow, [message])
        for number in (2, 3, 4):
            await flow.later([message], 3_700)
            (dispatch,) = await store.dispatch_due(flow.pool, [message], NONE_IN_STREAM, 1)
            row = await row_of(flow, message)
            assert dispatch.dispatch_no == number
            assert (row["due_at"] - row["leased_at"]).total_seconds() == 60
        await flow.later([message], 61)
        assert await store.dispatch_due(flow.pool, [message], ALL_IN_STREAM, 1) == []
        assert await due_in(flow, message) > 3_500, "seen in the stream it has its long lease again"


async def test_what_was_lost_twice_is_not_ended_before_its_minute_is_over(database: Database) -> None:
    """A stream that is slow to take it in, or a clock that is off, looks like a loss."""
    async with open_flow(database) as flow:
        first, again = await flow.accepted(await flow.client(), 2)
        await flow.later([again], 61)
        await store.dispatch_due(flow.pool, [again], NONE_IN_STREAM, 1)
        await flow.later([first, again], 10)
        assert await store.end_lost_leases(flow.pool, NONE_IN_STREAM, 1, None, 100) == (1, None)
        assert 45 < await due_in(flow, again) < 51
        assert await store.end_lost_leases(flow.pool, NONE_IN_STREAM, 2, None, 100) == (1, None), (
            "another life of the stream has nothing of it"
        )


async def test_the_walk_after_a_wipe_sees_the_longest_leases_page_by_page(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        ids = await flow.accepted(client, 7)
        for id_ in ids:
            await seen_in_stream(flow, [id_])
        later = datetime.now(UTC) + timedelta(hours=2)
        await flow.accepted(client, 3, send_at=later)
        await flow.later(ids, 10)
        assert await store.end_lost_leases(flow.pool, NONE_IN_STREAM, 2, None, 100) == (0, None)
        before: datetime | None = FROM_THE_LONGEST
        ended = []
        while before is not None:
            number, before = await store.end_lost_leases(flow.pool, NONE_IN_STREAM, 2, before, 3)
            ended.append(number)
        assert (sum(ended), max(ended)) == (7, 3)
        assert sorted((await store.look_due(flow.pool, 10))["dispatch"]) == ids
