"""What time it is where a stream is, and when its oldest message came, both by the clock of its server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from shared.runtime.nats_connection import NatsConnection

# What nats-py raises, besides its own, when what answered is not JetStream.
ANSWER_ERRORS: Final = (nats.errors.Error, OSError, ValueError, LookupError, TypeError, AttributeError)


class JetStreamDown(Exception):  # noqa: N818 - named for what happened
    """JetStream did not answer a question, so the answer is not known."""


class _StreamInfo(msgspec.Struct):
    """Of what a server says of a stream, what nats-py keeps to itself: its time."""

    ts: datetime


async def ask_now_ms(client: Client, stream: str, timeout_seconds: float) -> int:
    """Return the time by the clock of the server that leads the stream, in ms since the epoch.

    Raises:
        ANSWER_ERRORS: no answer, or none that makes sense, as where there is no such stream.
    """
    answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", timeout=timeout_seconds)
    return int(msgspec.json.decode(answer.data, type=_StreamInfo).ts.timestamp() * 1000)


async def now_ms(connection: NatsConnection, stream: str, timeout_seconds: float) -> int:
    """The same on a connection of a service.

    Raises:
        JetStreamDown: no answer.
    """
    with _told(connection, stream):
        return await ask_now_ms(connection.client, stream, timeout_seconds)


async def oldest_ms(
    connection: NatsConnection, api: JetStreamContext, stream: str, subject: str
) -> int | None:
    """Return when the oldest message of the subject came that is still there; None: there is none.

    Raises:
        JetStreamDown: no answer.
    """
    with _told(connection, subject):
        try:
            message = await api.get_msg(stream, seq=1, subject=subject, next=True)
        except nats.js.errors.NotFoundError:
            return None
        if message.time is None:
            raise ValueError("an answer without a time")
        return int(message.time.timestamp() * 1000)


@contextmanager
def _told(connection: NatsConnection, what: str) -> Iterator[None]:
    if not connection.connected:
        raise JetStreamDown("NATS is not connected")
    try:
        yield
    except ANSWER_ERRORS as error:
        raise JetStreamDown(f"{what}: {type(error).__name__}") from error
