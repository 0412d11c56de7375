"""Callbacks of one message, in the order in which a process begins them."""

from dlr import store
from dlr.deliver import Deliver
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from shared.runtime.clock import open_clock
from tests.support.flow import LEASE_SECONDS, open_flow
from tests.support.servers import Database

EVENTS = ["message.sent", "message.delivered"]
OUTCOMES = "select event_type, outcome from tollwire.callbacks order by sequence"


async def test_a_sent_that_was_read_before_the_end_is_not_told_after_it(database: Database) -> None:
    async with (
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        CallbackPoster(CallbackSettings(callback_allow_private=True)) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
    ):
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client, events=EVENTS)
        (reference,) = await flow.submitted(await flow.accepted(client), carrier)
        leased = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
        (read_early,) = await store.load_callbacks(flow.pool, leased)
        assert (read_early.event_type, read_early.skip) == ("message.sent", None)
        settled = await flow.receipt(carrier, reference, "delivered")
        async with Deliver(flow.pool, poster, endpoints, clock) as deliver:
            deliver.deliver_soon([settled.told, read_early])
        # The end waits for a secret, which the endpoint has not; nobody waits for the "sent" any more.
        assert [tuple(row) for row in await flow.pool.fetch(OUTCOMES)] == [
            ("message.sent", "superseded"),
            ("message.delivered", None),
        ]
