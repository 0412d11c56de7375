"""Operators: a dead letter sent again, as a new message with a hold of its own (RULES 21)."""

from typing import Annotated, Final
from uuid import UUID

import structlog
from asyncpg import Record
from msgspec import Meta, Struct

from api.callback import actor_of
from api.decisions import REPLAYED
from api.faults import connected
from api.key_store import load_client
from api.orders import Sending
from api.problems import Refusal
from api.resources import Resources
from api.routing import Call, Reply
from api.schemas import MessageAccepted, MessageRequest
from shared.domain.problems import ProblemCode
from shared.runtime.keyring import SealBroken
from shared.runtime.postgres import Connection
from shared.storage.audit import note

# Whoever replays a message more often than this has a carrier to mend, not a message to send.
NUMBER_MAX: Final = 100
GONE: Final = "The message's text is gone: its retention has ended, or it was erased."
SHUT: Final = (
    "The message's text is kept, but does not open: {error}. Nothing was accepted. "
    "Mend that, then replay the message again."
)
# A person mends a keyring, and longer than a command has patience: it says so at once.
SHUT_RETRY_SECONDS: Final = 60

_log = structlog.get_logger(__name__)


class DeadLetterPath(Struct, frozen=True):
    """Which dead letter."""

    id: Annotated[UUID, Meta(description="The id of the message that was given up.")]


class ReplayRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which replay of it this is: the same number again gets the first one's answer."""

    number: Annotated[int, Meta(ge=1, le=NUMBER_MAX, description="1 is the first replay.")] = 1


LOAD_DEAD_LETTER = """
    select d.client_id, m.msisdn, m.sender, m.lane::text as lane, m.client_ref, m.callback_url, m.is_test,
           m.delivery::text as delivery, t.sealed,
           r.message_id as known
    from tollwire.dead_letters d
    join tollwire.messages m on m.id = d.message_id
    left join tollwire.message_texts t on t.message_id = d.message_id
    left join tollwire.replays r on r.replay_of = d.message_id and r.number = $2
    where d.message_id = $1
"""


async def load_dead_letter(conn: Connection, message_id: UUID, number: int) -> Record | None:
    """Return a dead letter with what is needed to send it again; None when there is none."""
    return await conn.fetchrow(LOAD_DEAD_LETTER, message_id, number)


async def replay_dead_letter(
    resources: Resources, call: Call, *, path: DeadLetterPath, body: ReplayRequest
) -> Reply[MessageAccepted]:
    """Replay a dead letter.

    It becomes a new message of the same client, with its own price, hold and validity. A second click with
    the same `number` gets the first one's answer. What was delivered since, itself or as another
    replay of the same, is not sent again: 409 `already_delivered`.
    """
    async with connected(resources.pool) as connection:
        letter = await load_dead_letter(connection, path.id, body.number)
    if letter is None:
        raise Refusal(ProblemCode.NOT_FOUND, what=f"dead letter {path.id}")
    if letter["known"] is not None:
        answer = await resources.accept.first_answer(letter["known"])
        return Reply(answer, headers=REPLAYED, is_replay=True)
    client = await load_client(resources.pool, letter["client_id"])
    if client.is_suspended:
        raise Refusal(ProblemCode.CLIENT_SUSPENDED)
    request = MessageRequest(
        to=letter["msisdn"],
        text=_text(resources, path.id, letter["sealed"]),
        sender=letter["sender"],
        lane=letter["lane"],
        client_ref=letter["client_ref"],
        callback_url=letter["callback_url"],
        delivery=letter["delivery"],
    )
    # First of all, so that no replay is without its line, whatever dies: the letter names the new message by
    # this number. What is refused then was asked for all the same.
    async with connected(resources.pool) as connection:
        by, target, after = actor_of(call), f"message/{path.id}", {"number": body.number}
        await note(connection, by, "dead_letter.replay", target, before=None, after=after, reason=None)
    decision = await resources.accept.replay(
        Sending(client, letter["is_test"], None), request, path.id, body.number
    )
    return Reply(
        decision.answer, headers=REPLAYED if decision.is_replay else {}, is_replay=decision.is_replay
    )


def _text(resources: Resources, message_id: UUID, sealed: bytes | None) -> str:
    if sealed is None:
        raise Refusal(ProblemCode.NOT_FOUND, detail=GONE)
    try:
        return resources.keyring.unseal(sealed, message_id.bytes).decode()
    except SealBroken as error:
        _log.error("text cannot be opened", message_id=str(message_id), error=str(error))
        raise Refusal(
            ProblemCode.UNAVAILABLE,
            detail=SHUT.format(error=error),
            retry_after_seconds=SHUT_RETRY_SECONDS,
        ) from None
