"""A receipt says that the carrier has the message, and then its submit is answered with a refusal.

As by a proxy before a carrier that took it: what the receipt says stands (RULES 17, 24).
"""

from uuid import UUID

import pytest

from ledger.verify import verify_database
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database

NAME = "its own"
REFUSALS = ("throttled", "refused_temp", "refused_perm", "unclaimed")
TAKEN = ("enroute", "accepted")


async def refused_though_taken(
    flow: Flow, carrier: int, word: str, refusal: str, *, charge: str, delivery: str = "at_most_once"
) -> UUID:
    """A message of which a receipt says that the carrier has it, before its answer comes."""
    client = await flow.client()
    (message,) = await flow.accepted(client, charge=charge, delivery=delivery, carrier_id=carrier)
    await flow.claim([message], carrier)
    settled = await flow.receipt(carrier, f"{NAME} {message}", word, echo_message_id=message)
    assert settled.outcome == "noted"
    line = outcome(message, 1, refusal, retry_seconds=0.0, error="503", detail="Service Unavailable")
    for _ in range(2):  # the worker did not hear the first answer
        (recorded,) = await flow.record([line], carrier)
        assert (recorded.moved, recorded.state) == (True, "SENT")
    return message


@pytest.mark.parametrize("charge", ["delivered", "submitted"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_it_is_sent_once_and_paid_as_its_last_receipt_says(
    database: Database, refusal: str, charge: str
) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        undelivered = {"delivered": "RELEASED", "submitted": "CAPTURED"}[charge]
        ends = {"delivered": ("DELIVERED", "CAPTURED"), "undelivered": ("UNDELIVERED", undelivered)}
        for word in TAKEN:
            for last, end in ends.items():
                message = await refused_though_taken(flow, carrier, word, refusal, charge=charge)
                assert await flow.outbox(message) is None
                assert [claim.refusal for claim in await flow.claim([message], carrier)] == ["stale"]
                # The name is known from now on, without our id.
                settled = await flow.receipt(carrier, f"{NAME} {message}", last)
                assert (settled.outcome, settled.state) == ("moved", end[0])
                assert (await flow.lock(message))["state"] == end[1]
    for full in (True, False):
        assert await verify_database(database.dsn("ledger"), full=full) == []


async def test_what_was_answered_stays_on_the_attempt(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await refused_though_taken(flow, carrier, "enroute", "throttled", charge="delivered")
        attempt = await flow.row("select * from tollwire.attempts where message_id = $1", message)
        assert (attempt["outcome"], attempt["error_code"]) == ("submitted", "503")
        assert attempt["error_detail"] == "Service Unavailable"
        state = await flow.state_row(message)
        assert (state["error_code"], state["possible_duplicate"]) == (None, False)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_only_the_part_that_was_refused_goes_again(database: Database, refusal: str) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2, carrier_id=carrier)
        await flow.claim([message], carrier)
        await flow.receipt(carrier, NAME, "accepted", echo_message_id=message, part_no=1)
        lines = [
            outcome(message, 1, refusal, retry_seconds=0.0),
            outcome(message, 1, "throttled", part=2, retry_seconds=0.0),
        ]
        await flow.record(lines, carrier)
        (claim,) = await flow.claim([message], carrier)
        assert (claim.refusal, claim.parts) == (None, [2])
        await flow.record([outcome(message, 2, "submitted", part=2)], carrier)
        assert await flow.state(message) == "SENT"
        await flow.receipt(carrier, NAME, "delivered")
        await flow.receipt(carrier, f"ref-{message}-2-2", "delivered")
        assert (await flow.state(message), await flow.kinds(client)) == (
            "DELIVERED",
            ["top_up", "hold", "capture"],
        )


@pytest.mark.parametrize("words", [("enroute", "delivered"), ("delivered",)], ids=" ".join)
@pytest.mark.parametrize("charge", ["delivered", "submitted"])
async def test_what_was_unknown_when_it_was_refused_is_found_again(
    database: Database, charge: str, words: tuple[str, ...]
) -> None:
    """The attempt has a receipt, so that it is known to the carrier: what comes next is of it too."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, charge=charge, carrier_id=carrier)
        await flow.claim([message], carrier)
        await flow.receipt(carrier, NAME, "unknown", echo_message_id=message)
        await flow.record([outcome(message, 1, "refused_temp", retry_seconds=0.0)], carrier)
        assert await flow.state(message) == "FAILED_TEMP"
        states = []
        for word in words:
            await flow.receipt(carrier, NAME, word, echo_message_id=message)
            states.append(await flow.state(message))
        assert states == ["SENT", "DELIVERED"][-len(words) :]
        assert await flow.outbox(message) is None
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]
        assert (await flow.receipt(carrier, NAME, "delivered", echo_message_id=message)).outcome == "repeated"
    assert await verify_database(database.dsn("ledger"), full=True) == []


async def test_a_refused_message_that_was_delivered_after_all_is_charged_late(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, carrier_id=carrier)
        await flow.claim([message], carrier)
        await flow.receipt(carrier, NAME, "unknown", echo_message_id=message)
        await flow.record([outcome(message, 1, "refused_perm")], carrier)
        assert await flow.state(message) == "FAILED_PERM"
        settled = await flow.receipt(carrier, NAME, "delivered", echo_message_id=message)
        assert settled.outcome == "late_capture"
        assert await flow.kinds(client) == ["top_up", "hold", "release", "late_capture"]
    assert await verify_database(database.dsn("ledger"), full=True) == []
