"""A chunk on its way: the places that it still needs, and what is recorded of it before its end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from worker.carriers.base import Outcome, Refused, Submission
from worker.desk import Probe
from worker.store import Claimed

Record = Callable[[Sequence[Claimed], Sequence[Outcome]], Awaitable[object]]

# How long answers gather while neighbours have none yet: what would be lost with the process is no more than
# the carrier takes in that time, and a slow neighbour costs a record or two, not one for each answer.
GATHER_SECONDS: Final = 0.2


class Chunk:
    """Messages that were claimed together. Each gives its place back when its own answer is there.

    Each is recorded soon after, while its neighbours wait for their answers: if the process ended before
    those came, nobody would know of it any more, and it might count as lost.
    """

    def __init__(self, taken: int, give: Callable[[int], None], record: Record) -> None:
        self._taken = taken
        self._give = give
        self._record = record
        self._claimed: dict[UUID, Claimed] = {}
        self._gathered: dict[UUID, Outcome] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._records: dict[UUID, asyncio.Task[None]] = {}

    def note_claimed(self, won: Sequence[Claimed]) -> None:
        """Note which messages it has."""
        self._claimed = {claimed.message_id: claimed for claimed in won}

    def kept(self, pairs: Sequence[tuple[Claimed, Outcome]]) -> None:
        """Take what does not go to the carrier: it waits for no neighbour. Its places are kept to the end."""
        if pairs:
            self._gathered.update((claimed.message_id, why) for claimed, why in pairs)
            self._record_in(0.0)

    def answered(self, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
        """Take what became of some, as soon as it is known."""
        if not isinstance(self._taken, Probe):  # that one is a probe until all of this is over
            self._taken -= len(submissions)
            self._give(len(submissions))
        is_hurried = False
        for submission, outcome in zip(submissions, outcomes, strict=True):
            self._gathered[submission.message_id] = outcome
            is_hurried = is_hurried or (isinstance(outcome, Refused) and outcome.is_busy)
        self._record_in(0.0 if is_hurried else GATHER_SECONDS)

    def give_back(self) -> None:
        """Give back the places that it still has."""
        self._give(self._taken)

    async def record(self, won: Sequence[Claimed], outcomes: Sequence[Outcome]) -> None:
        """Record the rest, and wait until all is.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        self._stop_timer()
        self._gathered = {}  # it is part of the rest
        pairs = zip(won, outcomes, strict=True)
        self._begin([(one, outcome) for one, outcome in pairs if one.message_id not in self._records])
        records = set(self._records.values())
        if records:
            await asyncio.wait(records)  # which cancels none of them when this is cancelled
        for record in records:
            record.result()

    async def cancel(self) -> None:
        """Wait for no record any more: what the journal has been given, it writes before it ends."""
        self._record_gathered()
        for record in set(self._records.values()):
            record.add_done_callback(_forget)
        await asyncio.sleep(0)  # the last one begins, and is the journal's from then on

    def _record_in(self, seconds: float) -> None:
        """Record what has gathered, with what comes until then; what is in a hurry waits for no more."""
        if self._timer is None or seconds == 0.0:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._record_gathered)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _record_gathered(self) -> None:
        self._stop_timer()
        gathered, self._gathered = self._gathered, {}
        self._begin([(self._claimed[one], outcome) for one, outcome in gathered.items()])

    def _begin(self, pairs: Sequence[tuple[Claimed, Outcome]]) -> None:
        if pairs:
            record = asyncio.create_task(self._record_pairs(pairs))
            self._records.update((claimed.message_id, record) for claimed, _ in pairs)

    async def _record_pairs(self, pairs: Sequence[tuple[Claimed, Outcome]]) -> None:
        await self._record(*zip(*pairs, strict=True))


def _forget(record: asyncio.Task[None]) -> None:
    """Take its error, which nobody waits for any more; the journal has told of it."""
    if not record.cancelled():
        record.exception()
