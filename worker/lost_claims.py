"""Gives back what was claimed by calls whose answers were lost: no carrier has seen it (RULES 4, 16)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self
from uuid import UUID

import structlog

from shared.runtime.postgres import Pool
from shared.storage.config import CarrierConfig
from worker import store
from worker.store import Claim, Claimed, Outcome

# Calls that are asked again side by side, each of a flush. Beyond that, and after a call's
# ``ASK_AGAIN_SECONDS``, the claims' deadline decides.
LOST_MAX: Final = 20

Record = Callable[[CarrierConfig, Sequence[Claimed], Sequence[Outcome]], Awaitable[object]]

_log = structlog.get_logger(__name__)


class LostClaim(NamedTuple):
    """A call that may have claimed, or may still do so."""

    claim_id: UUID
    carrier_id: int
    deadline_seconds: int
    work: Sequence[tuple[str, int]]


class LostClaims:
    """Makes lost calls again until they are answered. An open async context; leaving it gives them up.

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, lost: LostClaim) -> None:
        """Find out what became of it, beside everything else; whoever made the call submits nothing of it."""
        self._start(self._find_out(lost), len(lost.work))

    def give_back(self, carrier_id: int, won: Sequence[Claimed]) -> None:
        """Give back what a call won, beside everything else; whoever made the call submits nothing of it."""
        if won:
            self._start(self._give_back(carrier_id, won), len(won))

    def _start(self, work: Coroutine[None, None, None], messages: int) -> None:
        if len(self._tasks) >= LOST_MAX:
            work.close()
            return
        task = asyncio.create_task(self._guarded(work, messages))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None], messages: int) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - their deadline recovers them, as if we had died
            _log.warning("claims lost with their answer", messages=messages, error=repr(error))

    async def _find_out(self, lost: LostClaim) -> None:
        claims = await store.claim_again(
            self._pool, lost.work, lost.carrier_id, lost.deadline_seconds, lost.claim_id
        )
        await self._give_back(lost.carrier_id, won_of(lost.work, claims))

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
