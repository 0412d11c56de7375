"""dlr's deliveries for tests, over the real poster, and clients with an endpoint and its secret."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from dlr.deliver import HELD_MAX, Deliver
from dlr.endpoint_book import load_endpoint_book
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.store import CallbackWork
from dlr.turns import Limits
from shared.runtime.clock import Clock, open_clock
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.storage.callback_endpoints import callback_secret_aad
from tests.support.endpoints import Reply, Request, answer
from tests.support.flow import Flow

KEYRING = Keyring("k1", {"k1": bytes(32)})
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
POLL_SECONDS: Final = 0.02
UNTRIED = "select count(*) from tollwire.callbacks where id = any ($1) and status is null"
OUTCOMES = "select outcome from tollwire.callbacks where id = any ($1) order by array_position($1, id)"


@asynccontextmanager
async def open_deliver(
    flow: Flow,
    *,
    polls: bool = True,
    connections_max: int = 100,
    limits: Limits | None = None,
    held_max: int = HELD_MAX,
) -> AsyncIterator[Deliver]:
    """Deliveries that know the endpoints and their secrets; without polls, those of when it was opened."""
    settings = CallbackSettings(callback_allow_private=True, callback_connections_max=connections_max)
    async with (
        open_clock(flow.pool) as clock,
        CallbackPoster(settings) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health, limits) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock, held_max) as deliver,
    ):
        await inform(flow, deliver)
        stop = Stop()
        polling = asyncio.create_task(_poll(flow, deliver, stop)) if polls else None
        try:
            yield deliver
        finally:
            stop.request("the test is over")
            if polling is not None:
                await polling


async def inform(flow: Flow, deliver: Deliver) -> None:
    """Tell it what the endpoints are now."""
    asked_at = Clock().monotonic()
    async with flow.pool.acquire() as connection:
        deliver.apply(await load_endpoint_book(connection, KEYRING), asked_at)


async def _poll(flow: Flow, deliver: Deliver, stop: Stop) -> None:
    while not await stop.wait(POLL_SECONDS):
        await inform(flow, deliver)


async def client_at(flow: Flow, url: str) -> int:
    """A client whose endpoint is at this URL, with a secret to sign with."""
    client = await flow.client()
    await add_secret(flow, await flow.endpoint(client, url=url), SECRET)
    return client


async def add_secret(flow: Flow, endpoint_id: int, secret: str) -> None:
    """Give an endpoint one more secret."""
    sealed = KEYRING.seal(secret.encode(), callback_secret_aad(endpoint_id))
    await flow.insert("tollwire.callback_secrets", endpoint_id=endpoint_id, sealed=sealed)


async def ended(flow: Flow, client: int, url: str | None, number: int = 1) -> list[CallbackWork]:
    """Messages that were delivered, with this callback_url: what is to be told of them."""
    carrier = await flow.carrier()
    references = await flow.submitted(await flow.accepted(client, number, callback_url=url), carrier)
    return [(await flow.receipt(carrier, reference, "delivered")).told for reference in references]


async def told(flow: Flow, deliver: Deliver, works: list[CallbackWork]) -> list[str | None]:
    """What became of them once each was tried."""
    deliver.deliver_soon(works)
    return await tried(flow, [work.callback_id for work in works])


async def tried(flow: Flow, callback_ids: list[UUID]) -> list[str | None]:
    """What became of them, once each was posted."""
    async with asyncio.timeout(10):
        while await flow.pool.fetchval(UNTRIED, callback_ids):  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.02)  # a database gives no event
    return [row[0] for row in await flow.pool.fetch(OUTCOMES, callback_ids)]


async def by_its_path(request: Request, reply: Reply) -> None:
    """Answer with the status that the path names."""
    await reply.send(answer(int(request.line.split(" ")[1].strip("/"))))
