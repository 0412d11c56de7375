"""dlr's deliveries for tests, over the real poster, and clients with an endpoint and its secret."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dlr.deliver import Deliver
from dlr.endpoint_book import load_endpoint_book
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from shared.runtime.clock import open_clock
from shared.runtime.keyring import Keyring
from shared.storage.callback_endpoints import callback_secret_aad
from tests.support.flow import Flow

KEYRING = Keyring("k1", {"k1": bytes(32)})
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


@asynccontextmanager
async def open_deliver(
    flow: Flow, *, is_informed: bool = True, connections_max: int = 100
) -> AsyncIterator[Deliver]:
    """Deliveries that know the endpoints and their secrets of now, or none yet."""
    settings = CallbackSettings(callback_allow_private=True, callback_connections_max=connections_max)
    async with (
        open_clock(flow.pool) as clock,
        CallbackPoster(settings) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock) as deliver,
    ):
        if is_informed:
            async with flow.pool.acquire() as connection:
                deliver.apply(await load_endpoint_book(connection, KEYRING))
        yield deliver


async def client_at(flow: Flow, url: str) -> int:
    """A client whose endpoint is at this URL, with a secret to sign with."""
    client = await flow.client()
    endpoint_id = await flow.endpoint(client, url=url)
    sealed = KEYRING.seal(SECRET.encode(), callback_secret_aad(endpoint_id))
    await flow.insert("tollwire.callback_secrets", endpoint_id=endpoint_id, sealed=sealed)
    return client
