"""record_batch_v1, when the answer to an attempt comes after that attempt was given up."""

from uuid import UUID

import pytest

from ledger import clockwork_store
from tests.support.flow import TRIES_MAX, Flow, open_flow, outcome
from tests.support.servers import Database


async def claimed(flow: Flow, message: UUID, carrier: int) -> int:
    """Claim a message; return the attempt's number."""
    (claim,) = await flow.claim([message], carrier)
    assert claim.attempt_no is not None
    return claim.attempt_no


async def recovered(flow: Flow, message: UUID) -> None:
    """The worker said nothing until its claim was taken from it."""
    await flow.later([message], 66)
    await clockwork_store.recover_claims(flow.pool, [message], TRIES_MAX)
    await flow.later([message], 2)


async def no_receipt(flow: Flow, message: UUID) -> None:
    """The carrier's wait for a receipt ends."""
    await flow.later([message], 73 * 3_600)
    await clockwork_store.expire_holds(flow.pool, [message])


@pytest.mark.parametrize("second_word", ["uncertain", "refused_perm"])
@pytest.mark.parametrize("late", [False, True], ids=["before the second ended", "after the second ended"])
async def test_a_late_answer_counts_before_and_after_the_second_attempt_ended(
    database: Database, second_word: str, late: bool
) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(no_receipt_policy="capture"), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once")
        first = await claimed(flow, message, carrier)
        await recovered(flow, message)
        second = await claimed(flow, message, carrier)
        words = [outcome(message, first, "submitted"), outcome(message, second, second_word)]
        for line in reversed(words) if late else words:
            await flow.record([line], carrier)
        assert await flow.state(message) == "SENT"
        assert await flow.outbox(message) is None
        await no_receipt(flow, message)
        assert await flow.state(message) == "EXPIRED"
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]


async def test_a_plan_that_charges_the_submit_tells_what_it_charges(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once", charge="submitted")
        first = await claimed(flow, message, carrier)
        await recovered(flow, message)
        second = await claimed(flow, message, carrier)
        await flow.record([outcome(message, second, "uncertain")], carrier)
        (late,) = await flow.record([outcome(message, first, "submitted")], carrier)
        assert (late.moved, late.state) == (True, "SENT")
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]
        await flow.later([message], 2 * 3_600)
        await flow.expire([message])
        assert await flow.state(message) == "SENT"


@pytest.mark.parametrize(
    ("delivery", "ends", "last_kind"),
    [("at_most_once", "UNDELIVERED", "release"), ("at_least_once", "FAILED_PERM", "capture")],
    ids=["ended by the receipt", "to be sent once more"],
)
async def test_a_plan_that_charges_the_submit_believes_a_rejection_that_ends_the_message(
    database: Database, delivery: str, ends: str, last_kind: str
) -> None:
    """As docs/guarantees.md has it: the answer charges, after the receipt as before, what has not ended."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery=delivery, charge="submitted")
        first = await claimed(flow, message, carrier)
        await recovered(flow, message)
        await flow.receipt(carrier, "its-own", "rejected", echo_message_id=message, echo_attempt_no=first)
        await flow.record([outcome(message, first, "submitted", reference="its-own")], carrier)
        if delivery == "at_least_once":
            second = await claimed(flow, message, carrier)
            await flow.record([outcome(message, second, "refused_perm")], carrier)
        assert await flow.state(message) == ends
        assert await flow.kinds(client) == ["top_up", "hold", last_kind]


async def test_a_late_answer_for_one_part_leaves_the_others_unknown(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2)
        attempt = await claimed(flow, message, carrier)
        await recovered(flow, message)
        lines = [outcome(message, attempt, "submitted"), outcome(message, attempt, "uncertain", part=2)]
        assert {line.state for line in await flow.record(lines, carrier)} == {"UNKNOWN"}
        await flow.record([outcome(message, attempt, "submitted", part=2)], carrier)
        assert await flow.state(message) == "SENT"


async def test_parts_that_two_attempts_handed_over_are_the_whole(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2, delivery="at_least_once")
        first = await claimed(flow, message, carrier)
        await recovered(flow, message)
        second = await claimed(flow, message, carrier)
        words = [outcome(message, second, "uncertain"), outcome(message, second, "submitted", part=2)]
        await flow.record(words, carrier)
        assert await flow.state(message) == "UNKNOWN"
        words = [outcome(message, first, "submitted"), outcome(message, first, "refused_temp", part=2)]
        await flow.record(words, carrier)
        assert await flow.state(message) == "SENT"


async def test_what_waits_unknown_although_it_was_taken_is_sent_after_a_restore(database: Database) -> None:
    """As rows of an older version may have it, which did not let a late answer move UNKNOWN."""
    async with open_flow(database) as flow:
        takes, other, client = await flow.carrier(), await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once")
        first = await claimed(flow, message, takes)
        await flow.record(
            [outcome(message, first, "uncertain", retry_seconds=0.0, next_carrier_id=other)], takes
        )
        second = await claimed(flow, message, other)
        await flow.record([outcome(message, second, "uncertain")], other)
        await flow.pool.execute("update tollwire.attempts set outcome = 'submitted' where attempt_no = 1")
        await flow.pool.fetch("select * from tollwire.end_taken_v1($1, 'restored')", [message])
        row = await flow.state_row(message)
        assert (row["state"], row["carrier_id"]) == ("SENT", takes)
        assert await flow.outbox(message) is None


@pytest.mark.parametrize("word", ["throttled", "unclaimed"])
async def test_what_never_left_is_sent_although_its_word_came_late(database: Database, word: str) -> None:
    """PostgreSQL was away, and the clockwork was there again before the worker."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        attempt = await claimed(flow, message, carrier)
        await recovered(flow, message)
        assert await flow.state(message) == "UNKNOWN"
        (late,) = await flow.record([outcome(message, attempt, word, retry_seconds=0.0)], carrier)
        assert (late.moved, late.state) == (True, "QUEUED")
        assert await flow.submitted([message], carrier) == [f"ref-{message}-2-1"]
        assert not (await flow.state_row(message))["possible_duplicate"]


@pytest.mark.parametrize("word", ["throttled", "unclaimed", "refused_temp"])
async def test_a_part_that_never_left_waits_with_one_that_may_have(database: Database, word: str) -> None:
    """Sent again, both would go, and at_most_once goes once."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2)
        attempt = await claimed(flow, message, carrier)
        await recovered(flow, message)
        lines = [outcome(message, attempt, word), outcome(message, attempt, "uncertain", part=2)]
        await flow.record(lines, carrier)
        assert await flow.state(message) == "UNKNOWN"
        (late,) = await flow.record([outcome(message, attempt, "submitted", part=2)], carrier)
        assert (late.moved, late.state) == (False, "UNKNOWN")


async def test_a_second_attempt_that_never_left_is_made_again(database: Database) -> None:
    """As it is when that is said in time: at_least_once goes out once more, and has not yet."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once")
        await flow.record(
            [outcome(message, await claimed(flow, message, carrier), "uncertain", retry_seconds=0.0)], carrier
        )
        second = await claimed(flow, message, carrier)
        await recovered(flow, message)
        assert await flow.state(message) == "UNKNOWN"
        (late,) = await flow.record([outcome(message, second, "throttled")], carrier)
        assert (late.moved, late.state) == (True, "QUEUED")


async def test_what_is_put_off_beyond_its_validity_ends_with_it(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, valid_seconds=60)
        attempt = await claimed(flow, message, carrier)
        await flow.record([outcome(message, attempt, "throttled", retry_seconds=600.0)], carrier)
        await flow.later([message], 61)
        assert [moved.state for moved in await flow.expire([message])] == ["EXPIRED"]


@pytest.mark.parametrize("proof", [None, "unclaimed", "throttled", "refused_temp"])
async def test_one_resend_is_used_up_by_what_may_have_gone_alone(
    database: Database, proof: str | None
) -> None:
    """What was refused has not gone, nor has what was never written."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_least_once")
        first = await claimed(flow, message, carrier)
        await recovered(flow, message)
        if proof is not None:
            await flow.record([outcome(message, first, proof)], carrier)
        second = await claimed(flow, message, carrier)
        await flow.record([outcome(message, second, "uncertain")], carrier)
        assert await flow.state(message) == ("UNKNOWN" if proof is None else "QUEUED")
        if proof is not None:
            await flow.later([message], 3_600)
            third = await claimed(flow, message, carrier)
            await flow.record([outcome(message, third, "uncertain")], carrier)
            assert await flow.state(message) == "UNKNOWN", "once more, and no more often"
