"""A chunk on its way: the places that it still needs, and what is recorded of it before its end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from shared.runtime.loops import cancel_all
from worker.carriers.base import Outcome, Refused, Submission
from worker.desk import Probe
from worker.store import Claimed

Record = Callable[[Sequence[Claimed], Sequence[Outcome]], Awaitable[object]]


class Chunk:
    """Messages that were claimed together. Each gives its place back when its own answer is there.

    What was not written is recorded at once, while its neighbours wait for their answers: if the process
    ended before those came, nobody would know of it any more, and it might count as lost.
    """

    def __init__(self, taken: int, give: Callable[[int], None], record: Record) -> None:
        self._taken = taken
        self._give = give
        self._record = record
        self._claimed: dict[UUID, Claimed] = {}
        self._unwritten: list[tuple[Claimed, Outcome]] = []
        self._records: dict[UUID, asyncio.Task[None]] = {}

    def note_claimed(self, won: Sequence[Claimed]) -> None:
        """Note which messages it has."""
        self._claimed = {claimed.message_id: claimed for claimed in won}

    def answered(self, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        """Take what became of some, as soon as it is known."""
        if not isinstance(self._taken, Probe):  # that one is a probe until all of this is over
            self._taken -= len(submissions)
            self._give(len(submissions))
        for submission, outcome in zip(submissions, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.is_busy:
                self._record_soon(submission.message_id, outcome)

    def give_back(self) -> None:
        """Give back the places that it still has."""
        self._give(self._taken)

    async def record(self, won: Sequence[Claimed], outcomes: Sequence[Outcome]) -> None:
        """Record the rest, and wait until all is.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        pairs = zip(won, outcomes, strict=True)
        rest = [(one, outcome) for one, outcome in pairs if one.message_id not in self._records]
        records: list[Awaitable[object]] = [*set(self._records.values())]
        if rest:
            records.append(self._record(*zip(*rest, strict=True)))
        await asyncio.gather(*records)

    async def cancel(self) -> None:
        """Wait for no record any more: what the journal has been given, it writes."""
        await cancel_all(self._records.values())

    def _record_soon(self, message_id: UUID, outcome: Outcome) -> None:
        """Record it with the others that are turned away in this turn of the loop."""
        if not self._unwritten:
            self._recording = asyncio.create_task(self._record_unwritten())
        self._unwritten.append((self._claimed[message_id], outcome))
        self._records[message_id] = self._recording

    async def _record_unwritten(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        await self._record(*zip(*unwritten, strict=True))
