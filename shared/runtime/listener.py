"""Hears what is published to a subject, beside the consumer that works it off."""

from collections.abc import Callable

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.runtime.nats_connection import NatsConnection

_log = structlog.get_logger(__name__)


class Listener:
    """Gives each payload to ``hear`` while it is told to listen. What came before is not heard."""

    def __init__(self, connection: NatsConnection, subject: str, hear: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._subject = subject
        self._hear = hear
        self._client: Client | None = None  # the one that we listen on
        self._subscription: Subscription | None = None

    async def keep(self, *, is_wanted: bool) -> None:
        """Listen, or do not, from now on; on the connection of now."""
        client = self._connection.client
        if self._client is not client:
            self._subscription = None  # gone with the client of then
        try:
            if self._subscription is not None and not is_wanted:
                subscription, self._subscription = self._subscription, None
                await subscription.unsubscribe()
            elif self._subscription is None and is_wanted and self._connection.connected:
                self._client = client
                self._subscription = await client.subscribe(self._subject, cb=self._on_message)
        except (nats.errors.Error, OSError) as error:
            _log.warning("subject cannot be listened to", subject=self._subject, error=type(error).__name__)

    async def _on_message(self, message: Msg) -> None:
        self._hear(message.data)
