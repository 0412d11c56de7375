"""Gives back what was claimed by calls whose answers were lost: no carrier has seen it (RULES 4, 16)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self
from uuid import UUID

import structlog

from shared.runtime.postgres import OutcomeUnknown, Pool
from shared.runtime.server_calls import is_retryable
from shared.storage.config import CarrierConfig
from worker import store
from worker.store import Claim, Claimed, Outcome

# Calls in hand, each of a flush. Beyond that, and after a call's ``ASK_AGAIN_SECONDS``, the claims' deadline
# decides.
LOST_MAX: Final = 20
# As an outcome in hand it is worth a failover's wait: what nobody submits would be taken for submitted.
ASK_AGAIN_SECONDS: Final = 120.0
# Claims are lost in an overload too: a few calls at a time, and a pause after each, do not add to it.
ASKING_MAX: Final = 2
PAUSE_SECONDS: Final = 3.0
# A call under way and the record of what it won end in this time; all of a process's stop has 25 s.
CLOSING_SECONDS: Final = 8.0

Record = Callable[[CarrierConfig, Sequence[Claimed], Sequence[Outcome]], Awaitable[object]]

_log = structlog.get_logger(__name__)


class LostClaim(NamedTuple):
    """A call that may have claimed, or may still do so."""

    claim_id: UUID
    carrier_id: int
    deadline_seconds: int
    work: Sequence[tuple[str, int]]


class LostClaims:
    """Makes lost calls again until they are answered, few at a time.

    An open async context; leaving it makes none again, and waits ``CLOSING_SECONDS`` at most for those under
    way.

    Else a claim that nobody submits is taken for one that may have been sent, and an ``at_most_once`` message
    ends so.

    Args:
        pool: where claims are made.
        carrier: the row of a carrier, or None.
        record: records outcomes of a carrier's claims.
    """

    def __init__(self, pool: Pool, carrier: Callable[[int], CarrierConfig | None], record: Record) -> None:
        self._pool = pool
        self._carrier = carrier
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = asyncio.Semaphore(ASKING_MAX)
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A call that is cut off may claim all the same, also what nobody had claimed before.
        self._closing.set()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSING_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, lost: LostClaim) -> None:
        """Find out what became of it, beside everything else; whoever made the call submits nothing of it."""
        self._start(partial(self._find_out, lost), len(lost.work))

    def give_back(self, carrier_id: int, won: Sequence[Claimed]) -> None:
        """Give back what a call won, beside everything else; whoever made the call submits nothing of it."""
        if won:
            self._start(partial(self._give_back, carrier_id, won), len(won))

    def _start(self, work: Callable[[], Awaitable[None]], messages: int) -> None:
        if len(self._tasks) < LOST_MAX:
            task = asyncio.create_task(self._guarded(work, messages))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Awaitable[None]], messages: int) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - their deadline recovers them, as if we had died
            _log.warning("claims lost with their answer", messages=messages, error=repr(error))

    async def _find_out(self, lost: LostClaim) -> None:
        await self._give_back(lost.carrier_id, won_of(lost.work, await self._answer(lost)))

    async def _answer(self, lost: LostClaim) -> list[Claim]:
        """Ask until there is an answer, or it is too late to ask once more."""
        ends_at = time.monotonic() + ASK_AGAIN_SECONDS
        while True:
            try:
                return await self._ask(lost)
            except Exception as error:
                may_ask = isinstance(error, OutcomeUnknown) or is_retryable(error)
                if not may_ask or self._closing.is_set() or time.monotonic() + PAUSE_SECONDS > ends_at:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PAUSE_SECONDS)

    async def _ask(self, lost: LostClaim) -> list[Claim]:
        async with self._asking:
            if self._closing.is_set():
                raise OutcomeUnknown("claim_batch_v1", was_sent=True)
            return await store.claim_again(
                self._pool, lost.work, lost.carrier_id, lost.deadline_seconds, lost.claim_id
            )

    async def _give_back(self, carrier_id: int, won: Sequence[Claimed]) -> None:
        carrier = self._carrier(carrier_id)
        if won and carrier is not None:
            await self._record(carrier, won, [_unclaimed(one) for one in won])
            _log.warning("claims given back whose answer was lost", messages=len(won))


def won_of(work: Sequence[tuple[str, int]], claims: Sequence[Claim]) -> list[Claimed]:
    """Return what a call's answers won, of the (message id, dispatch number) pairs that it asked for."""
    return [
        Claimed(UUID(id_), claim)
        for (id_, _), claim in zip(work, claims, strict=True)
        if claim.refusal is None
    ]


def _unclaimed(claimed: Claimed) -> Outcome:
    return Outcome(
        message_id=claimed.message_id,
        attempt_no=claimed.claim.attempt_no,
        part_no=1,
        outcome="unclaimed",
        reference=None,
        error="claim_unanswered",
        detail=None,
        retry_seconds=0.0,
        next_carrier_id=None,
    )
