"""Claims in one call, or in halves around a message that cannot be claimed (RULES 8, 16)."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from shared.runtime.clock import Clock
from shared.runtime.halves import in_halves
from shared.runtime.postgres import OutcomeUnknown, Pool
from shared.runtime.server_calls import kind_of
from worker import store
from worker.lost_claims import LostClaim, LostClaims, won_of
from worker.store import UNCLAIMABLE, Claim, Claimed

_log = structlog.get_logger(__name__)


async def claim_apart(
    pool: Pool,
    clock: Clock,
    lost_claims: LostClaims,
    work: Sequence[tuple[str, int]],
    carrier_id: int,
    deadline_seconds: int,
) -> list[Claim]:
    """Claim (message id, dispatch number) pairs, each call under a new id; an answer for each position.

    Raises:
        OutcomeUnknown: a call was not answered. What it claimed, and what those before it had, is given back.
    """
    won: list[Claimed] = []

    async def claim(part: Sequence[tuple[str, int]]) -> list[Claim]:
        claim_id = clock.new_uuid7()
        try:
            claims = await store.claim_batch(pool, part, carrier_id, deadline_seconds, claim_id)
        except OutcomeUnknown as error:
            if error.was_sent:
                lost_claims.add(LostClaim(claim_id, carrier_id, deadline_seconds, part))
            raise
        won.extend(won_of(part, claims))
        return claims

    try:
        answers = await in_halves(claim, work)
    except Exception:
        # The caller hears of no half, so it submits nothing of those that were answered either.
        lost_claims.give_back(carrier_id, won)
        raise
    for (message_id, _), answer in zip(work, answers, strict=True):
        if isinstance(answer, Exception):
            _log.error("message cannot be claimed", message_id=str(UUID(message_id)), error=kind_of(answer))
    return [UNCLAIMABLE if isinstance(answer, Exception) else answer for answer in answers]
