"""A carrier whose counter began anew: the reference of one message stands for another now (RULES 24)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.support.flow import MSISDN, Flow, open_flow, outcome
from tests.support.servers import Database

NAME = "17"
DONE_AT = datetime.now(UTC).replace(microsecond=0)


async def sent(flow: Flow, carrier: int) -> UUID:
    """A message of a client of its own that the carrier calls 17."""
    (message,) = await flow.accepted(await flow.client())
    await flow.claim([message], carrier)
    await flow.record([outcome(message, 1, "submitted", reference=NAME)], carrier)
    return message


async def expired(flow: Flow, carrier: int) -> UUID:
    """One of which nothing was heard."""
    message = await sent(flow, carrier)
    await flow.later([message], 4 * 86_400)
    await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [message])
    return message


async def told_before_its_record(flow: Flow, carrier: int) -> tuple[UUID, UUID]:
    """The next message of that name, whose receipt comes before the answer to its submit is recorded."""
    (message,) = await flow.accepted(await flow.client())
    await flow.claim([message], carrier)
    receipt = await flow.receive(carrier, NAME, "delivered")
    assert [s.outcome for s in await flow.settle([receipt])] == ["waiting"]
    (recorded,) = await flow.record([outcome(message, 1, "submitted", reference=NAME)], carrier)
    assert recorded.receipt_ids == [receipt], "the record wakes it"
    return message, receipt


async def test_a_receipt_before_its_record_is_not_taken_for_a_repetition(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        old = await sent(flow, carrier)
        assert (await flow.receipt(carrier, NAME, "undelivered")).message_id == old
        message, receipt = await told_before_its_record(flow, carrier)
        (settled,) = await flow.settle([receipt])
        assert (settled.message_id, settled.state) == (message, "DELIVERED")
        assert [(await flow.lock(each))["state"] for each in (old, message)] == ["RELEASED", "CAPTURED"]


async def test_a_receipt_before_its_record_charges_no_other_client(database: Database) -> None:
    """Of the two whose receipt never came nobody can tell: kept for an operator."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        old = await expired(flow, carrier)
        _, receipt = await told_before_its_record(flow, carrier)
        assert [s.outcome for s in await flow.settle([receipt])] == ["ambiguous"]
        lock = await flow.lock(old)
        assert (lock["state"], lock["late_captured_at"]) == ("RELEASED", None)


async def test_a_late_receipt_captures_when_no_record_can_come_any_more(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        old = await expired(flow, carrier)
        receipt = await flow.receive(carrier, NAME, "delivered")
        for minutes, word in ((0, "waiting"), (3, "waiting"), (5, "late_capture")):
            await flow.pool.execute(
                "update tollwire.receipts set received_at = clock_timestamp() - $1::interval",
                timedelta(minutes=minutes),
            )
            (settled,) = await flow.settle([receipt])
            assert settled.outcome == word
            wait = await flow.row("select due_at - clock_timestamp() as left from tollwire.receipts")
            assert wait["left"] <= timedelta(minutes=1)
        assert (await flow.lock(old))["late_captured_at"] is not None


async def test_what_names_its_message_otherwise_too_waits_for_nothing(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        old = await sent(flow, carrier)
        await flow.receipt(carrier, NAME, "delivered", done_at=DONE_AT)
        for named in ({"msisdn": MSISDN}, {"echo_message_id": old}, {"done_at": DONE_AT}):
            assert (await flow.receipt(carrier, NAME, "delivered", **named)).outcome == "repeated"
        later = {"done_at": DONE_AT + timedelta(seconds=1)}
        assert (await flow.receipt(carrier, NAME, "delivered", **later)).outcome == "waiting"
