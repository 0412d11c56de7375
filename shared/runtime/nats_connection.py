"""The connection to NATS: made in the background, for ever; whoever opens it never waits for it."""

import asyncio
import time
from functools import partial
from typing import Final

import nats.errors
import structlog

from shared.runtime import metrics
from shared.runtime.nats_login import NatsClient, nats_hint
from shared.runtime.server_settings import NatsAccess
from shared.runtime.ticks import until_tick

# One handshake with a server that is alive takes milliseconds; then the next server is tried.
CONNECT_SECONDS: Final = 2.0
# Between two tries of the same server: quick enough for a restart, slow enough for an outage.
RECONNECT_SECONDS: Final = 0.5
# A dead peer is found when a third ping is due and two have no answer: after 15 s.
PING_SECONDS: Final = 5
UNANSWERED_PINGS_MAX: Final = 2
# How often it is looked whether the client still works on its connection: that it does not is rare.
LOOK_SECONDS: Final = 2.0
# nats-py's close() may wait for a socket that is gone.
CLOSE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class NatsConnection:
    """Keeps a client connected; a client that closed itself is replaced by a new one."""

    def __init__(self, settings: NatsAccess, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self.client = NatsClient(settings)
        self.is_closing = False
        self.times_made = 0
        """How often there was a connection: what was asked on an earlier one is not answered any more."""
        self._is_up = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._changed = asyncio.Event()
        self._down_since = time.monotonic()
        self._last_error = ""

    @property
    def connected(self) -> bool:
        """True while a server answers."""
        return self._is_up.is_set()

    @property
    def down_seconds(self) -> float:
        """How long there has been no connection; 0 while there is one."""
        return 0.0 if self.connected else time.monotonic() - self._down_since

    async def wait_connected(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a connection, at most so long; return whether there is one."""
        return await _wait(self._is_up, timeout_seconds)

    async def wait_change(self, timeout_seconds: float) -> None:
        """Return when the connection was made anew, or after so long."""
        await _wait(self._changed, timeout_seconds)
        self._changed.clear()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while not self.is_closing:
            client = self.client = NatsClient(self._settings)
            self._is_closed.clear()
            try:
                await self._connect(client)
                await self._on_up(client)
                await self._outlive(client)
                _log.warning("NATS client closed, opening another")
            except Exception as error:  # noqa: BLE001 - a strange answer makes nats-py raise anything
                await self._on_failure(error)
            await self._on_down(client)
            client.hang_up()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect(self, client: NatsClient) -> None:
        await client.connect(
            servers=[server.strip() for server in self._settings.nats_url.split(",")],
            **client.login(),
            name=self._name,
            connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type] # seconds; a float works
            reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type] # seconds; a float works
            max_reconnect_attempts=-1,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=UNANSWERED_PINGS_MAX,
            error_cb=self._on_error,
            disconnected_cb=partial(self._on_down, client),
            reconnected_cb=partial(self._on_up, client),
            closed_cb=partial(self._on_closed, client),
        )

    async def _outlive(self, client: NatsClient) -> None:
        """Return when the client has closed itself or given up."""
        while not (self._is_closed.is_set() or client.is_lost):
            if not client.is_connected:
                await self._on_down(client)  # whatever became of the callback
            await _wait(self._is_closed, until_tick(LOOK_SECONDS))
        if failure := client.failure:
            raise failure

    async def close(self) -> None:
        """Close at once. Never ``drain()``: it can take longer than a process may take to stop."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()
        except (TimeoutError, OSError, AttributeError, nats.errors.Error) as error:
            # AttributeError: nats-py writes what is left to a TLS transport of asyncio that is closed.
            _log.info("NATS connection closed badly", error=type(error).__name__)
        self.client.hang_up()
        self._is_up.clear()
        metrics.CONNECTED.labels("nats").set(0)

    async def _on_up(self, client: NatsClient) -> None:
        if client is not self.client:
            return  # a client that was replaced has nothing to say
        url = client.connected_url
        _log.info("NATS connected", server=url and url.netloc.rpartition("@")[2])
        self._last_error = ""
        self.times_made += 1
        self._is_up.set()
        self._changed.set()
        metrics.CONNECTED.labels("nats").set(1)

    async def _on_down(self, client: NatsClient) -> None:
        if client is not self.client:
            return
        if self._is_up.is_set():
            _log.warning("NATS disconnected")
            self._down_since = time.monotonic()
            self._is_up.clear()
        metrics.CONNECTED.labels("nats").set(0)

    async def _on_closed(self, client: NatsClient) -> None:
        await self._on_down(client)
        if client is self.client:
            self._is_closed.set()

    async def _on_failure(self, error: Exception) -> None:
        # By its trace alone, which leaves out what an error quotes: the URL with its password, for one.
        metrics.LOOP_FAILURES.labels("nats").inc()
        kind = type(error).__name__
        if kind != self._last_error:
            self._last_error = kind
            _log.error("NATS client failed", exc_info=error)

    async def _on_error(self, error: Exception) -> None:
        # The same error comes twice a second while a server is away: say it once.
        text = str(error) or type(error).__name__
        if text != self._last_error:
            self._last_error = text
            hint = nats_hint(error)
            _log.warning("NATS error", error=text, **({"hint": hint} if hint else {}))


async def _wait(event: asyncio.Event, timeout_seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
