"""An event tells the message as it was when it happened, whenever it is posted; each asked for is told."""

import json
from typing import Any

import pytest

from api.callback_reads import ReplayWish
from dlr.bodies import body_of
from ledger import clockwork_store
from tests.integration.test_callback_order import leased, noted, outcomes, sent, skip
from tests.integration.test_callback_replays import replayed
from tests.support.flow import MSISDN, Flow, open_flow
from tests.support.servers import Database

OTHERS = ["message.failed", "message.expired"]


def told(work: Any) -> dict[str, Any]:
    """The message that a callback's body tells."""
    message: dict[str, Any] = json.loads(body_of(work))["data"]
    return {name: message[name] for name in ("status", "charged", "late_receipt", "error")}


async def late(flow: Flow) -> None:
    """No receipt came in the carrier's time."""
    ids = [row[0] for row in await flow.pool.fetch("select message_id from tollwire.message_states")]
    await flow.later(ids, 73 * 3_600)
    await clockwork_store.expire_holds(flow.pool, ids)


SENT = {"status": "SENT", "charged": False, "late_receipt": False, "error": None}


@pytest.mark.parametrize(
    "events", [["message.sent"], ["message.sent", *OTHERS]], ids=["alone", "with others"]
)
async def test_a_submit_is_told_after_an_end_that_is_not(database: Database, events: list[str]) -> None:
    """A receipt is often there before a sweep is: who asked for submits alone heard of hardly any."""
    async with open_flow(database) as flow:
        settled = await flow.receipt(*await sent(flow, events), "delivered")
        assert (settled.outcome, settled.callback_id) == ("moved", None)
        work = await leased(flow)
        assert (work.event_type, work.skip, told(work)) == ("message.sent", None, SENT)


async def test_a_submit_is_told_again_after_an_end_that_was_not_told(database: Database) -> None:
    async with open_flow(database) as flow:
        await flow.receipt(*await sent(flow, ["message.sent"]), "delivered")
        work = await leased(flow)
        await noted(flow, work.callback_id, "gave_up")
        client = await flow.pool.fetchval("select client_id from tollwire.callbacks")
        wish = ReplayWish([work.callback_id], None, None)
        for events, number in ((["message.sent", "message.delivered"], 0), (["message.sent"], 1)):
            await flow.pool.execute("update tollwire.callback_endpoints set events = $1", events)
            assert await replayed(flow, client, wish) == number
        assert (await leased(flow)).skip is None


async def test_a_submit_is_not_told_after_a_late_receipt_that_is(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow, ["message.sent", "message.late_receipt"])
        before = await leased(flow)
        await late(flow)
        assert await skip(flow, before.callback_id) is None
        settled = await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)
        assert settled.outcome == "late_capture"
        assert await skip(flow, before.callback_id) == "superseded"


async def test_an_end_does_not_know_of_the_late_receipt(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, reference = await sent(flow, ["message.expired", "message.late_receipt"])
        await late(flow)
        end = told(await leased(flow))
        assert (end["status"], end["charged"], end["late_receipt"]) == ("EXPIRED", False, False)
        await flow.pool.execute("update tollwire.callbacks set due_at = clock_timestamp()")
        await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)
        again = await leased(flow)
        assert told(again) == end
        await noted(flow, again.callback_id)
        await flow.pool.execute("update tollwire.callbacks set due_at = clock_timestamp()")
        last = told(await leased(flow))
        assert (last["status"], last["charged"], last["late_receipt"]) == ("EXPIRED", True, True)
        assert [kind for kind, _ in await outcomes(flow)] == ["message.expired", "message.late_receipt"]
