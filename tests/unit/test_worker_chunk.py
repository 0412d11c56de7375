"""A chunk gives each outcome to the journal once, whatever comes in between."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from worker.carriers.base import Outcome, Submission, Submitted, Throttled
from worker.chunk import Chunk
from worker.store import Claim, Claimed

IDS = [UUID(int=number) for number in range(1, 4)]
TAKEN = Submitted("r")


class Records:
    """Takes outcomes; each call ends when it is told to."""

    def __init__(self) -> None:
        self.given: list[UUID] = []
        self.may_end = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def __call__(self, won: Sequence[Claimed], _: Sequence[Outcome]) -> None:
        self.given += [claimed.message_id for claimed in won]
        self.has_begun.set()
        await self.may_end.wait()


def claimed(id_: UUID) -> Claimed:
    return Claimed(id_, cast("Claim", None))


def submissions(ids: Sequence[UUID]) -> list[Submission]:
    nothing: dict[str, Any] = dict.fromkeys(Submission.__annotations__)
    return [Submission(**{**nothing, "message_id": id_}) for id_ in ids]


async def test_what_has_gathered_when_the_rest_is_recorded_is_given_once_by_who_is_cut_off() -> None:
    records, won = Records(), [claimed(id_) for id_ in IDS]
    chunk = Chunk(len(IDS), lambda _: None, records)
    chunk.note_claimed(won)
    chunk.answered(submissions(IDS), [TAKEN] * len(IDS))
    recording = asyncio.create_task(chunk.record(won, [TAKEN] * len(IDS)))
    await records.has_begun.wait()
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    await chunk.cancel()
    records.may_end.set()
    assert records.given == IDS


@pytest.mark.parametrize("is_cut_off", [False, True])
async def test_what_is_kept_is_given_once_and_keeps_its_places(is_cut_off: bool) -> None:
    records, won = Records(), [claimed(id_) for id_ in IDS]
    given_back: list[int] = []
    chunk = Chunk(len(IDS), given_back.append, records)
    chunk.note_claimed(won)
    chunk.kept([(won[0], Throttled(5.0))])
    records.may_end.set()
    if is_cut_off:
        await chunk.cancel()
        assert records.given == IDS[:1]
        return
    await records.has_begun.wait()
    assert (records.given, given_back) == (IDS[:1], [])
    chunk.give_back()
    await chunk.record([*won[1:], won[0]], [TAKEN, TAKEN, Throttled(5.0)])
    assert (sorted(records.given), given_back) == (IDS, [len(IDS)])
