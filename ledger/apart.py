"""Work on many messages in one call, so that one that cannot be worked on stops nobody else's (RULES 8)."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from uuid import UUID

import structlog

from shared.runtime.halves import in_halves

_log = structlog.get_logger(__name__)


async def apart(
    work: Callable[[Sequence[UUID]], Awaitable[object]], message_ids: Sequence[UUID]
) -> Sequence[UUID]:
    """Do the work in one call, or in halves where a row makes it fail; return the rows that no call can do.

    Each is named in the log: it is an operator's to mend, and its neighbours did not wait for that. The
    caller puts them off, in a call of its own: left as they are, they would be first in its next look.

    Raises:
        Exception: what ``work`` raised, where it was no row's fault.
    """

    async def all_of(ids: Sequence[UUID]) -> Sequence[None]:
        await work(ids)
        return [None] * len(ids)

    unworkable = []
    for message_id, error in zip(message_ids, await in_halves(all_of, message_ids), strict=True):
        if error is not None:
            _log.error("message cannot be looked after", message_id=str(message_id), error=repr(error))
            unworkable.append(message_id)
    return unworkable


def parts(message_ids: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    """As many as one call takes, then the next."""
    for start in range(0, len(message_ids), size):
        yield message_ids[start : start + size]
