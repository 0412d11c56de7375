"""What NATS still tells of messages after a moment, and streams of work that are emptied (RULES 34)."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

from shared.events.facts import Fact, MalformedEvent, decode

STREAM: Final = "SMS_EVENT"
SUBJECTS: Final = "sms.event.*"
# Their messages point at rows that may be gone, or be at another point of their way.
STREAMS_OF_WORK: Final = ("SMS_SEND", "SMS_RECEIPT")
# About 1.5 GB of memory. Restoring to a moment that long ago is beyond what facts can mend.
MESSAGES_MAX: Final = 5_000_000
ANSWER_SECONDS: Final = 10.0
# NATS finds the first fact by its own clock, which may have been behind the database's; what turns out to be
# too old is left out by the time in it, which is the database's.
CLOCK_BEHIND_MAX: Final = timedelta(minutes=10)
FINAL: Final = frozenset({"DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"})


class TooMany(Exception):  # noqa: N818 - named for what happened
    """More messages were told of than one recovery keeps in memory."""


class Said(NamedTuple):
    """The last that was told of a message.

    Attributes:
        error: why it ended, where it says so: what is charged for EXPIRED depends on it.
        carrier_id: whose message it was.
        was_sent: SENT was told too, at whatever time: a carrier took it.
    """

    status: str
    at: datetime
    client_id: int
    amount_micros: int
    currency: str
    error: str | None = None
    carrier_id: int | None = None
    was_sent: bool = False


Told: TypeAlias = tuple[UUID, Said | None]


def fold(told: dict[UUID, Said], facts: Iterable[Fact], since: datetime) -> None:
    """Take facts into account: a final state stands, then that it was sent, else the latest word does.

    Raises:
        TooMany: more than ``MESSAGES_MAX`` messages.
    """
    for fact in facts:
        if fact.at < since:
            continue
        id_ = UUID(fact.message_id)
        before, new = told.get(id_), _said(fact)
        was_sent = new.was_sent or (before is not None and before.was_sent)
        last = new if before is None or _outweighs(new, before) else before
        told[id_] = last._replace(was_sent=was_sent)
    if len(told) > MESSAGES_MAX:
        raise TooMany(f"facts tell of more than {MESSAGES_MAX} messages")


def _said(fact: Fact) -> Said:
    return Said(
        fact.status,
        fact.at,
        fact.client_id,
        fact.amount_micros,
        fact.currency,
        fact.error,
        fact.carrier_id,
        was_sent=fact.status == "SENT",
    )


def _outweighs(new: Said, before: Said) -> bool:
    """Whether a word says more than the one before it: nothing but an end follows SENT, and ends stand."""
    if before.status in FINAL or new.status in FINAL:
        return before.status not in FINAL
    return (new.was_sent, new.at) >= (before.status == "SENT", before.at)


async def read(client: Client, since: datetime) -> dict[UUID, Said]:
    """What facts tell of messages since a moment of the database's; nothing where the stream is not there.

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
    stored_since = since - CLOCK_BEHIND_MAX
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=stored_since)
    subscription = await jetstream.subscribe(SUBJECTS, stream=STREAM, ordered_consumer=True, config=config)
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


async def oldest(client: Client) -> datetime | None:
    """Return since when facts are kept: when the oldest that is still there came; None: there is none.

    Raises:
        nats.errors.Error: NATS did not answer.
    """
    jetstream = client.jetstream(timeout=ANSWER_SECONDS)
    try:
        return (await jetstream.get_msg(STREAM, seq=1, subject=SUBJECTS, next=True)).time
    except nats.js.errors.NotFoundError:
        return None


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
