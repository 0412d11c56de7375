"""Cancelling messages: those that are cancelled at the same time go in one commit (DESIGN "Group commit").

So a client that cancels a thousand messages takes a few commits and ``FLUSHES_IN_FLIGHT`` connections of
those that reads have.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from api import store
from api.store import CancelAnswer
from shared.runtime.batcher import Batcher
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.facts import FactPublisher, load_facts

# A flush has the rows of its accounts for some 20 ms then, and whoever sends for them waits so long.
FLUSH_MAX: Final = 100
# While one client's account is held by somebody else, the cancels of others have a way past it.
FLUSHES_IN_FLIGHT: Final = 2
# Two bursts of a client at once; a second of work.
QUEUE_MAX: Final = 2_000
# Longer than the database's own deadline, so that its word comes first.
ANSWER_DEADLINE_SECONDS: Final = 12.0

NOT_FOUND: Final = CancelAnswer("not_found", None)

_log = structlog.get_logger(__name__)


class Want(NamedTuple):
    """Which message of which client; ``is_test_only``: a test key asks, and finds test messages alone."""

    client_id: int
    message_id: UUID
    is_test_only: bool


class Cancels(WithParts):
    """The use case behind DELETE /v1/messages/{id}. An open async context."""

    def __init__(self, pool: Pool, facts: FactPublisher) -> None:
        self._pool = pool
        self._facts = facts
        self._batcher: Batcher[Want, CancelAnswer] = Batcher(
            self._flush,
            name="cancel",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batcher."""
        return [self._batcher]

    async def one(self, want: Want) -> CancelAnswer:
        """Cancel a message and return what became of it.

        Raises:
            Busy, DeadlinePassed, OutcomeUnknown: as ``Batcher.submit`` and ``store.cancel_batch``.
        """
        return await self._batcher.submit(want, deadline_seconds=ANSWER_DEADLINE_SECONDS)

    async def _flush(self, wants: Sequence[Want]) -> Sequence[CancelAnswer | Exception]:
        asked = await self._theirs(wants)
        answers: dict[Want, CancelAnswer] = {}
        if asked:
            found = await store.cancel_batch(self._pool, [(one.client_id, one.message_id) for one in asked])
            answers = dict(zip(asked, found, strict=True))
            await self._tell([want.message_id for want, one in answers.items() if one.outcome == "cancelled"])
        return [answers.get(want, NOT_FOUND) for want in wants]

    async def _theirs(self, wants: Sequence[Want]) -> list[Want]:
        """Each that may be cancelled once, without what a test key does not find."""
        of_tests = [want.message_id for want in wants if want.is_test_only]
        tests = await store.test_messages(self._pool, of_tests) if of_tests else ()
        return [want for want in dict.fromkeys(wants) if not want.is_test_only or want.message_id in tests]

    async def _tell(self, cancelled: Sequence[UUID]) -> None:
        """Tell reporting of cancellations; they stand also when that is not possible."""
        if not cancelled:
            return
        try:
            self._facts.add_all(await load_facts(self._pool, cancelled))
        except OutcomeUnknown as error:
            _log.warning("facts were lost", count=len(cancelled), error=str(error))
