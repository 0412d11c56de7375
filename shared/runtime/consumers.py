"""A durable pull consumer that outlives its server, its stream and itself being deleted.

Acks decide nothing: they can be lost when a server dies, so a message may come again after it was
acknowledged. Fenced claims in PostgreSQL decide who does what (RULES 15).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg as NatsMsg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from shared.runtime import metrics
from shared.runtime.loops import Stop
from shared.runtime.nats_connection import NatsConnection
from shared.runtime.ticks import until_tick

# A message that is neither answered nor marked as in progress for so long goes to another worker.
ACK_WAIT_SECONDS: Final = 30.0
# RULES 16: often enough that one lost message does not end the lease.
IN_PROGRESS_SECONDS: Final = ACK_WAIT_SECONDS / 3
# Messages that all workers together may hold: at this limit nobody is given any. A hundred workers that let
# two carriers' work wait beside each lane have 80,000 (worker/lines.py); NATS takes 0.3 kB for each.
ACK_PENDING_MAX: Final = 100_000
# What a pull may ask for; the server's own default limit is higher.
FETCH_MAX: Final = 1000
# The server's last word on a pull comes this much after its end at the latest, or was lost.
ANSWER_SECONDS: Final = 1.0
# A pull waits so long for a first message: each costs the server two messages, and keeps it awake.
PULL_SECONDS: Final = 5.0
# How often who waits for a message looks whether the process stops or the connection is another one.
LOOK_SECONDS: Final = 1.0
# Between two tries while the stream or the consumer cannot be made.
RETRY_SECONDS: Final = 0.5

_NO_MESSAGES: Final = ("404", "408")
_HEARTBEAT: Final = "100"

_log = structlog.get_logger(__name__)


class Backlog(NamedTuple):
    """What a consumer has before it: not handed out yet, and handed out but not answered."""

    consumer: str
    pending: int
    ack_pending: int
    ack_pending_max: int


class Msg:
    """One message of a consumer. Answer it once: ``ack``, ``nak`` or ``term``."""

    __slots__ = ("_consumer", "_raw")

    def __init__(self, raw: NatsMsg, consumer: "Consumer") -> None:
        self._raw = raw
        self._consumer = consumer

    @property
    def data(self) -> bytes:
        """The payload."""
        return self._raw.data

    @property
    def subject(self) -> str:
        """The subject that it was published to."""
        return self._raw.subject

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, the trace context among them."""
        return self._raw.headers or {}

    @property
    def deliveries(self) -> int:
        """How often it was handed out, this time included."""
        return self._raw.metadata.num_delivered or 1

    async def ack(self) -> None:
        """Say that all of it is done. May be lost; then it comes again."""
        await self._consumer.answer(self._raw, b"+ACK", "ack")

    async def in_progress(self) -> None:
        """Ask for another ``ACK_WAIT_SECONDS``."""
        await self._consumer.answer(self._raw, b"+WPI", "in_progress")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """Give it back, for delivery after the delay."""
        nanos = int(delay_seconds * 1_000_000_000)
        await self._consumer.answer(self._raw, b'-NAK {"delay": %d}' % nanos, "nak")

    async def term(self) -> None:
        """Never deliver it again: it is malformed."""
        await self._consumer.answer(self._raw, b"+TERM", "term")


class _Gone(Exception):  # noqa: N818 - named for what happened
    """The server says that the consumer, or JetStream itself, is not there."""


class Consumer:
    """Fetches messages of one subject in the name of one durable consumer."""

    def __init__(
        self,
        connection: NatsConnection,
        ensure_streams: Callable[[], Awaitable[None]],
        *,
        stream: str,
        durable: str,
        subject: str,
    ) -> None:
        self.durable = durable
        self._connection = connection
        self._ensure_streams = ensure_streams
        self._stream = stream
        self._subject = subject
        self._arrived: asyncio.Queue[NatsMsg] = asyncio.Queue()
        self._is_made = False
        self._is_silent = False  # one line tells it, not one a second
        self._is_idle = False  # the last pull brought nothing
        self._client: Client | None = None  # the one that our inbox is subscribed on
        self._subscription: Subscription | None = None
        self._inbox = ""

    async def fetch(self, batch_max: int, wait_seconds: float, *, stop: Stop | None = None) -> list[Msg]:
        """Return what there is, up to ``batch_max``; if nothing, the first that comes within the wait.

        Never raises where NATS goes away or the consumer is made anew. A stop ends it in ``LOOK_SECONDS``.
        """
        messages: list[Msg] = []
        give_up_at = time.monotonic() + wait_seconds
        if not await self._connection.wait_connected(min(wait_seconds, LOOK_SECONDS)):
            return []
        try:
            await self._prepare()
            await self._pull(messages, min(batch_max, FETCH_MAX), give_up_at, stop)
        except (_Gone, nats.errors.Error, OSError, ValueError) as error:  # a ValueError: no JSON
            kind = type(error).__name__
            _log.warning("consumer is made again", consumer=self.durable, error=kind, cause=str(error))
            self._is_made = False
            await asyncio.sleep(0.0 if messages else min(RETRY_SECONDS, wait_seconds))
        return messages

    async def answer(self, message: NatsMsg, word: bytes, name: str) -> None:
        """Send one of JetStream's answers; one that cannot be sent is counted and forgotten."""
        try:
            await self._connection.client.publish(message.reply, word)
        except (nats.errors.Error, OSError):
            name = "lost"
        metrics.ACKS.labels(self.durable, name).inc()

    async def _prepare(self) -> None:
        """Make the consumer, and subscribe to an inbox on the client of now."""
        client = self._connection.client
        if self._client is not client:
            self._is_made = False
            self._inbox = client.new_inbox()
            self._subscription = await client.subscribe(self._inbox, cb=self._on_message)
            self._client = client
        if not self._is_made:
            await self._make(client)
            self._is_made = True

    async def _make(self, client: Client) -> None:
        config = ConsumerConfig(
            durable_name=self.durable,
            name=self.durable,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=ACK_PENDING_MAX,
            filter_subject=self._subject,
        )
        try:
            await client.jetstream().add_consumer(self._stream, config)
        except nats.js.errors.NotFoundError:
            await self._ensure_streams()
            await client.jetstream().add_consumer(self._stream, config)

    async def _on_message(self, message: NatsMsg) -> None:
        self._arrived.put_nowait(message)

    async def _pull(self, messages: list[Msg], batch_max: int, give_up_at: float, stop: Stop | None) -> None:
        """Ask for what is there; wait for one if there is none; then ask for its neighbours.

        So nothing is handed out that nobody has asked for yet: unseen here it would be lost to the others
        for ``ACK_WAIT_SECONDS``. Where the last pull brought nothing the wait begins at once.
        """
        if not self._is_idle:
            await self._ask(messages, batch_max, 0.0, stop)
        left = give_up_at - time.monotonic()
        if not messages and left > 0:
            await self._ask(messages, 1, left, stop)
            if messages:
                await self._ask(messages, batch_max, 0.0, stop)
        self._is_idle = not messages

    async def _ask(self, messages: list[Msg], batch_max: int, wait_seconds: float, stop: Stop | None) -> None:
        """Add what comes, up to ``batch_max`` in all; what was added stays when this raises."""
        messages += self._take_arrived(batch_max - len(messages))
        if len(messages) >= batch_max:
            return
        wanted = batch_max - len(messages)
        order: dict[str, object] = {"batch": wanted, "no_wait": True}
        if wait_seconds > 0 and not messages:
            order = {"batch": wanted, "expires": int(wait_seconds * 1_000_000_000)}
        client = self._connection.client
        next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.durable}"
        times_made = self._connection.times_made
        await client.publish(next_subject, msgspec.json.encode(order), reply=self._inbox)
        ends_at = time.monotonic() + wait_seconds + ANSWER_SECONDS
        while not await self._collect(messages, batch_max, ends_at):
            if self._connection.times_made != times_made:
                return  # whom we asked is gone
            if stop is not None and stop.requested:
                await self._leave()
                return
            if time.monotonic() >= ends_at:
                self._note_silence()
                return
        self._is_silent = False

    async def _collect(self, messages: list[Msg], batch_max: int, ends_at: float) -> bool:
        """Add what arrives; True: it is full, or no more will come. False after ``LOOK_SECONDS`` at most."""
        look_until = min(time.monotonic() + until_tick(LOOK_SECONDS), ends_at)
        while len(messages) < batch_max:
            try:
                async with asyncio.timeout(look_until - time.monotonic()):
                    message = await self._arrived.get()
            except TimeoutError:
                return False
            if _is_end(message):
                return True
            if not _is_heartbeat(message):
                messages.append(self._receive(message))
        return True

    def _note_silence(self) -> None:
        if not self._is_silent:
            _log.warning("NATS does not answer pulls", consumer=self.durable)
        self._is_silent = True

    async def _leave(self) -> None:
        """Take back what was asked for, and give back what comes before the server has heard of it."""
        client, subscription = self._client, self._subscription
        self._client = self._subscription = None
        if client is None or subscription is None:
            return
        with suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(ANSWER_SECONDS):
                # In nats-py's buffer a PING overtakes the UNSUB: drain() alone would drop what comes between.
                await client._send_unsubscribe(subscription._id)  # noqa: SLF001 - there is no public one
                await client.flush()
                await subscription.drain()  # type: ignore[no-untyped-call] # unsubscribe() drops what came
        for message in self._take_arrived(FETCH_MAX):
            await message.nak()

    def _take_arrived(self, batch_max: int) -> list[Msg]:
        """Take what came after an earlier pull was given up; its status messages mean nothing now."""
        messages: list[Msg] = []
        while len(messages) < batch_max and not self._arrived.empty():
            message = self._arrived.get_nowait()
            if not _status(message):
                messages.append(self._receive(message))
        return messages

    def _receive(self, raw: NatsMsg) -> Msg:
        message = Msg(raw, self)
        if message.deliveries > 1:
            metrics.REDELIVERED.labels(self.durable).inc()
        return message


def _status(message: NatsMsg) -> str:
    return (message.headers or {}).get("Status", "")


def _is_heartbeat(message: NatsMsg) -> bool:
    return _status(message) == _HEARTBEAT


def _is_end(message: NatsMsg) -> bool:
    """True for the server's last word on a pull; raises ``_Gone`` when there will be none any more."""
    status = _status(message)
    if not status or status == _HEARTBEAT:
        return False
    if status in _NO_MESSAGES:
        return True
    raise _Gone(f"{status} {(message.headers or {}).get('Description', '')}".strip())
