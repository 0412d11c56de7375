"""What stands under an idempotency key, for a request that could not be accepted now (RULES 10).

A repeat gets its first answer whatever has become of the configuration since then: were it told "no rate",
its client would send the message again under another key, and it would go out twice. Only what would be
refused pays for the question.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

import structlog

from api import store
from api.counted import HOLDS
from api.orders import Sending, fingerprint_of
from api.problems import Refusal
from api.schemas import MessageRequest
from api.store import AcceptAnswer, KeyAsked, KeyKnown
from shared.domain.fingerprint import NotCanonical
from shared.domain.problems import ProblemCode
from shared.domain.segments import characters_max
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool, is_retryable

# What operators and numbering plans can make of a request that was accepted before; the rest never was.
CHANGING: Final = frozenset(
    {
        ProblemCode.NO_RATE,
        ProblemCode.NO_ROUTE,
        ProblemCode.INVALID_NUMBER,
        ProblemCode.CALLBACK_NOT_ALLOWED,
        # Of what the shape leaves open: a URL that the operator's rules for callbacks have come to forbid.
        ProblemCode.VALIDATION_FAILED,
    }
)
# As the accept's: one look carries a crowd, and who finds no place is told to come back.
ASKED_MAX: Final = 500
QUEUE_MAX: Final = 5_000

_log = structlog.get_logger(__name__)


class Turned(NamedTuple):
    """A request that would be refused now: the ``place``-th under its key, and its refusal."""

    place: int
    request: MessageRequest
    refusal: Refusal


class FirstAnswers(WithParts):
    """Finds the first answers of requests that would be refused now. An open async context."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batcher: Batcher[KeyAsked, KeyKnown | None] = Batcher(
            self._flush,
            name="known_keys",
            batch_max=ASKED_MAX,
            queue_max=QUEUE_MAX,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batcher."""
        return [self._batcher]

    async def of(
        self, sending: Sending, route: str, turned: Sequence[Turned]
    ) -> list[AcceptAnswer | Refusal]:
        """Return for each request what stands under its key, else its own refusal."""
        answers: list[AcceptAnswer | Refusal] = [one.refusal for one in turned]
        if sending.idempotency_key is None:
            return answers
        asked = [nth for nth, one in enumerate(turned) if one.refusal.code in CHANGING]
        keys = [KeyAsked(sending.client.id, sending.idempotency_key, turned[nth].place) for nth in asked]
        for nth, known in zip(asked, await self._look_up(keys), strict=True):
            if known is not None:
                answers[nth] = _answer(sending, route, turned[nth], known)
        return answers

    async def _look_up(self, keys: Sequence[KeyAsked]) -> Sequence[KeyKnown | Exception | None]:
        if not keys:
            return []
        try:
            return await self._batcher.submit_each(keys, deadline_seconds=store.ACCEPT_DEADLINE_SECONDS)
        except Busy as busy:
            return [busy] * len(keys)

    async def _flush(self, keys: Sequence[KeyAsked]) -> Sequence[KeyKnown | None]:
        return await store.known_keys(self._pool, keys)


def _answer(
    sending: Sending, route: str, turned: Turned, known: KeyKnown | Exception
) -> AcceptAnswer | Refusal:
    if isinstance(known, Exception):
        # Nothing was asked to be done now; it only is not known whether it was done before.
        _log.warning("what stands under a key was not found out", error=repr(known))
        return Refusal(ProblemCode.OUTCOME_UNKNOWN)
    try:
        is_same = _is_same(sending, route, turned.request, known)
    except (NotCanonical, OverflowError):
        return turned.refusal  # what has no fingerprint was never accepted
    outcome = "refused_before" if known.problem else "replayed"
    if not is_same:
        outcome = "mismatch"
    HOLDS.labels("refused" if outcome == "mismatch" else "replayed").inc()
    return AcceptAnswer(
        outcome, known.message_id, known.problem, known.args, None, None, known.created_at, dispatch_now=False
    )


def _is_same(sending: Sending, route: str, request: MessageRequest, known: KeyKnown) -> bool:
    # A longer text never was accepted. A thousand items of a batch may have it, and it is hashed for each.
    if len(request.text) > characters_max():
        return False
    return known.fingerprint == fingerprint_of(route, request, is_test=sending.is_test)
