"""cancel_batch_v1: what no carrier can have is cancelled, and nothing else."""

import pytest

from tests.support.flow import open_flow, outcome
from tests.support.servers import Database


@pytest.mark.parametrize(
    ("word", "delivery", "answer"),
    [
        ("throttled", "at_most_once", "cancelled"),
        ("unclaimed", "at_most_once", "cancelled"),
        ("refused_temp", "at_most_once", "cancelled"),
        ("uncertain", "at_least_once", "already_sending"),
        ("uncertain", "at_most_once", "already_sending"),
    ],
)
async def test_what_a_carrier_may_have_is_not_cancelled(
    database: Database, word: str, delivery: str, answer: str
) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery=delivery)
        (claim,) = await flow.claim([message], carrier)
        await flow.record([outcome(message, claim.attempt_no, word)], carrier)
        assert await flow.cancel(client, [message]) == [answer]
        assert (await flow.lock(message))["state"] == ("RELEASED" if answer == "cancelled" else "HELD")


async def test_what_is_asked_again_of_a_carrier_that_knows_our_ids_is_not_cancelled(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(idempotent_submit=True), await flow.client()
        (message,) = await flow.accepted(client)
        (claim,) = await flow.claim([message], carrier)
        await flow.record([outcome(message, claim.attempt_no, "uncertain")], carrier, may_ask_again=True)
        assert await flow.state(message) == "QUEUED"
        assert await flow.cancel(client, [message, message]) == ["already_sending", "already_sending"]
