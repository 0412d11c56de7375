"""A carrier's desk: places, pace, and what it learns from answers."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import pytest

from shared.domain.alphabet import Encoding
from shared.storage.config import CarrierConfig
from worker.carriers.base import UNREACHABLE, Outcome, Refused, Submission, Submitted, Throttled, Uncertain
from worker.desk import FAILURES_TO_OPEN, Desk


class Scripted:
    """A carrier that answers what it is told to, position by position."""

    name = "scripted"

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        return [self.outcome for _ in submissions]

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
    return Desk(CarrierConfig(**row), Scripted(outcome))  # type: ignore[arg-type]  # the row's values have its types


def submission() -> Submission:
    return Submission(
        message_id=UUID(int=1), attempt_no=1, part_no=1, msisdn="+4915112345678", sender="ACME", text="hi",
        encoding=Encoding.GSM7, segments=1, valid_for_seconds=60, deadline_seconds=60.0,
    )  # fmt: skip


async def test_no_more_is_taken_at_once_than_the_window_has_places():
    one = desk(Submitted("r"), window_max=2)
    async with one.places(2):
        waiting = asyncio.create_task(one.places(1).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_places_come_back_when_their_taker_is_cancelled():
    one = desk(Submitted("r"), window_max=1)
    async with one.places(1):
        waiting = asyncio.create_task(one.places(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), one.places(1):
        """The place is free again."""


@pytest.mark.parametrize(
    ("rate", "window", "at_once"), [(0, 500, 500), (20, 500, 20), (1000, 500, 500), (0, 1, 1)]
)
async def test_no_more_is_claimed_at_once_than_goes_out_in_a_second(rate, window, at_once):
    assert desk(Submitted("r"), rate_per_second=rate, window_max=window).batch_max == at_once


async def test_a_throttle_halves_the_rate_once_a_pause():
    one = desk(Throttled(0.01), rate_per_second=100, window_max=1000)
    await one.submit([submission()] * 5)
    assert one.batch_max == 50


async def test_refused_connections_in_a_row_open_the_breaker_and_one_success_forgets_them():
    one = desk(Refused(UNREACHABLE, "connection refused", permanent=False))
    await one.submit([submission()] * (FAILURES_TO_OPEN - 1))
    assert not one.is_down
    one._carrier = Scripted(Submitted("r"))
    await one.submit([submission()])
    one._carrier = Scripted(Refused(UNREACHABLE, "connection refused", permanent=False))
    await one.submit([submission()] * (FAILURES_TO_OPEN - 1))
    assert not one.is_down
    await one.submit([submission()])
    assert one.is_down


@pytest.mark.parametrize("outcome", [Refused("blocked", "no", permanent=True), Uncertain("timed out")])
async def test_a_carrier_that_answers_badly_is_not_down(outcome):
    one = desk(outcome)
    await one.submit([submission()] * 20)
    assert not one.is_down


async def test_groups_that_want_more_than_there_is_take_turns_and_all_get_through():
    one = desk(Submitted("r"), window_max=10)
    done = 0

    async def group() -> None:
        nonlocal done
        for _ in range(5):
            async with one.places(4):
                await asyncio.sleep(0)
            done += 1

    async with asyncio.timeout(5):
        await asyncio.gather(*(group() for _ in range(12)))
    assert done == 60
