"""Follows sent messages to their final states, with few requests: pages of the list while there are many,
each message by itself when few are left.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from api.cursors import cursor_of
from api.read_schemas import MessageDetail, MessagePage
from cli.api_client import Api
from cli.journal import Snapshot, entries_back_to, snapshot
from cli.proof import FINAL_STATES, Books, books
from cli.send_progress import Accepted
from shared.domain.ids import uuid7_time_ms

PAGE: Final = 1_000
# So few are asked for one by one: the rest of a long list need not be read for them.
FEW: Final = 40
# The first look comes soon, for the person who waits; later ones further apart, down to the slowest.
PAUSE_FIRST_SECONDS: Final = 0.5
PAUSE_MAX_SECONDS: Final = 10.0
PAUSE_GROWTH: Final = 1.5
# A replica that answers for balance and journal may be behind: 5 s at most, unless the API is told otherwise.
CATCH_UP_SECONDS: Final = 6.0
CATCH_UP_PAUSE_SECONDS: Final = 0.5
# The API looks by the time at which a message was accepted, and its id may be so much ahead of that.
EARLIER_MS: Final = -30_000

OnLook = Callable[[dict[str, str]], None]


async def follow(
    api: Api, message_ids: Collection[str], *, timeout_seconds: float, on_look: OnLook
) -> dict[str, str]:
    """Return the state of each message when all are final, or when the time is up.

    Args:
        api: as the client that sent them.
        message_ids: UUIDv7 as text; the time in them says where to look.
        timeout_seconds: 0 waits for ever.
        on_look: hears the states after every look.
    """
    states = dict.fromkeys(message_ids, "QUEUED")
    give_up_at = time.monotonic() + timeout_seconds if timeout_seconds else None
    pause_seconds = PAUSE_FIRST_SECONDS
    while True:
        waiting = [id_ for id_, state in states.items() if state not in FINAL_STATES]
        seen = await _look(api, waiting)
        has_moved = any(states[id_] != state for id_, state in seen.items())
        states.update(seen)
        on_look(states)
        is_late = give_up_at is not None and time.monotonic() > give_up_at
        if is_late or all(state in FINAL_STATES for state in states.values()):
            return states
        pause_seconds = (
            PAUSE_FIRST_SECONDS if has_moved else min(PAUSE_MAX_SECONDS, pause_seconds * PAUSE_GROWTH)
        )
        await asyncio.sleep(pause_seconds)


async def prove(api: Api, accepted: Sequence[Accepted], states: Mapping[str, str], before: Snapshot) -> Books:
    """Return the books of messages that were followed to their end (see ``proof.books``).

    Where they look wrong they are read again for some seconds: a replica that is a little behind may answer.
    """
    until = time.monotonic() + CATCH_UP_SECONDS
    while True:
        after = await snapshot(api)
        entries = await entries_back_to(api, before.version, [message.id for message in accepted])
        proved = books(accepted, states, entries, before, after)
        if not proved.faults or time.monotonic() >= until:
            return proved
        await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)


async def _look(api: Api, waiting: Collection[str]) -> dict[str, str]:
    if len(waiting) > FEW:
        return await _look_in_pages(api, waiting)
    answers = await asyncio.gather(*(api.get(f"/v1/messages/{id_}") for id_ in waiting))
    details = (answer.read(MessageDetail) for answer in answers)
    return {str(detail.id): detail.status for detail in details}


async def _look_in_pages(api: Api, waiting: Collection[str]) -> dict[str, str]:
    """Read the list from the newest to the oldest message that is waited for."""
    wanted = set(waiting)
    oldest = min(wanted)
    since = _moment(oldest, EARLIER_MS)
    # By its place and not by a time: what was accepted after it may be much, and need not be read.
    cursor: str | None = cursor_of(UUID(int=UUID(max(wanted)).int + 1))
    seen: dict[str, str] = {}
    while True:
        query = {"since": since, "limit": PAGE, "cursor": cursor}
        page = (await api.get("/v1/messages", query)).read(MessagePage)
        seen |= {str(one.id): one.status for one in page.messages if str(one.id) in wanted}
        is_past = bool(page.messages) and str(page.messages[-1].id) <= oldest
        cursor = page.next_cursor
        if cursor is None or is_past or len(seen) == len(wanted):
            return seen


def _moment(message_id: str, later_ms: int) -> str:
    """The time that a message's id carries, as the API reads times."""
    milliseconds = uuid7_time_ms(UUID(message_id)) + later_ms
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
