"""Callbacks of one message, in the order in which processes begin them (docs/adr/0016)."""

import asyncio
from uuid import UUID

import pytest

from dlr import store
from dlr.bodies import body_of
from dlr.store import CallbackRecord, CallbackWork
from tests.support.deliveries import open_deliver
from tests.support.flow import LEASE_SECONDS, MSISDN, Flow, open_flow
from tests.support.servers import Database

EVENTS = ["message.sent", "message.delivered", "message.expired", "message.late_receipt"]
OUTCOMES = "select event_type, outcome from tollwire.callbacks order by sequence"
# The endpoint has no secret, so that no post is made; that is noted as a try.
IS_TRIED = "select attempts = 1 from tollwire.callbacks where id = $1"
LEASE_ENDS = "update tollwire.callbacks set due_at = clock_timestamp() where id = $1"
RETRY_SECONDS = 300.0


async def sent(flow: Flow, events: list[str] = EVENTS) -> tuple[int, str]:
    """A message that was submitted, of a client that hears of it: its carrier and the reference."""
    carrier, client = await flow.carrier(), await flow.client()
    await flow.endpoint(client, events=events)
    (reference,) = await flow.submitted(await flow.accepted(client), carrier)
    return carrier, reference


async def leased(flow: Flow) -> CallbackWork:
    """What another process has taken up and read."""
    ((callback_id, _),) = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
    (work,) = await store.load_callbacks(flow.pool, [callback_id])
    return work


async def noted(
    flow: Flow,
    callback_id: UUID,
    outcome: str | None = "delivered",
    retry_seconds: float = RETRY_SECONDS,
    attempt_no: int = 1,
) -> None:
    """It was tried; without an outcome it comes again."""
    record = CallbackRecord(callback_id, attempt_no, outcome, 204, None, 3, "127.0.0.1", None, retry_seconds)
    await store.record_callbacks(flow.pool, [record])


async def skip(flow: Flow, callback_id: UUID | None) -> str | None:
    assert callback_id is not None
    (work,) = await store.load_callbacks(flow.pool, [callback_id])
    return work.skip


async def outcomes(flow: Flow) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in await flow.pool.fetch(OUTCOMES)]


async def test_a_sent_that_nobody_has_begun_is_not_told_any_more(database: Database) -> None:
    async with open_flow(database) as flow:
        settled = await flow.receipt(*await sent(flow), "delivered")
        assert settled.told.skip is None
        assert await outcomes(flow) == [("message.sent", "superseded"), ("message.delivered", None)]
        assert await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS) == []


async def test_an_end_waits_while_somebody_may_be_telling_the_submit(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        before = await leased(flow)
        settled = await flow.receipt(carrier, reference, "delivered")
        assert settled.told.skip == "behind"
        assert await skip(flow, settled.callback_id) == "behind"
        await noted(flow, before.callback_id)
        assert await skip(flow, settled.callback_id) is None


async def test_an_end_waits_no_longer_than_the_lease_of_the_submit(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        before = await leased(flow)
        settled = await flow.receipt(carrier, reference, "delivered")
        await flow.pool.execute(LEASE_ENDS, before.callback_id)
        assert await skip(flow, settled.callback_id) is None
        assert await skip(flow, before.callback_id) == "superseded"


@pytest.mark.parametrize("retry_seconds", [5.0, 60.0, RETRY_SECONDS])
async def test_an_end_waits_for_no_retry_of_the_submit(database: Database, retry_seconds: float) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        await noted(flow, (await leased(flow)).callback_id, None, retry_seconds)
        settled = await flow.receipt(carrier, reference, "delivered")
        assert settled.told.skip is None
        assert await skip(flow, settled.callback_id) is None
        assert (await outcomes(flow))[0] == ("message.sent", "superseded")


async def test_an_end_waits_for_a_retry_of_the_submit_that_somebody_may_be_posting(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        await noted(flow, (await leased(flow)).callback_id, None, 0.0)
        retry = await leased(flow)
        settled = await flow.receipt(carrier, reference, "delivered")
        assert settled.told.skip == "behind"
        await noted(flow, retry.callback_id, None, 5.0, attempt_no=2)
        assert await skip(flow, settled.callback_id) is None
        assert (await outcomes(flow))[0] == ("message.sent", None)
        assert await skip(flow, retry.callback_id) == "superseded"


async def test_an_end_of_the_clockwork_waits_too(database: Database) -> None:
    async with open_flow(database) as flow:
        await sent(flow)
        before = await leased(flow)
        ids = [row[0] for row in await flow.pool.fetch("select message_id from tollwire.message_states")]
        await flow.pool.fetch(
            "select tollwire.finish_v1($1, '{receipt_wait_ended}', '{release}', '{no_receipt}', 0)", ids
        )
        assert (await leased(flow)).skip == "behind"
        await noted(flow, before.callback_id)
        assert (await outcomes(flow))[0] == ("message.sent", "delivered")


async def test_a_late_receipt_waits_until_the_end_is_told(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        ids = [row[0] for row in await flow.pool.fetch("select message_id from tollwire.message_states")]
        await flow.pool.fetch(
            "select tollwire.finish_v1($1, '{receipt_wait_ended}', '{release}', '{no_receipt}', 0)", ids
        )
        end = await leased(flow)
        assert (end.event_type, end.skip) == ("message.expired", None)
        late = await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)
        assert (late.outcome, await skip(flow, late.callback_id)) == ("late_capture", "behind")
        await noted(flow, end.callback_id, None)
        # It comes again in some minutes, and is the first to be told.
        assert await skip(flow, late.callback_id) == "behind"
        await noted(flow, end.callback_id, "gave_up")
        assert await skip(flow, late.callback_id) is None


async def test_a_process_delivers_an_end_as_soon_as_the_submit_is_noted(database: Database) -> None:
    async with open_flow(database) as flow, open_deliver(flow) as deliver:
        carrier, reference = await sent(flow)
        before = await leased(flow)
        settled = await flow.receipt(carrier, reference, "delivered")
        deliver.deliver_soon([settled.told])
        await noted(flow, before.callback_id)
        async with asyncio.timeout(10):
            while not await flow.pool.fetchval(IS_TRIED, settled.callback_id):  # noqa: ASYNC110 - see below
                await asyncio.sleep(0.02)  # a database gives no event


async def test_a_process_that_stops_lets_go_of_what_waits(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        await leased(flow)
        settled = await flow.receipt(carrier, reference, "delivered")
        async with asyncio.timeout(10), open_deliver(flow) as deliver:
            deliver.deliver_soon([settled.told])
        assert not await flow.pool.fetchval(IS_TRIED, settled.callback_id)


async def test_a_sent_that_was_read_before_the_end_is_not_told_after_it(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow)
        read_early = await leased(flow)
        assert (read_early.event_type, read_early.skip) == ("message.sent", None)
        settled = await flow.receipt(carrier, reference, "delivered")
        async with open_deliver(flow) as deliver:
            deliver.deliver_soon([settled.told, read_early])
        # Nobody waits for the "sent" any more.
        assert await outcomes(flow) == [("message.sent", "superseded"), ("message.delivered", None)]


async def test_what_is_asked_for_again_when_its_message_is_gone_is_not_told(database: Database) -> None:
    """There is nothing left to tell; a test event, which has no message at all, is told as ever."""
    database.is_corrupted_on_purpose()  # half of a day is dropped
    async with open_flow(database) as flow, open_deliver(flow) as deliver:
        settled = await flow.receipt(*await sent(flow), "delivered")
        await flow.pool.execute("delete from tollwire.callbacks where event_type = 'message.sent'")
        for table in ("message_states", "messages"):
            await flow.pool.execute(f"truncate tollwire.{table} cascade")
        assert await skip(flow, settled.callback_id) == "gone"
        (work,) = await store.load_callbacks(flow.pool, [settled.told.callback_id])
        with pytest.raises(ValueError, match="gone"):
            body_of(work)
        deliver.load_soon([settled.told.callback_id])
        async with asyncio.timeout(10):
            while await outcomes(flow) != [("message.delivered", "discarded")]:  # noqa: ASYNC110 - a row's news
                await asyncio.sleep(0.02)
        tested = await flow.pool.fetchval("select tollwire.test_callback_v1($1)", settled.client_id)
        assert await skip(flow, tested) is None
