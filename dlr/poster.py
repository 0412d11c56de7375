"""Posts callbacks to clients' endpoints: signed, guarded, bounded in time and size, over kept connections.

Whatever an endpoint does comes back as a value. The connection goes to an address that ``guard`` has
checked, by that very address; the name is used for the Host header and for the certificate only.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Annotated, NamedTuple, Self
from uuid import UUID

from msgspec import Meta

from dlr.connection import Answer, Connection
from dlr.dialer import Dialer, tls_context
from dlr.guard import Guard, PostError, Resolve
from dlr.pool import Key, Pool
from dlr.resolver import Resolver
from dlr.signing import signed_headers
from dlr.watch import Watch
from shared.domain.callback_urls import (
    CallbackUrl,
    CallbackUrlError,
    CallbackUrlSettings,
    parse_callback_url,
    policy_of,
)
from shared.domain.callbacks import Outcome, Posted, Rejected, RejectReason
from shared.runtime.settings import PREFIX, SettingsError
from shared.runtime.tls import TlsFiles, tls_faults

# Over look-up, connect, TLS, request and answer together. Standard Webhooks asks for 15 to 30 s.
DEADLINE_SECONDS = 15.0
# Parsed URLs kept: more than the clients that are active at once.
URLS_REMEMBERED_MAX = 20_000
USER_AGENT = "Tollwire-Callbacks/1"


class CallbackSettings(CallbackUrlSettings, frozen=True, kw_only=True):
    """What an operator sets about posting callbacks."""

    callback_deadline_seconds: Annotated[
        float,
        Meta(ge=1, le=30, description="Time for one attempt, from the look-up of the name to the answer."),
    ] = DEADLINE_SECONDS
    callback_connections_max: Annotated[
        int, Meta(ge=1, le=60_000, description="Connections to endpoints at most, idle ones included.")
    ] = 1_024
    callback_ca_file: Annotated[
        str,
        Meta(description="PEM file of certificate authorities to trust besides the system's. Empty: none."),
    ] = ""

    def __post_init__(self) -> None:
        if faults := tls_faults(TlsFiles(f"{PREFIX}CALLBACK", self.callback_ca_file)):
            raise SettingsError(faults)


class Delivery(NamedTuple):
    """One attempt to make: ``secrets`` are the endpoint's active keys, ``body`` the same on every attempt.

    ``host`` is that of a URL which the message named itself, empty for the endpoint's own.
    """

    callback_id: UUID
    endpoint_id: int
    url: str
    secrets: tuple[bytes, ...]
    body: bytes
    host: str = ""


@dataclass(frozen=True, slots=True)
class _Target:
    url: CallbackUrl
    key: Key
    head: bytes

    def request(self, delivery: Delivery, unix_seconds: int) -> bytes:
        body = delivery.body
        signed = signed_headers(delivery.callback_id, delivery.secrets, unix_seconds, body)
        return b"%s%scontent-length: %d\r\n\r\n%s" % (self.head, signed, len(body), body)


class CallbackPoster:
    """``async with CallbackPoster(settings) as poster: outcome = await poster.post(delivery)``."""

    def __init__(
        self,
        settings: CallbackSettings,
        *,
        resolve: Resolve | None = None,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._policy = policy_of(settings)
        self._resolver = Resolver()
        guard = Guard(self._policy, resolve or self._resolver)
        self._dialer = Dialer(guard, tls_context(settings.callback_ca_file))
        self._unix_seconds = unix_seconds
        self._target = lru_cache(URLS_REMEMBERED_MAX)(self._read_url)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(self._settings.callback_connections_max)
        self._watch: Watch[Connection] = Watch(Connection.end_late)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resolver.close()
        await self._pool.close()
        self._watch.close()

    @property
    def deadline_seconds(self) -> float:
        """How long one attempt may take."""
        return self._settings.callback_deadline_seconds

    async def post(self, delivery: Delivery) -> Outcome:
        """Make one attempt and say what came of it; never raises for the endpoint's fault.

        A kept connection that turns out to be closed before any byte of an answer came is replaced once by a
        new one: the endpoint may then see the callback twice, with one ``webhook-id``, as it may anyway.
        """
        started = self._loop.time()
        try:
            target = self._target(delivery.url)
            request = target.request(delivery, int(self._unix_seconds()))
            deadline = started + self._settings.callback_deadline_seconds
            connection, answer = await self._exchange(target, request, deadline)
        except CallbackUrlError as error:
            return Rejected(RejectReason.URL_REFUSED, str(error), 0)
        except PostError as error:
            return Rejected(error.reason, error.detail, self._since(started), error.resolved_ip)
        self._pool.put(target.key, connection)
        duration_ms = self._since(started)
        return Posted(answer.status, duration_ms, connection.resolved_ip, answer.head, answer.retry_after)

    def _since(self, started: float) -> int:
        return round((self._loop.time() - started) * 1000)

    def _read_url(self, text: str) -> _Target:
        url = parse_callback_url(text, self._policy)
        head = (
            f"POST {url.target} HTTP/1.1\r\nhost: {url.authority}\r\nuser-agent: {USER_AGENT}\r\n"
            "content-type: application/json\r\naccept-encoding: identity\r\n"
        )
        return _Target(url, (url.scheme, url.host, url.port), head.encode("ascii"))

    async def _exchange(self, target: _Target, request: bytes, deadline: float) -> tuple[Connection, Answer]:
        connection = self._pool.take(target.key)
        if connection is not None:
            try:
                return connection, await connection.exchange(request, deadline)
            except PostError as error:
                if error.reason is not RejectReason.CLOSED_EARLY or connection.has_received:
                    raise
        connection = await self._open(target.url, deadline)
        return connection, await connection.exchange(request, deadline)

    async def _open(self, url: CallbackUrl, deadline: float) -> Connection:
        if not self._pool.reserve():
            raise PostError(RejectReason.NO_CONNECTION_FREE, "every connection is in use")
        try:
            connection = await self._dialer.open(url, deadline, self._new_connection)
        except BaseException:
            self._pool.not_opened()
            raise
        self._pool.opened(connection)
        return connection

    def _new_connection(self, resolved_ip: str) -> Connection:
        return Connection(resolved_ip, self._watch, self._pool.closed)
