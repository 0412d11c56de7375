"""JetStream: carries work and facts; never the only place where either is (DESIGN 7, RULES 19)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import nats.errors
import nats.js.errors
import structlog
from nats.js.api import StreamInfo
from nats.js.client import JetStreamContext

from shared.runtime import consumers, metrics, stream_times
from shared.runtime.consumers import ACK_WAIT_SECONDS, IN_PROGRESS_SECONDS, Backlog, Consumer, Msg
from shared.runtime.listener import Listener
from shared.runtime.loops import Stop, cancel_all
from shared.runtime.nats_connection import NatsConnection
from shared.runtime.server_settings import NatsAccess
from shared.runtime.stream_times import ANSWER_ERRORS, JetStreamDown
from shared.runtime.streams import STREAMS, Stream, differs, stream_of

__all__ = [
    "ACK_WAIT_SECONDS",
    "IN_PROGRESS_SECONDS",
    "STREAMS",
    "Consumer",
    "JetStream",
    "JetStreamDown",
    "Msg",
    "PublishFailed",
    "open_jetstream",
]

# One answer of a healthy server takes a millisecond, of a cluster a few; then the try is repeated.
TRY_SECONDS: Final = 2.0
# A cluster was seen to take 5.9 s for a new leader; 15 s leave room for a second one.
PUBLISH_SECONDS: Final = 15.0
# When there has been no server for so long, a publish fails at once: the outbox knows what to do.
OUTAGE_SECONDS: Final = 2.0
# Between two tries of a publish.
RETRY_SECONDS: Final = 0.25
# Publishes in flight; each is up to 100 messages, so more than this is a server that does not answer.
PUBLISHES_MAX: Final = 2000
# While more than this waits for a server that takes nothing in, no publish is repeated: memory.
UNSENT_BYTES_MAX: Final = 2 * 2**20
# How soon a stream that was deleted behind our back is noticed and made again.
CHECK_SECONDS: Final = 5.0
# JetStream's codes for a stream that is full: nothing that a repeat within seconds could mend.
_FULL: Final = frozenset({10077, 10047, 10023, 10054})

_log = structlog.get_logger(__name__)


class PublishFailed(Exception):  # noqa: N818 - named for what happened
    """JetStream did not take the message in time. It may still arrive; a claim's fence copes with that."""


class Filling(NamedTuple):
    """How full a stream is."""

    bytes: int
    bytes_max: int


class JetStream:
    """Publishes, consumes, and keeps the streams there. Everything here outlives an outage."""

    def __init__(self, settings: NatsAccess, connection: NatsConnection) -> None:
        self._settings = settings
        self._connection = connection
        self._incarnations: dict[str, int] = {}
        self._fillings: dict[str, Filling] = {}
        self._ensuring = asyncio.Lock()
        self._ensured_at = 0.0
        self._last_error = ""
        self._in_flight = 0

    @property
    def connected(self) -> bool:
        """True while a server answers."""
        return self._connection.connected

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait for a connection, at most so long; return whether there is one."""
        return await self._connection.wait_connected(timeout_seconds)

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Store a message, once for each ``message_id`` within the stream's duplicate window.

        Many may be in flight at once. A try without an answer is repeated with the same id for up to
        ``PUBLISH_SECONDS``.

        Raises:
            PublishFailed: no answer in time, no server for ``OUTAGE_SECONDS``, or the stream is full.
        """
        stream = stream_of(subject)
        if self._in_flight >= PUBLISHES_MAX:
            metrics.PUBLISHES.labels(stream, "refused").inc()
            raise PublishFailed(f"{PUBLISHES_MAX} publishes are in flight already")
        all_headers = {**(headers or {}), "Nats-Msg-Id": message_id}
        started_at = time.monotonic()
        self._in_flight += 1
        result = "failed"
        try:
            await self._publish_until(started_at + PUBLISH_SECONDS, subject, payload, all_headers)
            result = "stored"
        finally:
            self._in_flight -= 1
            metrics.PUBLISHES.labels(stream, result).inc()
            metrics.PUBLISH_SECONDS.labels(stream).observe(time.monotonic() - started_at)

    async def _publish_until(
        self, deadline: float, subject: str, payload: bytes, headers: dict[str, str]
    ) -> None:
        while True:
            wait_seconds = min(OUTAGE_SECONDS - self._connection.down_seconds, deadline - time.monotonic())
            if not await self._connection.wait_connected(max(wait_seconds, 0.0)):
                raise PublishFailed("NATS is not connected")
            left = deadline - time.monotonic()
            try:
                await self._api().publish(subject, payload, timeout=min(TRY_SECONDS, left), headers=headers)
                return
            except nats.js.errors.NoStreamResponseError as error:
                failure: Exception = error
                await self._ensure_or_log(deadline - time.monotonic())
            except nats.js.errors.APIError as error:
                if error.err_code in _FULL:
                    raise PublishFailed(f"{subject}: {error.description}") from error
                failure = error
            except ANSWER_ERRORS as error:
                failure = error
            await self._pause(deadline)
            if time.monotonic() >= deadline:
                raise PublishFailed(f"{subject}: no answer ({type(failure).__name__})") from failure

    async def _pause(self, deadline: float) -> None:
        """Wait before a repeat: for as long as the first still waits in our own buffer it is of no use."""
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(RETRY_SECONDS, left))
            if self._connection.client.pending_data_size <= UNSENT_BYTES_MAX or not self.connected:
                return

    async def ensure_streams(self) -> None:
        """Make the streams that are missing, and change those that are not as we want them.

        Raises:
            nats.errors.Error: the server refused, or did not answer.
        """
        asked_at = time.monotonic()
        async with self._ensuring:
            if self._ensured_at >= asked_at:
                return  # somebody else looked while we waited
            started_at = time.monotonic()
            found: dict[str | None, StreamInfo] = {}
            with suppress(*ANSWER_ERRORS):  # a stream without a leader, a foreign one too, holds the list up
                found = {info.config.name: info for info in await self._api().streams_info()}
            for stream in STREAMS:
                await self._ensure(stream, found.get(stream.name))
            self._ensured_at = started_at

    async def _ensure(self, stream: Stream, info: StreamInfo | None) -> None:
        wanted = stream.config(
            replicas=self._settings.nats_replicas,
            store_bytes=self._settings.nats_store_bytes,
            compression=self._settings.nats_compression,
        )
        api = self._api()
        try:  # the list has 256 at most, and an account may have more
            info = info or await api.stream_info(stream.name)
        except nats.js.errors.NotFoundError:
            info = await api.add_stream(wanted)
            _log.info("stream made", stream=stream.name)
        if differs(info.config, wanted):
            info = await api.update_stream(wanted)
            _log.info("stream changed", stream=stream.name)
        self._fillings[stream.name] = Filling(info.state.bytes, info.config.max_bytes or 0)
        if info.created is not None:
            self._incarnations[stream.name] = int(info.created.timestamp() * 1000)

    def stream_incarnation(self, name: str) -> int:
        """Return when the stream was made, in ms since the epoch; 0 while that is not known.

        A stream that was wiped and made again has another one: whatever was published into the earlier
        one is gone. At most ``CHECK_SECONDS`` old while connected.
        """
        return self._incarnations.get(name, 0)

    def filling(self, name: str) -> Filling | None:
        """Return how full a stream was when it was last looked at, at most ``CHECK_SECONDS`` ago."""
        return self._fillings.get(name)

    async def backlogs(self, stream: str) -> list[Backlog]:
        """Return what waits for each consumer of a stream.

        Raises:
            nats.errors.Error: no answer.
        """
        infos = await self._api().consumers_info(stream)
        return [
            Backlog(
                info.name, info.num_pending or 0, info.num_ack_pending or 0, info.config.max_ack_pending or 0
            )
            for info in infos
        ]

    async def oldest_ms(self, subject: str) -> int | None:
        """Return when the oldest message that is still in the stream came, in ms since the epoch.

        By the clock of the NATS server. A message that is being worked on counts; None if there is none.

        Raises:
            JetStreamDown: no answer. That is not the same as none.
        """
        return await stream_times.oldest_ms(self._connection, self._api(), stream_of(subject), subject)

    async def now_ms(self, stream: str) -> int:
        """Return the time by the clock of the server that leads the stream, in ms since the epoch.

        Raises:
            JetStreamDown: no answer.
        """
        return await stream_times.now_ms(self._connection, stream, TRY_SECONDS)

    def consumer(self, stream: str, durable: str, subject: str) -> Consumer:
        """Return a consumer to fetch from at one's own pace."""
        return Consumer(
            self._connection, self.ensure_streams, stream=stream, durable=durable, subject=subject
        )

    def listener(self, subject: str, hear: Callable[[bytes], None]) -> Listener:
        """Return what hears a subject beside its consumer, while it is told to."""
        return Listener(self._connection, subject, hear)

    async def consume(
        self, stream: str, durable: str, subject: str, batch_max: int, *, stop: Stop | None = None
    ) -> AsyncIterator[list[Msg]]:
        """Yield lists of 1 to ``batch_max`` messages, for ever or until the stop.

        Nothing is asked for before the next list is wanted, so a busy worker hoards nothing.
        """
        consumer = self.consumer(stream, durable, subject)
        while stop is None or not stop.requested:
            messages = await consumer.fetch(batch_max, consumers.PULL_SECONDS, stop=stop)
            if messages:
                yield messages

    async def keep_streams(self) -> None:
        """Look after the streams on every connection, and every ``CHECK_SECONDS``, until cancelled."""
        while not self._connection.is_closing:
            await self._connection.wait_connected()
            is_done = await self._ensure_or_log()
            if not self._connection.is_closing:
                await self._connection.wait_change(CHECK_SECONDS if is_done else RETRY_SECONDS)

    async def _ensure_or_log(self, limit_seconds: float | None = None) -> bool:
        error_text = ""
        try:
            async with asyncio.timeout(limit_seconds):
                await self.ensure_streams()
        except Exception as error:  # noqa: BLE001 - a strange answer, too; who keeps the streams outlives it
            error_text = str(error) or type(error).__name__
            is_strange = not isinstance(error, nats.errors.Error | OSError)
            metrics.LOOP_FAILURES.labels("streams").inc(is_strange)
            if error_text != self._last_error:
                _log.warning("streams could not be made", error=error_text, exc_info=is_strange)
        self._last_error = error_text
        return not error_text

    def _api(self) -> JetStreamContext:
        return self._connection.client.jetstream(timeout=TRY_SECONDS)


@asynccontextmanager
async def open_jetstream(settings: NatsAccess, *, name: str = "tollwire") -> AsyncIterator[JetStream]:
    """Open JetStream without waiting for it: the connection is made in the background, for ever."""
    connection = NatsConnection(settings, name=name)
    jetstream = JetStream(settings, connection)
    tasks = [
        asyncio.create_task(connection.run(), name="nats"),
        asyncio.create_task(jetstream.keep_streams(), name="streams"),
    ]
    try:
        yield jetstream
    finally:
        connection.is_closing = True
        await cancel_all(tasks)
        await connection.close()
