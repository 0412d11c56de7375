"""What NATS still tells of messages after a moment, and streams of work that are emptied (RULES 34)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

from shared.events.facts import Fact, MalformedEvent, decode

STREAM: Final = "SMS_EVENT"
# Their messages point at rows that may be gone, or be at another point of their way.
STREAMS_OF_WORK: Final = ("SMS_SEND", "SMS_RECEIPT")
# About 1.5 GB of memory. Restoring to a moment that long ago is beyond what facts can mend.
MESSAGES_MAX: Final = 5_000_000
ANSWER_SECONDS: Final = 10.0
FINAL: Final = frozenset({"DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"})

Told: TypeAlias = tuple[UUID, str | None]


class TooMany(Exception):  # noqa: N818 - named for what happened
    """More messages were told of than one recovery keeps in memory."""


class Said(NamedTuple):
    """The last that was told of a message."""

    status: str
    at: datetime
    client_id: int
    amount_micros: int
    currency: str


def fold(told: dict[UUID, Said], facts: Iterable[Fact], since: datetime) -> None:
    """Take facts into account: a final state stands, else the latest word does.

    Raises:
        TooMany: more than ``MESSAGES_MAX`` messages.
    """
    for fact in facts:
        if fact.at < since:
            continue
        id_ = UUID(fact.message_id)
        before = told.get(id_)
        if before is not None and (
            before.status in FINAL or (before.at > fact.at and fact.status not in FINAL)
        ):
            continue
        told[id_] = Said(fact.status, fact.at, fact.client_id, fact.amount_micros, fact.currency)
    if len(told) > MESSAGES_MAX:
        raise TooMany(f"facts tell of more than {MESSAGES_MAX} messages")


async def read(client: Client, since: datetime) -> dict[UUID, Said]:
    """What facts tell of messages since a moment; nothing where the stream is not there.

    Raises:
        TooMany: more than ``MESSAGES_MAX`` messages.
        nats.errors.Error: NATS did not answer.
    """
    told: dict[UUID, Said] = {}
    jetstream = client.jetstream(timeout=ANSWER_SECONDS)
    try:
        await jetstream.stream_info(STREAM)
    except nats.js.errors.NotFoundError:
        return told
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    subscription = await jetstream.subscribe(
        "sms.event.*", stream=STREAM, ordered_consumer=True, config=config
    )
    asked = await subscription.consumer_info()
    on_their_way = asked.delivered.consumer_seq if asked.delivered else 0
    for _ in range(on_their_way + (asked.num_pending or 0)):
        message = await subscription.next_msg(timeout=ANSWER_SECONDS)
        try:
            fold(told, decode(message.data).facts, since)
        except MalformedEvent:
            continue  # what no service of ours published
    await subscription.unsubscribe()
    return told


async def empty_streams(client: Client) -> list[str]:
    """Delete the streams of work; the services make them anew. Return which were there."""
    deleted = []
    jetstream = client.jetstream(timeout=ANSWER_SECONDS)
    for name in STREAMS_OF_WORK:
        try:
            await jetstream.delete_stream(name)
        except nats.js.errors.NotFoundError:
            continue
        deleted.append(name)
    return deleted
