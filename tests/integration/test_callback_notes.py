"""Notes of callbacks are written, whatever becomes of those before them."""

import asyncio
from uuid import UUID

import pytest

from api.callback_reads import TRIES_MAX
from dlr import store
from dlr.notes import FLUSH_MAX, CallbackNotes
from dlr.records import ATTEMPTS_MAX
from dlr.store import CallbackRecord
from shared.runtime.batcher import Stopped
from tests.support.flow import LEASE_SECONDS, Flow, open_flow
from tests.support.servers import Database

NOTED = "select count(*) from tollwire.callbacks where outcome = 'delivered'"
PUT_BACK = "update tollwire.callbacks set done_at = null, outcome = null where id = $1"
LAST_TRY = "select attempts, outcome, status, duration_ms from tollwire.callbacks where id = $1"
IS_LEASED = "select is_leased from tollwire.callbacks where id = $1"
KEPT = "select attempt_no from tollwire.callback_attempts where callback_id = $1 order by attempt_no"


async def callbacks(flow: Flow, number: int) -> list[UUID]:
    """Ends of so many messages, each with a callback that is leased to us."""
    carrier, client = await flow.carrier(), await flow.client()
    await flow.endpoint(client)
    references = await flow.submitted(await flow.accepted(client, number), carrier)
    receipts = [flow.new_receipt(carrier, reference, "delivered") for reference in references]
    settled = await store.take_receipts(flow.pool, receipts, LEASE_SECONDS)
    return [answer.callback_id for answer in settled if answer.callback_id is not None]


def taken(callback_id: UUID) -> CallbackRecord:
    return CallbackRecord(callback_id, 1, "delivered", 204, None, 3, "127.0.0.1", None, 0.0)


async def test_one_that_hears_nothing_of_its_note_keeps_no_other_from_being_written(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        ids = await callbacks(flow, FLUSH_MAX + 2)
        heard: list[UUID] = []

        def on_noted(callback_id: UUID) -> None:
            if callback_id == ids[0]:
                raise ValueError("it cannot be told")
            heard.append(callback_id)

        notes = CallbackNotes(flow.pool, on_noted)
        async with notes:
            for callback_id in ids:
                notes.add(taken(callback_id))
        assert await flow.pool.fetchval(NOTED) == len(ids)
        assert sorted(heard) == sorted(ids[1:])


async def test_a_callback_that_is_replayed_again_and_again_keeps_its_last_tries(database: Database) -> None:
    async with open_flow(database) as flow:
        again, once = await callbacks(flow, 2)
        tries = TRIES_MAX + 5
        first = taken(once)._replace(answer_head=b"kept")
        for number in range(1, tries + 1):
            one = taken(again)._replace(attempt_no=number, answer_head=b"kept")
            await store.record_callbacks(flow.pool, [first, one] if once < again else [one, first])
            await flow.pool.execute(PUT_BACK, again)
        kept = await flow.pool.fetch(KEPT, again)
        assert [row[0] for row in kept] == list(range(tries - TRIES_MAX + 1, tries + 1))
        assert len(await flow.pool.fetch(KEPT, once)) == 1


async def test_the_batcher_is_closed_when_the_last_write_was_given_up(database: Database) -> None:
    async with open_flow(database) as flow:
        (callback_id,) = await callbacks(flow, 1)
        notes = CallbackNotes(flow.pool, lambda _: None)
        await notes.__aenter__()
        notes.add(taken(callback_id))
        leaving = asyncio.create_task(notes.__aexit__())
        await asyncio.sleep(0)  # it waits for the write now
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        (batcher,) = notes.parts()
        try:
            await batcher.submit(taken(callback_id))  # type: ignore[attr-defined] # it is one
        except Stopped:
            return
        raise AssertionError("the batcher is still open")


@pytest.mark.parametrize("outcome", [None, "superseded"])
async def test_what_was_no_try_leaves_what_the_last_one_came_to(
    database: Database, outcome: str | None
) -> None:
    async with open_flow(database) as flow:
        (callback_id,) = await callbacks(flow, 1)
        tried = CallbackRecord(callback_id, 1, None, 503, "HTTP 503", 7, "127.0.0.1", None, 5.0)
        untried = CallbackRecord(callback_id, 1, outcome, None, None, None, None, None, 0.0)
        for note in (tried, untried):
            await store.record_callbacks(flow.pool, [note])
        assert tuple(await flow.row(LAST_TRY, callback_id)) == (1, outcome, 503, 7)


async def test_a_try_without_an_answer_takes_the_place_of_the_one_before(database: Database) -> None:
    async with open_flow(database) as flow:
        (callback_id,) = await callbacks(flow, 1)
        answered = CallbackRecord(callback_id, 1, None, 503, "HTTP 503", 7, "127.0.0.1", None, 5.0)
        refused = CallbackRecord(callback_id, 2, None, None, "connect_failed: ", 9, None, None, 5.0)
        unsigned = CallbackRecord(callback_id, 3, None, None, "no_secret", None, None, None, 5.0)
        for note, noted in ((answered, (503, 7)), (refused, (None, 9)), (unsigned, (None, None))):
            await store.record_callbacks(flow.pool, [note])
            assert tuple(await flow.row(LAST_TRY, callback_id))[2:] == noted


async def test_a_failed_try_that_is_noted_again_takes_nothing_from_who_leased_it_since(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        (callback_id,) = await callbacks(flow, 1)
        failed = CallbackRecord(callback_id, 1, None, 503, "HTTP 503", 7, "127.0.0.1", None, 0.0)
        await store.record_callbacks(flow.pool, [failed])
        leased = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        assert [one for one, _ in leased] == [callback_id]
        await store.record_callbacks(flow.pool, [failed])
        assert await flow.pool.fetchval(IS_LEASED, callback_id)
        await store.record_callbacks(flow.pool, [failed._replace(attempt_no=2)])
        assert not await flow.pool.fetchval(IS_LEASED, callback_id)
        await store.record_callbacks(flow.pool, [failed._replace(attempt_no=2, outcome="delivered")])
        assert await flow.pool.fetchval(NOTED) == 1, "an end is noted, whoever made the try"


async def test_tries_beyond_what_is_counted_are_noted(database: Database) -> None:
    async with open_flow(database) as flow:
        (callback_id,) = await callbacks(flow, 1)
        failed = CallbackRecord(callback_id, ATTEMPTS_MAX, None, 503, "HTTP 503", 7, "127.0.0.1", None, 0.0)
        for _ in range(2):
            await store.record_callbacks(flow.pool, [failed])
            assert not await flow.pool.fetchval(IS_LEASED, callback_id)
            assert await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
