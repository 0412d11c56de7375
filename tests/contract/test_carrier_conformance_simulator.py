"""The HTTP carrier and the simulator, end to end: each magic number's outcome and its receipts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import pytest

from simulator.magic import magic_number
from simulator.outcomes import Outcome as Simulated
from simulator.rules import Rule, Rules
from simulator.service import listening
from simulator.settings import Settings
from tests.support.receipt_desk import ReceiptDesk, receipt_desk
from tests.support.submissions import submission
from worker.carriers.base import Carrier, Outcome, Refused, Submitted, Throttled, Uncertain
from worker.carriers.registry import make_carrier
from worker.carriers.simulated import simulator_carrier_settings

SECRET = "a shared secret"
RULES = Rules(receipt_delay_seconds=0.0)
# The connect is within it, and so is an answer that has to come.
QUICK = {"total_timeout_seconds": 3.0, "connect_timeout_seconds": 3.0}


@asynccontextmanager
async def simulated(
    rules: Rules = RULES, changed: Mapping[str, object] = MappingProxyType({})
) -> AsyncIterator[tuple[Carrier, ReceiptDesk]]:
    """A carrier to submit to, and the desk where its receipts arrive."""
    async with receipt_desk(simulator_carrier_settings("http://x"), SECRET.encode()) as desk:
        told = Settings(simulator_port=0, simulator_secret=SECRET, simulator_receipt_url=desk.url)
        async with listening(told, rules) as (url, _):
            settings = {**simulator_carrier_settings(url), **changed}
            async with make_carrier("http", "simulator", settings, SECRET.encode()) as carrier:
                yield carrier, desk


async def submit(carrier: Carrier, number: int, msisdn: str, attempt_no: int = 1) -> Outcome:
    (outcome,) = await carrier.submit_many([submission(number, msisdn=msisdn, attempt_no=attempt_no)])
    return outcome


RECEIPTS: dict[Simulated, list[str]] = {
    Simulated.DELIVERED: ["delivered"],
    Simulated.UNDELIVERABLE: ["undelivered"],
    Simulated.EXPIRED: ["expired"],
    Simulated.REJECTED: ["rejected"],
    Simulated.ENROUTE_THEN_DELIVERED: ["accepted", "enroute", "delivered"],
    Simulated.UNKNOWN_STATE: ["unknown"],
    Simulated.RECEIPT_FIRST: ["delivered"],
    Simulated.RECEIPT_TWICE: ["delivered", "delivered", "delivered"],
    Simulated.UNDELIVERED_AFTER_DELIVERED: ["delivered", "undelivered"],
    Simulated.DELIVERED_AFTER_UNDELIVERED: ["undelivered", "delivered"],
    Simulated.ENROUTE_AFTER_DELIVERED: ["delivered", "enroute"],
    Simulated.DUPLICATE_REFERENCE: ["delivered"],
}


@pytest.mark.parametrize(("outcome", "states"), RECEIPTS.items())
async def test_a_taken_message_gets_its_receipts_in_order(outcome, states):
    msisdn = magic_number(outcome)
    async with simulated() as (carrier, desk):
        submitted = await submit(carrier, 1, msisdn)
        receipts = await desk.until(len(states))
    assert isinstance(submitted, Submitted)
    assert [receipt.state for receipt in receipts] == states
    one = submission(1)
    assert {(r.reference, r.msisdn, r.message_id, r.attempt_no, r.part_no) for r in receipts} == {
        (submitted.reference, msisdn, one.message_id, 1, 1)
    }
    assert all(receipt.done_at is not None for receipt in receipts)


LOST_REPLIES = {
    Simulated.NO_ANSWER: True,
    Simulated.CLOSES: True,
    Simulated.CLOSES_MID_REPLY: True,
    Simulated.GARBAGE: True,
    Simulated.NO_ANSWER_LOST: False,
    Simulated.CLOSES_LOST: False,
}


@pytest.mark.parametrize(("outcome", "is_taken"), LOST_REPLIES.items())
async def test_of_a_lost_reply_only_the_receipt_tells(outcome, is_taken):
    async with simulated(changed=QUICK) as (carrier, desk):
        assert isinstance(await submit(carrier, 1, magic_number(outcome)), Uncertain)
        if is_taken:
            (receipt,) = await desk.until(1)
            assert receipt.message_id == submission(1).message_id
        else:
            await submit(carrier, 2, magic_number(Simulated.DELIVERED))
            (receipt,) = await desk.until(1)
            assert receipt.message_id == submission(2).message_id


async def test_a_fault_in_a_bulk_leaves_its_neighbours_alone():
    numbers = [
        magic_number(outcome) for outcome in (Simulated.DELIVERED, Simulated.NO_ANSWER, Simulated.REFUSED)
    ]
    async with simulated() as (carrier, desk):
        outcomes = await carrier.submit_many([submission(n, msisdn=to) for n, to in enumerate(numbers)])
        await desk.until(2)
    assert [type(outcome) for outcome in outcomes] == [Submitted, Uncertain, Refused]


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [
        (Simulated.TEMPORARY, "try_again"),
        (Simulated.THROTTLED, None),
    ],
)
async def test_a_message_can_fail_some_times_and_then_be_delivered(outcome, refusal):
    msisdn = magic_number(outcome, 2)
    async with simulated() as (carrier, desk):
        outcomes = [await submit(carrier, 1, msisdn, attempt_no) for attempt_no in (1, 2, 3)]
        (receipt,) = await desk.until(1)
    assert receipt.attempt_no == 3
    assert isinstance(outcomes[2], Submitted)
    for failed in outcomes[:2]:
        if refusal is None:
            assert failed == Throttled(1.0)
        else:
            assert isinstance(failed, Refused)
            assert (failed.code, failed.permanent) == (refusal, False)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Simulated.REFUSED, Refused),
        (Simulated.ALWAYS_TEMPORARY, Refused),
        (Simulated.ALWAYS_THROTTLED, Throttled),
        (Simulated.SILENT, Submitted),
    ],
)
async def test_some_outcomes_never_bring_a_receipt(outcome, kind):
    async with simulated() as (carrier, desk):
        assert isinstance(await submit(carrier, 1, magic_number(outcome)), kind)
        await submit(carrier, 2, magic_number(Simulated.DELIVERED))
        (receipt,) = await desk.until(1)
    assert receipt.message_id == submission(2).message_id


@pytest.mark.parametrize("in_bulk", [False, True])
async def test_a_receipt_can_overtake_the_reply(in_bulk):
    msisdn = magic_number(Simulated.RECEIPT_FIRST)
    wanted = [submission(number, msisdn=msisdn) for number in range(3 if in_bulk else 1)]
    async with simulated() as (carrier, desk):
        outcomes = await carrier.submit_many(wanted)
        overtaken = len(desk.receipts)
    assert overtaken == len(wanted)
    assert {receipt.reference for receipt in desk.receipts} == {
        outcome.reference for outcome in outcomes if isinstance(outcome, Submitted)
    }


async def test_two_messages_can_share_a_reference():
    numbers = [magic_number(Simulated.DUPLICATE_REFERENCE, area=area) for area in range(3)]
    async with simulated() as (carrier, desk):
        outcomes = [await submit(carrier, n, msisdn) for n, msisdn in enumerate(numbers)]
        await desk.until(3)
    first, second, third = (outcome.reference for outcome in outcomes if isinstance(outcome, Submitted))
    assert first == second
    assert third != first


async def test_a_receipt_can_name_a_reference_that_nobody_knows():
    async with simulated() as (carrier, desk):
        submitted = await submit(carrier, 1, magic_number(Simulated.UNKNOWN_REFERENCE))
        foreign, own = await desk.until(2)
    assert isinstance(submitted, Submitted)
    assert foreign.reference != submitted.reference
    assert foreign.message_id is None
    assert own.reference == submitted.reference


async def test_a_late_receipt_comes_when_the_rules_say():
    rules = Rules(receipt_delay_seconds=0.0, rules=[Rule(outcome=Simulated.LATE_RECEIPT, seconds=3.0)])
    async with simulated(rules) as (carrier, desk):
        await submit(carrier, 1, "+4915112345678")
        await submit(carrier, 2, magic_number(Simulated.DELIVERED))
        receipts = await desk.until(2)
    assert [receipt.message_id for receipt in receipts] == [submission(n).message_id for n in (2, 1)]


@pytest.mark.parametrize("recognises", [True, False])
async def test_a_repeated_id_is_recognised_only_when_told_to(recognises):
    rules = Rules(receipt_delay_seconds=0.0, recognise_repeated_id=recognises)
    async with simulated(rules) as (carrier, desk):
        first = await submit(carrier, 1, "+4915112345678", 1)
        again = await submit(carrier, 1, "+4915112345678", 2)
        last = await submit(carrier, 2, "+4915112345678")
        receipts = await desk.until(2 if recognises else 3)
    assert isinstance(last, Submitted)
    assert (first == again) is recognises
    assert len(receipts) == (2 if recognises else 3)


async def test_the_rate_limit_throttles_what_is_too_much():
    async with simulated(Rules(rate_per_second=0.001, burst=3)) as (carrier, _):
        outcomes = await carrier.submit_many([submission(number) for number in range(5)])
    assert [type(outcome) for outcome in outcomes] == [Submitted] * 3 + [Throttled] * 2


async def test_receipts_are_repeated_until_the_gateway_takes_them():
    async with simulated() as (carrier, desk):
        desk.refuse = 2
        await carrier.submit_many([submission(number) for number in range(20)])
        receipts = await desk.until(20)
    assert desk.refused == 2
    assert len({receipt.reference for receipt in receipts}) == 20


async def test_many_receipts_travel_in_one_post():
    async with simulated(Rules(receipt_delay_seconds=0.1)) as (carrier, desk):
        await carrier.submit_many([submission(number) for number in range(300)])
        await desk.until(300)
    assert desk.posts <= 20
