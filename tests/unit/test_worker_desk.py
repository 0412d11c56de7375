"""A carrier's desk: places by lane, pace, and what it learns from answers."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import pytest

from shared.domain.alphabet import Encoding
from shared.storage.config import CarrierConfig
from worker.breaker import FAILURES_TO_OPEN
from worker.carriers.base import (
    AWAY,
    BUSY,
    FREELY,
    UNREACHABLE,
    Handover,
    Outcome,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Uncertain,
)
from worker.desk import Desk
from worker.outcomes import OUTCOMES
from worker.pace import Pace
from worker.window import Window, places_for

LANES = ("express", "normal", "bulk")
NONE_FREE = Refused(BUSY, "no connection was free", permanent=False, is_ours=True)


class Scripted:
    """A carrier that answers what it is told to, position by position."""

    name = "scripted"
    at_once_max = 100_000

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        outcomes = self.outcomes(submissions)
        handover.answered(submissions, outcomes)
        return outcomes

    def outcomes(self, submissions: Sequence[Submission]) -> list[Outcome]:
        return [self.outcome for _ in submissions]

    def turn_away(self) -> None:
        """Nothing waits."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


def desk(outcome: Outcome, **changes: object) -> Desk:
    row = {
        "id": 1, "name": "scripted", "kind": "scripted", "settings": {}, "secret_sealed": None,
        "is_enabled": True, "is_simulator": False, "may_ask_again": False, "splits_parts": False,
        "rate_per_second": 0, "window_max": 10, "submit_deadline_seconds": 60, "receipt_wait_seconds": 3600,
    } | changes  # fmt: skip
    return Desk(CarrierConfig(**row), Scripted(outcome), LANES)  # type: ignore[arg-type]  # the row's values have its types


numbers = itertools.count(1)


def submission() -> Submission:
    return Submission(
        message_id=UUID(int=next(numbers)), attempt_no=1, part_no=1, msisdn="+4915112345678", sender="ACME",
        text="hi", encoding=Encoding.GSM7, segments=1, valid_for_seconds=60, half_seconds=30.0,
        deadline_seconds=60.0, asked_at=0.0,
    )  # fmt: skip


async def test_no_more_is_taken_at_once_than_the_window_has_places():
    one = desk(Submitted("r"), window_max=2)
    assert await one.take("normal", 5) == 2
    waiting = asyncio.create_task(one.take("normal", 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.give("normal", 2)
    assert await waiting == 1


async def test_places_come_back_when_their_taker_is_cancelled():
    one = desk(Submitted("r"), window_max=1)
    await one.take("normal", 1)
    for has_been_granted in (False, True):
        waiting = asyncio.create_task(one.take("bulk", 1))
        await asyncio.sleep(0)
        if has_been_granted:
            one.give("normal", 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1):
        assert await one.take("express", 1) == 1


@pytest.mark.parametrize(
    ("rate", "window", "at_once"), [(0, 500, 350), (20, 500, 5), (1000, 500, 250), (1, 500, 1), (0, 1, 1)]
)
async def test_no_more_is_claimed_at_once_than_goes_out_in_a_second(rate, window, at_once):
    """Far less where the carrier is slow: what comes next may be in a hurry."""
    one = desk(Submitted("r"), rate_per_second=rate, window_max=window)
    assert await one.take("normal", 1_000) == at_once


async def test_a_throttle_halves_the_rate_once_a_pause():
    one = desk(Throttled(0.01), rate_per_second=100, window_max=1000)
    await one.submit([submission()] * 5)
    async with asyncio.timeout(1):
        assert await one.take("normal", 1_000) == 12


async def test_a_paced_carrier_is_given_no_more_than_its_rate():
    one = desk(Submitted("r"), rate_per_second=400, window_max=1000)
    begun, taken = time.monotonic(), 0
    while taken < 300:
        taken += await one.take("normal", 50)
    assert time.monotonic() - begun > (taken - 50) / 400 * 0.95


async def test_who_waits_goes_as_soon_as_others_do_not():
    one = desk(Submitted("r"), rate_per_second=4, window_max=1000)
    taken = await one.take("normal", 50)
    waiting = asyncio.create_task(one.take("normal", 50))
    await asyncio.sleep(0)
    one.give_back_pace(taken, taken)
    await asyncio.sleep(0)
    assert waiting.done()


async def test_refused_connections_in_a_row_open_the_breaker_and_one_success_forgets_them():
    one = desk(Refused(UNREACHABLE, "connection refused", permanent=False, is_ours=True))
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
    assert not one.is_down
    one._carrier = Scripted(Submitted("r"))
    await one.submit([submission()])
    one._carrier = Scripted(Refused(UNREACHABLE, "connection refused", permanent=False, is_ours=True))
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
    assert not one.is_down
    await one.submit([submission()])
    assert one.is_down


async def test_a_carrier_that_refuses_messages_is_not_down():
    one = desk(Refused("blocked", "no", permanent=True))
    await one.submit([submission()] * 20)
    assert not one.is_down


async def test_lost_answers_in_a_row_open_the_breaker_and_any_answer_forgets_them():
    one = desk(Uncertain("timed out"))
    for answer in (Submitted("r"), Throttled(0.01), Refused("blocked", "no", permanent=True)):
        await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
        one._carrier = Scripted(answer)
        await one.submit([submission()])
        one._carrier = Scripted(Uncertain("timed out"))
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
    assert not one.is_down
    await one.submit([submission()])
    assert one.is_down


class FewConnections(Scripted):
    """Loses the answers of the first so many of a submit; for the others no connection was free."""

    def __init__(self, lost: int) -> None:
        super().__init__(Uncertain("timed out"))
        self._lost = lost

    def outcomes(self, submissions: Sequence[Submission]) -> list[Outcome]:
        return [*super().outcomes(submissions[: self._lost]), *[NONE_FREE] * len(submissions[self._lost :])]


async def test_what_was_not_written_for_want_of_a_connection_says_nothing_of_the_carrier():
    one = desk(NONE_FREE, window_max=1_000)
    await one.submit([submission() for _ in range(20)])
    assert not one.is_down
    one._carrier = FewConnections(FAILURES_TO_OPEN)
    await one.submit([submission() for _ in range(20)])
    assert one.is_down, "a carrier that hangs is not back for what it never got"


class Waiting(Scripted):
    """Has one answer after the other, and asks before each if the next may be written."""

    def __init__(self, *answers: Outcome) -> None:
        super().__init__(answers[-1])
        self._answers = answers
        self.turned_away = 0

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for one, answer in zip(submissions, self._answers, strict=True):
            outcomes.append(handover.refusal() or answer)
            handover.answered([one], outcomes[-1:])
        return outcomes

    def turn_away(self) -> None:
        self.turned_away += 1


async def test_the_breaker_opens_within_a_submit_and_its_rest_is_not_written():
    lost = Uncertain("502")
    one = desk(lost)
    carrier = Waiting(*[lost] * FAILURES_TO_OPEN, lost, Submitted("r"))
    one._carrier = carrier
    outcomes = await one.submit([submission() for _ in range(FAILURES_TO_OPEN + 2)])
    assert outcomes == [*[lost] * FAILURES_TO_OPEN, AWAY, AWAY]
    assert one.is_down
    assert carrier.turned_away, "who waits for a connection is told"


async def test_what_probes_may_be_written_though_the_breaker_is_open(monkeypatch):
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    one = desk(Uncertain("timed out"))
    before = await one.take("normal", 1)
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN)])
    probe = await one.take("normal", 1)
    one._carrier = Waiting(Submitted("r"))
    assert await one.submit([submission()], before) == [AWAY]
    assert await one.submit([submission()], probe) == [Submitted("r")]
    assert not one.is_broken()


@pytest.mark.parametrize("lanes", [LANES, ("bulk",), ("express", "normal")])
@pytest.mark.parametrize("at_once", [1, 2, 32, 3_200])
async def test_a_lane_that_is_alone_has_places_for_three_times_what_its_carrier_takes_at_once(at_once, lanes):
    """Or a little more; and all lanes together do not keep many more waiting."""
    for lane in lanes:
        window = Window(places_for(at_once, lanes), Pace("scripted", 0), lanes)
        assert 3 * at_once <= await window.take(lane, 100_000) <= 3.6 * at_once + len(lanes)
    assert places_for(at_once, lanes) <= 5 * at_once


async def test_a_lane_takes_no_few_places_while_it_has_many_and_waits_for_none_for_ever():
    """Each is a claim and a record. What others have taken meanwhile does not hold up the lane."""
    one = desk(Submitted("r"), window_max=100)
    await one.take("bulk", 100)
    waiting = asyncio.create_task(one.take("bulk", 100))
    for given in range(19):
        assert not waiting.done(), given
        one.give("bulk", 1)
        await asyncio.sleep(0)
    await one.take("normal", 20)
    await one.take("express", 20)
    async with asyncio.timeout(1):
        for _ in range(41):
            one.give("bulk", 1)
        assert await waiting >= 10


async def test_one_message_that_never_gets_an_answer_is_not_the_carriers_fault():
    one = desk(Uncertain("timed out"))
    odd = [submission() for _ in range(FAILURES_TO_OPEN - 1)]
    for _ in range(3):
        await one.submit(odd)
    assert not one.is_down
    await one.submit([submission()])
    assert one.is_down


@pytest.mark.parametrize("code", [BUSY, UNREACHABLE])
async def test_a_carrier_that_refuses_by_a_code_that_is_ours_too_has_answered(code):
    one = desk(Uncertain("timed out"))
    failed = OUTCOMES.labels("scripted", "failed")._value.get
    failed_before = failed()
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
    one._carrier = Scripted(Refused(code, "the carrier's own word", permanent=False))
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN)])
    assert not one.is_down
    assert failed() - failed_before == FAILURES_TO_OPEN
    one._carrier = Scripted(Uncertain("timed out"))
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN - 1)])
    assert not one.is_down


@pytest.mark.parametrize(
    "failure", [Uncertain("timed out"), Refused(UNREACHABLE, "no", permanent=False, is_ours=True)]
)
async def test_after_the_break_one_message_probes_until_it_is_answered(failure, monkeypatch):
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    one = desk(failure, window_max=100)
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN)])
    for answer in (failure, Submitted("r")):
        taken = await one.take("normal", 10)
        assert taken == 1
        assert one.is_down
        assert await one.take("express", 10) == 0, "while that is on its way nobody else goes"
        one._carrier = Scripted(answer)
        await one.submit([submission()], taken)
        one.give("normal", taken)
    assert await one.take("normal", 10) == 10


async def test_a_probe_that_was_not_claimed_or_gave_up_leaves_the_place_to_another(monkeypatch):
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    one = desk(Uncertain("timed out"), window_max=1)
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN)])
    one.give("normal", await one.take("normal", 10))
    taken = await one.take("bulk", 10)
    assert taken == 1
    one.give("bulk", taken)
    one._window.close()
    assert await one.take("bulk", 10) == 0
    assert not one.is_down


async def test_a_probe_whose_answer_was_lost_before_holds_up_no_other(monkeypatch):
    """Lost again it says nothing: as long as it is on its way one that can tell may go beside it."""
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    one = desk(Uncertain("timed out"), window_max=100)
    odd, other = [submission() for _ in range(FAILURES_TO_OPEN)], submission()
    await one.submit(odd)
    assert [one.is_odd(each.message_id) for each in (*odd, other)] == [True] * FAILURES_TO_OPEN + [False]
    taken = await one.take("normal", 10)
    assert taken == 1
    carrier = one._carrier = Silent(Uncertain("timed out"))
    probing = asyncio.create_task(one.submit(odd[:1], taken))
    await asyncio.sleep(0)
    assert (one.has_odd_probe, one.is_down) == (True, False)
    beside = await one.take("express", 10)
    assert beside == 1
    assert one.is_down, "one, and no more"
    one._carrier = Scripted(Uncertain("timed out"))
    await one.submit([other], beside)
    one.give("express", beside)
    assert (one.has_odd_probe, one.is_down) == (True, False)
    one.give("express", await one.take("express", 10))
    assert (one.has_odd_probe, one.is_down) == (True, False), "one that was not claimed leaves its place"
    carrier.answer.set()
    await probing
    one.give("normal", taken)
    assert (one.has_odd_probe, one.is_down, one.is_broken()) == (False, False, True)


async def test_who_has_places_from_before_the_break_does_not_end_a_probe(monkeypatch):
    """Neither by what it submits late nor by what it gives back."""
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    one = desk(Uncertain("timed out"), window_max=100)
    before = [await one.take("normal", 1) for _ in range(2)]
    odd = [submission() for _ in range(FAILURES_TO_OPEN)]
    await one.submit(odd)
    probe = await one.take("normal", 10)
    assert probe == 1
    await one.submit(odd[:1], before[0])
    for taken in before:
        one.give("normal", taken)
    assert (one.is_down, one.has_odd_probe) == (True, False)
    one.give("normal", probe)
    assert not one.is_down


async def test_who_waited_for_places_while_the_breaker_opened_gets_none():
    one = desk(Uncertain("timed out"), window_max=1)
    await one.take("normal", 1)
    waiting = asyncio.create_task(one.take("bulk", 1))
    await asyncio.sleep(0)
    await one.submit([submission() for _ in range(FAILURES_TO_OPEN)])
    one.give("normal", 1)
    assert await waiting == 0
    assert one._window.used == 0


class Silent(Scripted):
    """Answers when it is told to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.answer = asyncio.Event()

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        await self.answer.wait()
        return await super().submit_many(submissions, handover)


async def round_of(one: Desk, now: list[float], claim_seconds: float, answer_seconds: float) -> list[bool]:
    """Claim and submit five messages in step; say after each if it is full."""
    carrier = one._carrier = Silent(Submitted("r"))
    await one.take("normal", 5)
    now[0] += claim_seconds
    seen = [one.is_full()]
    submits = asyncio.create_task(one.submit([submission()] * 5))
    await asyncio.sleep(0)
    now[0] += answer_seconds
    seen.append(one.is_full())
    carrier.answer.set()
    await submits
    one.give("normal", 5)
    return seen


@pytest.mark.parametrize(
    ("claim_seconds", "answer_seconds", "is_full"),
    [(0.04, 0.1, True), (0.05, 0.05, True), (0.3, 0.3, True), (0.4, 0.05, False), (5.0, 0.05, False)],
)
async def test_a_carrier_is_full_when_its_answers_and_not_our_claims_take_the_time(
    monkeypatch, claim_seconds, answer_seconds, is_full
):
    """At no instant of a round it looks otherwise, though its places are all here or all there."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    one = desk(Submitted("r"), window_max=10)
    assert not one.is_full()
    for _ in range(10):
        await round_of(one, now, claim_seconds, answer_seconds)
    assert await round_of(one, now, claim_seconds, answer_seconds) == [is_full, is_full]


async def test_a_carrier_is_not_full_any_more_when_the_database_has_stood_for_a_second(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    one = desk(Submitted("r"), window_max=10)
    assert (await round_of(one, now, 0.01, 5.0))[-1]
    await one.take("normal", 5)
    now[0] += 1.0
    assert not one.is_full(), "what waits for places waits for the claims of the others"


async def test_a_carrier_that_answers_nothing_is_full_at_once(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    one = desk(Submitted("r"), window_max=10)
    for _ in range(3):
        await round_of(one, now, 0.4, 0.05)
    assert not one.is_full()
    assert (await round_of(one, now, 0.4, 0.5))[-1]


async def test_a_carrier_is_full_while_its_pace_lets_nothing_go():
    one = desk(Submitted("r"), rate_per_second=1)
    await one.take("normal", 1)
    assert one.is_full()
    other = desk(Throttled(60.0))
    await other.submit([submission()])
    assert other.is_full()


async def test_one_submit_that_hangs_makes_a_carrier_slow_however_busy_it_is(monkeypatch):
    one = desk(Submitted("r"), window_max=100)
    await one.take("normal", 50)
    one._carrier = Scripted(Submitted("r"))
    one._unanswered[-1] = (time.monotonic(), 1)
    assert not one.is_slow()
    monkeypatch.setattr("worker.desk.SLOW_SECONDS", -1.0)
    assert one.is_slow()
    assert not one.is_full(), "what waits for places waits for the claims of the others"


async def test_a_carrier_takes_what_goes_and_ever_less_while_it_does_not_answer(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr("worker.desk.time.monotonic", lambda: now[0])
    one = desk(Submitted("r"), window_max=100)
    await one.take("normal", 50)
    assert one.per_second == 50.0
    one._unanswered[-1] = (now[0], 50)
    for seconds, per_second in [(5.0, 10.0), (20.0, 2.5), (500.0, 1.0)]:
        now[0] = 1_000.0 + seconds
        assert one.per_second == per_second


async def test_a_carrier_is_steady_while_it_takes_about_what_it_took(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr("worker.desk.time.monotonic", lambda: now[0])
    one, stated = desk(Submitted("r"), window_max=100), desk(Submitted("r"), rate_per_second=3)

    async def takes(number: int) -> None:
        for each in (one, stated):
            each.give("normal", await each.take("normal", number))
        now[0] += 1.0

    await takes(20)
    assert (one.is_steady(), stated.is_steady()) == (False, True), "only the row's rate is known yet"
    for _ in range(10):
        await takes(20)
    assert one.is_steady()
    for _ in range(3):
        await takes(2)
    assert not one.is_steady(), "it may be as quick as before soon"
    for _ in range(310):
        await takes(2)
    assert one.is_steady(), "it is so for long"
    now[0] += 5.0
    assert not one.is_steady()
    assert not stated.is_steady(), "what takes nothing may hang"


@pytest.mark.parametrize("rate_per_second", [0, 20])
async def test_what_never_went_says_nothing_of_what_a_carrier_takes(monkeypatch, rate_per_second):
    """A flood of cancelled work went through the claims, and the carrier was not asked for any of it."""
    now = [1_000.0]
    monkeypatch.setattr("worker.desk.time.monotonic", lambda: now[0])
    one = desk(Submitted("r"), rate_per_second=rate_per_second, window_max=100)

    async def takes(number: int, *, is_sent: bool) -> None:
        turn = await one.take("normal", number)
        one.give_back_pace(turn, 0 if is_sent else turn)
        one.give("normal", turn)

    for _ in range(1_200):
        await takes(5, is_sent=False)
        now[0] += 0.01
    for _ in range(100):
        await takes(5, is_sent=True)
        now[0] += 0.25
    assert one.is_steady()


async def test_a_carrier_that_rests_is_as_fast_as_before_when_it_is_back():
    one = desk(Throttled(60.0), window_max=100)
    await one.take("normal", 8)
    await one.submit([submission()] * 8)
    assert one.per_second == 4.0
    assert 59.0 < one.rest_seconds <= 60.0


async def test_groups_that_want_more_than_there_is_take_turns_and_all_get_through():
    one = desk(Submitted("r"), window_max=10)
    done = 0

    async def group(lane: str) -> None:
        nonlocal done
        for _ in range(5):
            count = await one.take(lane, 4)
            await asyncio.sleep(0)
            one.give(lane, count)
        done += 1

    async with asyncio.timeout(5):
        await asyncio.gather(*(group(lane) for lane in LANES * 4))
    assert done == 12


async def test_a_lane_finds_its_own_places_free_however_much_the_others_want():
    one = desk(Submitted("r"), window_max=100)
    for lane in LANES:
        others = [other for other in LANES if other != lane]
        taken = []
        for other in others:
            for _ in range(20):
                waiting = asyncio.create_task(one.take(other, 10))
                await asyncio.sleep(0)
                taken.append((other, waiting))
        async with asyncio.timeout(1):
            count = await one.take(lane, 10)
        one.give(lane, count)
        assert count >= 5
        for other, waiting in taken:
            if waiting.done():
                one.give(other, waiting.result())
            else:
                waiting.cancel()
        await asyncio.sleep(0)


async def test_who_asks_for_little_is_next_and_nobody_is_forgotten():
    one = desk(Submitted("r"), rate_per_second=400, window_max=1000)
    order: list[str] = []

    async def ask(lane: str, wanted: int, times: int) -> None:
        for _ in range(times):
            one.give(lane, await one.take(lane, wanted))
            order.append(lane)

    busy = [asyncio.create_task(ask(lane, 4, 20)) for lane in ("bulk", "normal")]
    await asyncio.sleep(0)
    await asyncio.create_task(ask("express", 1, 1))
    assert order.index("express") <= 2
    async with asyncio.timeout(5):
        await asyncio.gather(*busy)
    while_both_want = order[:15]
    assert 2 <= while_both_want.count("bulk") < while_both_want.count("normal")
