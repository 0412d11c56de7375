"""What the receipts of one submit say together, where its answer was lost: nothing of it is forgotten."""

from uuid import UUID

import pytest

from ledger.bookkeeping import Bookkeeping
from ledger.verify import verify_database
from shared.runtime.keyring import Keyring
from tests.support.flow import Flow, open_flow, outcome
from tests.support.scene import past_account
from tests.support.servers import Database

TURNED_DOWN = ("rejected", "unknown")


async def unanswered(flow: Flow, carrier: int) -> UUID:
    """A message whose plan charges the submit, and whose carrier's answer was lost."""
    (message,) = await flow.accepted(await flow.client(), charge="submitted", carrier_id=carrier)
    await flow.claim([message], carrier)
    await flow.record([outcome(message, 1, "uncertain")], carrier)
    return message


async def heard(flow: Flow, message: UUID) -> tuple[str, str, str]:
    """The state, the hold, and the word that stands on the only attempt."""
    sql = "select receipt::text from tollwire.attempts where message_id = $1"
    word = await flow.pool.fetchval(sql, message)
    return await flow.state(message), (await flow.lock(message))["state"], word


@pytest.mark.parametrize("first", ["accepted", "enroute"])
async def test_what_was_taken_and_then_turned_down_stays_charged_and_proved(
    database: Database, first: str
) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for last in TURNED_DOWN:
            message = await unanswered(flow, carrier)
            for word in (first, last):
                await flow.receipt(carrier, f"lost {last}", word, echo_message_id=message)
            ends = {"rejected": ("UNDELIVERED", "rejected"), "unknown": ("SENT", first)}[last]
            assert await heard(flow, message) == (ends[0], "CAPTURED", ends[1])
            # Nobody has said yet that the answer is lost.
            (message,) = await flow.accepted(await flow.client(), charge="submitted", carrier_id=carrier)
            await flow.claim([message], carrier)
            for word in (first, last):
                await flow.receipt(carrier, f"soon {last}", word, echo_message_id=message)
            ends = {"rejected": ("UNDELIVERED", "undelivered"), "unknown": ("SENDING", first)}[last]
            assert await heard(flow, message) == (ends[0], "CAPTURED", ends[1])
    for full in (True, False):
        assert await verify_database(database.dsn("ledger"), full=full) == []


async def test_a_day_is_sealed_beside_what_was_taken_and_then_turned_down(database: Database) -> None:
    async with open_flow(database) as flow:
        await past_account(flow)
        carrier = await flow.carrier()
        message = await unanswered(flow, carrier)
        for word in ("accepted", "rejected"):
            await flow.receipt(carrier, "lost", word, echo_message_id=message)
        keyring = Keyring("k1", {"k1": b"k" * 32})
        await Bookkeeping(flow.pool, database.dsn("ledger"), keyring).close_days()
        assert await flow.pool.fetchval("select count(*) from ledger.seals") == 1


async def test_who_shares_a_flush_decides_nothing_about_the_charge(database: Database) -> None:
    """Of a name that is taken and then turned down, and of one that is unknown and then taken."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for words, hold in (
            (("accepted", "rejected"), "CAPTURED"),
            (("unknown", "accepted"), "CAPTURED"),
            (("rejected", "accepted"), "RELEASED"),
        ):
            ends = set()
            for is_together in (True, False):
                message = await unanswered(flow, carrier)
                name = f"of {message}"
                ids = [await flow.receive(carrier, name, word, echo_message_id=message) for word in words]
                for flush in [ids] if is_together else [[id_] for id_ in ids]:
                    await flow.settle(flush)
                ends.add(await heard(flow, message))
            assert [end[1] for end in ends] == [hold]


@pytest.mark.parametrize("word", ["enroute", "accepted"])
@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
@pytest.mark.parametrize("is_soon", [True, False], ids=["before it was lost", "after it was lost"])
async def test_what_the_carrier_has_is_sent_once_and_waits_for_its_receipt(
    database: Database, word: str, delivery: str, *, is_soon: bool
) -> None:
    """A receipt that names our id stands in for the answer that was lost."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client, events=["message.sent"])
        (message,) = await flow.accepted(client, delivery=delivery, carrier_id=carrier)
        await flow.claim([message], carrier)
        lost = outcome(message, 1, "uncertain", retry_seconds=0.0, error="timeout")
        if not is_soon:
            await flow.record([lost], carrier)
        await flow.receipt(carrier, "lost", word, echo_message_id=message)
        if is_soon:
            await flow.record([lost], carrier)
        assert await heard(flow, message) == ("SENT", "HELD", word)
        assert (await flow.state_row(message))["error_code"] is None
        assert await flow.outbox(message) is None
        assert await flow.pool.fetchval("select count(*) from tollwire.callbacks") == 1
        (claim,) = await flow.claim([message], carrier)
        assert claim.refusal == "stale"
        await flow.later([message], 2 * 3_600)
        await flow.expire([message])
        # The name is known from now on, without our id.
        settled = await flow.receipt(carrier, "lost", "delivered")
        assert (settled.outcome, settled.state) == ("moved", "DELIVERED")
        assert (await flow.lock(message))["state"] == "CAPTURED"


async def test_a_part_that_the_carrier_has_is_not_sent_again(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once", parts=2, segments=2)
        await flow.claim([message], carrier)
        lines = [outcome(message, 1, "uncertain", part=part, retry_seconds=0.0) for part in (1, 2)]
        await flow.record(lines, carrier)
        await flow.receipt(carrier, "part 1", "delivered", echo_message_id=message, part_no=1)
        assert await flow.state(message) == "QUEUED"
        (claim,) = await flow.claim([message], carrier)
        assert (claim.refusal, claim.parts) == (None, [2])
        await flow.record([outcome(message, 2, "submitted", part=2)], carrier)
        assert await flow.state(message) == "SENT"


async def test_a_word_on_what_was_given_up_counts_while_the_next_try_is_on_its_way(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once")
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 1, "uncertain", retry_seconds=0.0)], carrier)
        await flow.claim([message], carrier)
        await flow.receipt(carrier, "first", "enroute", echo_message_id=message, echo_attempt_no=1)
        assert await flow.state(message) == "SENDING"
        await flow.record([outcome(message, 2, "refused_perm")], carrier)
        assert await flow.state(message) == "SENT"
