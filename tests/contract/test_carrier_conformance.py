"""What every carrier does, whatever the company at the other end does (worker/carriers/base.py).

Parametrized over the rigs of tests/support/carrier_rigs.py: a new kind of carrier joins there, not here.
"""

import asyncio
import csv
from collections.abc import Coroutine, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.carrier_rigs import RIGS, Behaviour, Rig
from tests.support.own_time import within_own
from tests.support.submissions import REFUSED_MSISDN, submission, submissions
from worker.carriers.base import (
    AWAY,
    GIVEN_BACK,
    TOO_LATE,
    UNREACHABLE,
    Handover,
    Outcome,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Uncertain,
)

MESSAGES = Path(__file__).parents[1] / "data" / "messages.csv"
ANY_REPLY_LOST = Uncertain("")
EXPECTED: dict[Behaviour, Outcome] = {
    Behaviour.TAKES: Submitted(""),
    Behaviour.REFUSES_FOR_GOOD: Refused("unknown_number", "", permanent=True),
    Behaviour.REFUSES_FOR_NOW: Refused("try_again", "", permanent=False),
    Behaviour.THROTTLES: Throttled(None),
    Behaviour.NOBODY_LISTENS: Refused(UNREACHABLE, "", permanent=False),
    Behaviour.NEVER_ANSWERS: ANY_REPLY_LOST,
    Behaviour.CLOSES_BEFORE_THE_REPLY: ANY_REPLY_LOST,
    Behaviour.RESETS: ANY_REPLY_LOST,
    Behaviour.CLOSES_MID_REPLY: ANY_REPLY_LOST,
    Behaviour.ANSWERS_GARBAGE: ANY_REPLY_LOST,
    Behaviour.ANSWERS_TOO_MUCH: ANY_REPLY_LOST,
    Behaviour.ANSWERS_WITHOUT_REFERENCE: ANY_REPLY_LOST,
}
CASES = [
    (name, behaviour) for name, kind in RIGS.items() for behaviour in EXPECTED if behaviour in kind.behaviours
]

every_rig = pytest.mark.parametrize("name", RIGS)


def essence(outcome: Outcome) -> tuple[object, ...]:
    """What a caller decides by: the kind, and for a refusal its code and whether it is for good."""
    if isinstance(outcome, Refused):
        return Refused, outcome.code, outcome.permanent
    return (type(outcome),)


async def on_its_way(
    rig: Rig, submitting: Coroutine[object, object, list[Outcome]]
) -> asyncio.Task[list[Outcome]]:
    """The submit as a task, once a message of it has arrived at the other end.

    It fails at once where the submit ends before: what never arrives is not worth waiting for.
    """
    task = asyncio.create_task(submitting)
    arrived = asyncio.ensure_future(rig.until_one_arrived())
    await asyncio.wait({task, arrived}, return_when=asyncio.FIRST_COMPLETED)
    if not arrived.done():
        arrived.cancel()
        pytest.fail(f"the submit ended before anything arrived: {await task}")
    return task


def test_the_table_knows_every_behaviour():
    assert set(EXPECTED) | {Behaviour.REFUSES_SOME} == set(Behaviour)


@pytest.mark.parametrize(("name", "behaviour"), CASES)
async def test_each_behaviour_has_its_outcome_at_every_position(name, behaviour):
    async with RIGS[name].open(behaviour, {}) as rig:
        outcomes = await rig.carrier.submit_many(submissions(3))
        assert [essence(outcome) for outcome in outcomes] == [essence(EXPECTED[behaviour])] * 3


@pytest.mark.parametrize(("name", "behaviour"), CASES)
async def test_no_message_is_sent_twice_unasked(name, behaviour):
    async with RIGS[name].open(behaviour, {}) as rig:
        for _ in range(2):  # the second finds connections that were used before
            await rig.carrier.submit_many(submissions(3))
        ids = [message_id for message_id, _ in await rig.reached()]
        assert all(ids.count(message_id) <= 2 for message_id in ids)


@every_rig
async def test_answers_keep_the_order_of_the_submissions(name):
    wanted = [submission(n, msisdn=REFUSED_MSISDN if n % 3 == 0 else "+4915112345678") for n in range(1, 251)]
    async with RIGS[name].open(Behaviour.REFUSES_SOME, {}) as rig:
        outcomes = await rig.carrier.submit_many(wanted)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [n % 3 == 0 for n in range(1, 251)]
    references = [outcome.reference for outcome in outcomes if isinstance(outcome, Submitted)]
    assert len(set(references)) == len(references)


@every_rig
async def test_a_reference_belongs_to_its_position(name):
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        (alone,) = await rig.carrier.submit_many([submission(7)])
        assert isinstance(alone, Submitted)
        assert alone.reference
        assert [message_id for message_id, _ in await rig.reached()] == [str(submission(7).message_id)]


@every_rig
async def test_every_text_arrives_exactly(name):
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][::20]
    texts += [
        "",
        " leading and trailing ",
        "a\r\nb\tc",
        '"\\/',
        "\u2028\u200f\ufeff",
        "👩\u200d👩\u200d👧 🇪🇺 𝒳",
        "\x01\x7f",
    ]
    wanted = [submission(number, text=text) for number, text in enumerate(texts)]
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        outcomes = await rig.carrier.submit_many(wanted)
        assert all(isinstance(outcome, Submitted) for outcome in outcomes)
        arrived = dict(await rig.reached())
    assert arrived == {str(one.message_id): one.text for one in wanted}


@every_rig
async def test_no_submissions_have_no_answers(name):
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        assert await rig.carrier.submit_many([]) == []
        assert await rig.reached() == []


@every_rig
async def test_nobody_waits_beyond_the_deadline(name):
    late = [submission(number, deadline_seconds=0.25) for number in range(3)]
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, {"total_timeout_seconds": 60.0}) as rig:
        async with asyncio.timeout(10):
            outcomes = await rig.carrier.submit_many(late)
    assert [essence(outcome) for outcome in outcomes] == [(Uncertain,)] * 3


@every_rig
@pytest.mark.parametrize("count", [1, 3])
async def test_what_finds_no_place_before_half_of_the_deadline_is_not_written(name, count):
    """Nor does it wait for longer: what is left of the deadline has no first half of its own."""
    patient = {"total_timeout_seconds": 60.0, "connections_max": 1}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, patient) as rig:
        first = await on_its_way(rig, rig.carrier.submit_many([submission(1)]))
        deadline_seconds = 2.0
        wanted = [submission(2 + number, deadline_seconds=deadline_seconds) for number in range(count)]
        async with within_own(0.75 * deadline_seconds - 0.1):  # a half of the half is too long
            outcomes = await rig.carrier.submit_many(wanted)
        assert [essence(outcome) for outcome in outcomes] == [(Refused, "carrier_busy", False)] * count
        assert [message_id for message_id, _ in await rig.reached()] == [str(submission(1).message_id)]
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


@every_rig
async def test_a_place_that_is_free_after_half_of_the_deadline_comes_too_late(name):
    first_ends = {"total_timeout_seconds": 3.8, "connections_max": 1}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, first_ends) as rig:
        first = await on_its_way(rig, rig.carrier.submit_many([submission(1)]))
        late = [submission(number, deadline_seconds=4.0) for number in (2, 3, 4)]
        outcomes = await rig.carrier.submit_many(late)
        await first
        assert [essence(outcome) for outcome in outcomes] == [(Refused, "carrier_busy", False)] * 3
        assert [message_id for message_id, _ in await rig.reached()] == [str(submission(1).message_id)]


@every_rig
async def test_what_finds_no_place_before_its_validity_ends_is_not_written(name):
    patient = {"total_timeout_seconds": 60.0, "connections_max": 1}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, patient) as rig:
        first = await on_its_way(rig, rig.carrier.submit_many([submission(1)]))
        async with asyncio.timeout(10):
            outcomes = await rig.carrier.submit_many(
                [submission(2, valid_for_seconds=0.5), submission(3, valid_for_seconds=0.25)]
            )
        assert [essence(outcome) for outcome in outcomes] == [(Refused, "carrier_busy", False)] * 2
        assert [message_id for message_id, _ in await rig.reached()] == [str(submission(1).message_id)]
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


@every_rig
@pytest.mark.parametrize("field", ["deadline_seconds", "valid_for_seconds"])
@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_what_is_too_late_already_is_not_written(name, field, seconds):
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        await rig.carrier.submit_many([submission(1)])  # so that a connection is at hand
        outcomes = await rig.carrier.submit_many([submission(2, **{field: seconds})] * 2)
        assert [essence(outcome) for outcome in outcomes] == [(Refused, "carrier_busy", False)] * 2
        assert len(await rig.reached()) == 1


@every_rig
async def test_a_message_whose_validity_has_ended_holds_up_no_other(name):
    wanted = [submission(number, valid_for_seconds=-0.01 if number == 2 else 600) for number in range(1, 101)]
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        outcomes = await rig.carrier.submit_many(wanted)
        arrived = {message_id for message_id, _ in await rig.reached()}
    assert outcomes.pop(1) == TOO_LATE
    assert [essence(outcome) for outcome in outcomes] == [(Submitted,)] * 99
    assert arrived == {str(one.message_id) for one in wanted} - {str(wanted[1].message_id)}


@every_rig
async def test_a_message_whose_validity_ends_while_it_waits_holds_up_no_other(name):
    one_by_one = {"total_timeout_seconds": 2.0, "connections_max": 1}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, one_by_one) as rig:
        first = await on_its_way(rig, rig.carrier.submit_many([submission(1)]))
        outcomes = await rig.carrier.submit_many([submission(2, valid_for_seconds=0.25), submission(3)])
        assert outcomes[0] == TOO_LATE
        assert essence(outcomes[1]) == (Uncertain,)
        arrived = [message_id for message_id, _ in await rig.reached()]
        assert arrived == [str(submission(number).message_id) for number in (1, 3)]
        await first


class Watched(Handover):
    """Refuses when it is told to, and keeps what it hears."""

    def __init__(self, refused: Refused | None = None) -> None:
        self.refused = refused
        self.heard: list[tuple[UUID, Outcome]] = []

    def refusal(self) -> Refused | None:
        return self.refused

    def answered(self, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        assert submissions
        self.heard += [(one.message_id, outcome) for one, outcome in zip(submissions, outcomes, strict=True)]


@pytest.mark.parametrize(("name", "behaviour"), CASES)
async def test_each_outcome_is_told_once_and_is_the_one_that_is_answered(name, behaviour):
    watched = Watched()
    wanted = [submission(number, valid_for_seconds=-0.01 if number == 2 else 600) for number in range(1, 6)]
    async with RIGS[name].open(behaviour, {}) as rig:
        outcomes = await rig.carrier.submit_many(wanted, watched)
    assert len(watched.heard) == len(wanted)
    assert dict(watched.heard) == dict(zip([one.message_id for one in wanted], outcomes, strict=True))


@every_rig
async def test_what_is_refused_before_it_is_written_is_not_written(name):
    watched = Watched(AWAY)
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        outcomes = await rig.carrier.submit_many(
            [*submissions(3), submission(4, valid_for_seconds=0)], watched
        )
        assert outcomes == [AWAY, AWAY, AWAY, TOO_LATE]
        assert await rig.reached() == []


@every_rig
async def test_what_waits_for_a_place_is_turned_away_at_once_and_what_may_go_waits_on(name):
    one_by_one = {"total_timeout_seconds": 2.0, "connections_max": 1}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, one_by_one) as rig:
        watched, others = Watched(), Watched()
        first = await on_its_way(rig, rig.carrier.submit_many([submission(1)], others))
        waiting = asyncio.create_task(rig.carrier.submit_many(submissions(3), watched))
        last = asyncio.create_task(rig.carrier.submit_many([submission(4)], others))
        await asyncio.sleep(0)
        watched.refused = GIVEN_BACK
        rig.carrier.turn_away()
        assert await waiting == [GIVEN_BACK] * 3
        assert not first.done()
        assert [essence(outcome) for outcome in await first + await last] == [(Uncertain,)] * 2
        assert [message_id for message_id, _ in await rig.reached()] == [
            str(submission(number).message_id) for number in (1, 4)
        ]


@every_rig
async def test_no_more_is_on_its_way_at_once_than_it_says(name):
    patient = {"total_timeout_seconds": 60.0, "connections_max": 2}
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, patient) as rig:
        wanted = submissions(rig.carrier.at_once_max + 1)
        first = await on_its_way(rig, rig.carrier.submit_many(wanted))
        async with asyncio.timeout(10):
            while len(await rig.reached()) < rig.carrier.at_once_max:  # noqa: ASYNC110 - the event is its
                await asyncio.sleep(0)
        assert len(await rig.reached()) == rig.carrier.at_once_max
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


@every_rig
async def test_a_cancelled_submit_leaves_nothing_open(name):
    async with RIGS[name].open(Behaviour.NEVER_ANSWERS, {"total_timeout_seconds": 60.0}) as rig:
        submitting = await on_its_way(rig, rig.carrier.submit_many(submissions(5)))
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        async with asyncio.timeout(10):
            await rig.until_nothing_is_open()


@every_rig
async def test_after_a_fault_the_carrier_goes_on(name):
    async with RIGS[name].open(Behaviour.CLOSES_BEFORE_THE_REPLY, {"connections_max": 1}) as rig:
        for _ in range(3):
            (outcome,) = await rig.carrier.submit_many([submission()])
            assert isinstance(outcome, Uncertain)
        assert len(await rig.reached()) == 3


@every_rig
async def test_what_comes_when_the_carrier_is_closed_is_not_written(name):
    async with RIGS[name].open(Behaviour.TAKES, {}) as rig:
        await rig.carrier.__aexit__(None, None, None)
        outcomes = await rig.carrier.submit_many(submissions(3))
        assert [essence(outcome) for outcome in outcomes] == [(Refused, UNREACHABLE, False)] * 3
        assert await rig.reached() == []
