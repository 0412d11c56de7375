"""Facts that an outage of NATS has gathered are told in parts, each bundle once."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from embedded.nats import NatsServer
from shared.events.facts import BUNDLE_MAX, Fact
from shared.runtime.jetstream import JetStream, PublishFailed, open_jetstream
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import PART_MAX, FactPublisher, fact_of
from tests.support.stored_facts import stored_facts

STATUSES = ("SENDING", "DELIVERED")
LOST_NO = 7


class LosesAnAnswer:
    """A real JetStream; one bundle is stored, and its publisher does not hear so."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self.connected = True
        self.published = 0
        self.in_flight = 0
        self.in_flight_max = 0

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str]
    ) -> None:
        self.published += 1
        is_lost = self.published == LOST_NO
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await self._jetstream.publish(subject, payload, message_id=message_id, headers=headers)
        finally:
            self.in_flight -= 1
        if is_lost:
            raise PublishFailed("no answer in time")


def facts(number: int) -> list[Fact]:
    now = datetime.now(UTC)
    return [
        fact_of(UUID(int=n), 1, STATUSES[n % 2], now, "DE", "normal", 1, 75_000, "EUR", 1, 1, None)
        for n in range(number)
    ]


async def test_what_an_outage_has_gathered_is_told_in_parts_and_each_bundle_once(
    nats_server: NatsServer,
) -> None:
    settings = NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)
    gathered = facts(2 * PART_MAX + 50)
    async with open_jetstream(settings) as jetstream:
        assert await jetstream.wait_connected(20)
        await jetstream.ensure_streams()
        before = Counter(fact.message_id for fact in await stored_facts(nats_server.url, nats_server.token))
        lossy = LosesAnAnswer(jetstream)
        async with FactPublisher(cast("JetStream", lossy)) as publisher:
            publisher.add_all(gathered)
            await publisher.publish_waiting()
            assert lossy.published == PART_MAX // BUNDLE_MAX, "after the first that was not taken no more are"
        assert lossy.in_flight_max == PART_MAX // BUNDLE_MAX, "the event loop turns between two parts"
        after = Counter(fact.message_id for fact in await stored_facts(nats_server.url, nats_server.token))

    assert after - before == Counter(fact.message_id for fact in gathered)
