"""By what names a receipt finds its attempt: the carrier's reference, our own id, the number of a part."""

from uuid import UUID

import pytest

from tests.support.flow import MSISDN, Flow, open_flow, outcome
from tests.support.servers import Database


async def sent_again(flow: Flow, carrier: int, second: str | None) -> UUID:
    """A message whose first submit was never answered, and that went out again with this outcome."""
    (message,) = await flow.accepted(await flow.client(), delivery="at_least_once")
    await flow.claim([message], carrier)
    await flow.record([outcome(message, 1, "uncertain", retry_seconds=0.0)], carrier)
    await flow.claim([message], carrier)
    if second is not None:
        reference = "R2" if second == "submitted" else None
        await flow.record([outcome(message, 2, second, reference=reference)], carrier)
    return message


async def words(flow: Flow, message: UUID) -> list[str | None]:
    """What is noted on each attempt."""
    sql = "select receipt::text from tollwire.attempts where message_id = $1 order by attempt_no"
    return [row[0] for row in await flow.pool.fetch(sql, message)]


async def test_an_echoed_id_leads_to_the_attempt_that_has_no_name_yet(database: Database) -> None:
    """The second attempt is known to be R2: what is said of R1 is said of the first."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await sent_again(flow, carrier, "submitted")
        first = await flow.receipt(carrier, "R1", "undelivered", echo_message_id=message)
        assert (first.outcome, await words(flow, message)) == ("noted", ["undelivered", None])
        assert (await flow.receipt(carrier, "R1", "expired", echo_message_id=message)).outcome == "repeated"
        second = await flow.receipt(carrier, "R2", "delivered", echo_message_id=message)
        assert (second.outcome, second.state) == ("moved", "DELIVERED")
        assert (await flow.lock(message))["state"] == "CAPTURED"


async def test_an_echoed_id_waits_for_the_answer_that_tells_the_attempts_apart(database: Database) -> None:
    """Two attempts may be meant while the second is on its way: its answer says whose name R1 is."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for name, of_first in (("R1", "undelivered"), ("R2", None)):
            message = await sent_again(flow, carrier, None)
            receipt = await flow.receive(carrier, name, "undelivered", echo_message_id=message)
            assert [s.outcome for s in await flow.settle([receipt])] == ["waiting"]
            await flow.record([outcome(message, 2, "submitted", reference="R2")], carrier)
            assert [s.outcome for s in await flow.settle([receipt])] == ["noted"]
            other = "R1" if name == "R2" else "R2"
            assert (await words(flow, message))[0] == of_first
            settled = await flow.receipt(carrier, other, "delivered", echo_message_id=message)
            assert (settled.outcome, settled.state) == ("moved", "DELIVERED")
            assert (await flow.lock(message))["state"] == "CAPTURED"
            await flow.pool.execute("delete from tollwire.carrier_references")


async def test_delivered_waits_for_no_answer(database: Database) -> None:
    """Whichever of the attempts it was: the phone has it."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for second in (None, "uncertain"):
            message = await sent_again(flow, carrier, second)
            settled = await flow.receipt(carrier, "R1", "delivered", echo_message_id=message)
            assert (settled.outcome, settled.state) == ("moved", "DELIVERED")


async def test_two_attempts_without_an_answer_have_a_word_each(database: Database) -> None:
    """A name that stands on one of them is not taken for the other; a repetition is no news."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await sent_again(flow, carrier, "uncertain")
        lost = await flow.receive(carrier, "R1", "undelivered", echo_message_id=message)
        assert [s.outcome for s in await flow.settle([lost])] == [
            "waiting"
        ]  # an answer may still be recorded
        await flow.pool.execute(
            "update tollwire.attempts set claimed_at = claimed_at - interval '5 m' where message_id = $1",
            message,
        )
        assert [s.outcome for s in await flow.settle([lost])] == ["noted"]
        again = await flow.receipt(carrier, "R1", "undelivered", echo_message_id=message)
        assert (again.outcome, await flow.state(message)) == ("repeated", "UNKNOWN")
        settled = await flow.receipt(carrier, "R2", "undelivered", echo_message_id=message)
        assert (settled.outcome, settled.state) == ("moved", "UNDELIVERED")
        assert (await flow.lock(message))["state"] == "RELEASED"


async def test_a_carrier_may_call_its_only_submit_otherwise_in_receipts(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        await flow.submitted([message], carrier)
        settled = await flow.receipt(carrier, "0x1F", "delivered", echo_message_id=message)
        assert (settled.outcome, settled.message_id, settled.state) == ("moved", message, "DELIVERED")


async def test_an_answer_that_is_lost_leaves_the_name_that_a_receipt_gave(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (message,) = await flow.accepted(await flow.client(), delivery="at_least_once")
        await flow.claim([message], carrier)
        first = await flow.receipt(carrier, "R1", "unknown", echo_message_id=message)
        assert (first.outcome, await words(flow, message)) == ("noted", ["unknown"])
        await flow.record([outcome(message, 1, "uncertain", retry_seconds=0.0)], carrier)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "submitted", reference="R2")], carrier)
        await flow.receipt(carrier, "R3", "undelivered", echo_message_id=message)
        assert await words(flow, message) == ["unknown", None], "it is called R1"
        settled = await flow.receipt(carrier, "R1", "delivered", echo_message_id=message)
        assert (settled.outcome, await words(flow, message)) == ("moved", ["delivered", None])


async def test_a_carrier_that_knows_our_ids_may_call_each_submit_otherwise(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier(idempotent_submit=True)
        (message,) = await flow.accepted(await flow.client())
        await flow.claim([message], carrier)
        line = outcome(message, 1, "uncertain", retry_seconds=0.0)
        await flow.record([line], carrier, may_ask_again=True)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "submitted", reference="R2")], carrier, may_ask_again=True)
        settled = await flow.receipt(carrier, "R1", "delivered", echo_message_id=message)
        assert (settled.outcome, settled.state) == ("moved", "DELIVERED")


async def named_alike(flow: Flow, carrier: int) -> tuple[UUID, UUID]:
    """Two messages that the carrier calls 17; the answer for the second is not recorded."""
    first, second = [(await flow.accepted(await flow.client()))[0] for _ in range(2)]
    await flow.claim([first, second], carrier)
    await flow.record([outcome(first, 1, "submitted", reference="17")], carrier)
    return first, second


async def test_a_message_is_not_charged_by_a_receipt_that_names_another(database: Database) -> None:
    """A carrier's counter began anew; its receipt echoes whose it is."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for number in (1, None):
            first, second = await named_alike(flow, carrier)
            settled = await flow.receipt(
                carrier, "17", "delivered", echo_message_id=second, echo_attempt_no=number
            )
            assert (settled.message_id, settled.state) == (second, "DELIVERED")
            assert [await flow.state(each) for each in (first, second)] == ["SENT", "DELIVERED"]
            locks = [(await flow.lock(each))["state"] for each in (first, second)]
            assert locks == ["HELD", "CAPTURED"]
            await flow.pool.execute("delete from tollwire.carrier_references")


async def test_the_echo_decides_also_where_the_reference_is_settled(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        first, second = await named_alike(flow, carrier)
        assert (await flow.receipt(carrier, "17", "delivered", echo_message_id=first)).state == "DELIVERED"
        settled = await flow.receipt(carrier, "17", "undelivered", echo_message_id=second)
        assert (settled.message_id, settled.state) == (second, "UNDELIVERED")


async def test_an_echo_that_fits_no_attempt_keeps_the_receipt_from_the_other(database: Database) -> None:
    """The carrier refused the one and calls the other so: nobody can tell, so nobody is charged."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        first, second = await named_alike(flow, carrier)
        await flow.record([outcome(second, 1, "refused_temp")], carrier)
        assert (await flow.receipt(carrier, "17", "delivered", echo_message_id=second)).outcome == "waiting"
        assert await flow.state(first) == "SENT"


async def test_an_echo_that_no_attempt_of_this_carrier_has_is_overheard(database: Database) -> None:
    """Some carriers put what they like there: the reference stands."""
    async with open_flow(database) as flow:
        carrier, other = await flow.carrier(), await flow.carrier()
        client = await flow.client()
        (elsewhere,) = await flow.accepted(client)
        await flow.submitted([elsewhere], other)
        (message,) = await flow.accepted(client)
        (reference,) = await flow.submitted([message], carrier)
        settled = await flow.receipt(carrier, reference, "delivered", echo_message_id=elsewhere)
        assert (settled.message_id, settled.state) == (message, "DELIVERED")


async def whole(flow: Flow, carrier: int) -> tuple[UUID, str]:
    """A message of three segments that we submit whole; the carrier sends it in three parts."""
    (message,) = await flow.accepted(await flow.client(), segments=3)
    (reference,) = await flow.submitted([message], carrier)
    return message, reference


async def test_a_lost_part_of_what_we_submitted_whole_is_a_lost_message(database: Database) -> None:
    """All of it or nothing; a receipt that names the part by our id alone counts as well."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        ends = {"undelivered": "UNDELIVERED", "expired": "EXPIRED", "rejected": "UNDELIVERED"}
        for word, state in ends.items():
            message, reference = await whole(flow, carrier)
            assert (await flow.receipt(carrier, reference, word, part_no=2)).state == state
            of_first = {"part_no": 1, "msisdn": MSISDN}
            assert (await flow.receipt(carrier, reference, "delivered", **of_first)).outcome == "repeated"
            assert (await flow.lock(message))["state"] == "RELEASED"
        message, _ = await whole(flow, carrier)
        settled = await flow.receipt(carrier, "?", "undelivered", part_no=3, echo_message_id=message)
        assert settled.state == "UNDELIVERED"


async def test_another_part_of_what_we_submitted_whole_decides_nothing_else(database: Database) -> None:
    """It is settled at once: nothing that is still to come makes the part ours."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message, reference = await whole(flow, carrier)
        for word in ("enroute", "delivered"):
            settled = await flow.receipt(carrier, reference, word, part_no=3)
            assert (settled.outcome, settled.message_id) == ("noted", message)
        assert await words(flow, message) == [None]
        assert (await flow.receipt(carrier, reference, "delivered", part_no=1)).state == "DELIVERED"
        of_second = {"part_no": 2, "msisdn": MSISDN}
        assert (await flow.receipt(carrier, reference, "undelivered", **of_second)).outcome == "repeated"
        assert (await flow.lock(message))["state"] == "CAPTURED"


async def test_a_lost_part_counts_before_a_delivered_one_of_the_same_call(database: Database) -> None:
    """Carriers tell of all parts in one request, in an order of their own."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message, reference = await whole(flow, carrier)
        told = (("delivered", 1), ("undelivered", 2), ("delivered", 3))
        receipts = [await flow.receive(carrier, reference, word, part_no=part) for word, part in told]
        outcomes = [settled.outcome for settled in await flow.settle(receipts)]
        assert outcomes == ["repeated", "moved", "noted"]
        assert (await flow.state(message), (await flow.lock(message))["state"]) == ("UNDELIVERED", "RELEASED")


async def test_a_part_that_is_ours_is_not_taken_for_another(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (message,) = await flow.accepted(await flow.client(), parts=2, segments=2)
        (reference, _) = await flow.submitted([message], carrier)
        assert (await flow.receipt(carrier, reference, "undelivered", part_no=3)).outcome == "waiting"


NATIONAL = "+" + MSISDN[3:]  # as the reader takes a number that says no country
TOLD = "select message_id, msisdn from tollwire.receipts"


async def test_a_number_without_its_countrys_code_is_the_messages(database: Database) -> None:
    """By the reference or by our id; and who erases the number finds it."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (named,) = ids = await flow.accepted(await flow.client())
        (reference,) = await flow.submitted(ids, carrier)
        settled = await flow.receipt(carrier, reference, "delivered", msisdn=NATIONAL)
        assert (settled.outcome, settled.state) == ("moved", "DELIVERED")
        echoed = await sent_again(flow, carrier, None)
        settled = await flow.receipt(carrier, "R", "delivered", msisdn=NATIONAL, echo_message_id=echoed)
        assert (settled.outcome, settled.state) == ("moved", "DELIVERED")
        assert {tuple(row) for row in await flow.pool.fetch(TOLD)} == {(named, MSISDN), (echoed, MSISDN)}


@pytest.mark.parametrize(
    "number", [MSISDN[:-1], f"{MSISDN[:-1]}9", "+" + MSISDN[5:], f"+2{MSISDN[4:]}", f"+49{MSISDN[1:]}"]
)
async def test_another_number_is_no_evidence_for_the_message(database: Database, number: str) -> None:
    """Cut behind, another one, without more than a country's code, with another one, with one too many."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (message,) = ids = await flow.accepted(await flow.client())
        (reference,) = await flow.submitted(ids, carrier)
        for echo in (None, message):
            settled = await flow.receipt(carrier, reference, "delivered", msisdn=number, echo_message_id=echo)
            assert (settled.outcome, await flow.state(message)) == ("waiting", "SENT")


@pytest.mark.parametrize("is_over", [False, True])
async def test_whose_number_it_is_to_the_last_digit_comes_first(database: Database, *, is_over: bool) -> None:
    """Of two messages under one reference, whether or not that one is over."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (exact,) = await flow.accepted(client, msisdn=NATIONAL)
        (longer,) = await flow.accepted(client)
        for message in (exact, longer):
            await flow.claim([message], carrier)
            await flow.record([outcome(message, 1, "submitted", reference="R")], carrier)
        told = ["delivered", "undelivered"] if is_over else ["delivered"]
        for word in told:
            await flow.receipt(carrier, "R", word, msisdn=NATIONAL)
        assert [await flow.state(message) for message in (exact, longer)] == ["DELIVERED", "SENT"]
        await flow.receipt(carrier, "R", "delivered", msisdn=MSISDN)
        assert await flow.state(longer) == "DELIVERED"
