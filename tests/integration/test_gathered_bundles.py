"""What flushes accept within a moment goes to JetStream in one bundle; the first waits for nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api import publish, traces
from api.publish import Publisher
from api.store import AcceptAnswer, AcceptItem
from embedded.nats import NatsServer
from shared.events.bundles import BUNDLE_MAX, Bundle, decode
from shared.events.traces import read_traces
from shared.runtime import tracing
from shared.runtime.clock import Clock
from shared.runtime.jetstream import JetStream, open_jetstream
from shared.runtime.postgres import Pool
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import accept_item

CLIENT = 1
# Longer than a test takes, so that nothing leaves because of the time unless it is waited for.
LONG_SECONDS = 30.0


class Heard:
    """A real JetStream, and the bundles that were given to it in their order."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self.connected = True
        self.bundles: list[Bundle] = []
        self.ids: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.came = asyncio.Semaphore(0)

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str]
    ) -> None:
        self.bundles.append(decode(payload))
        self.ids.append(message_id)
        self.headers.append(headers)
        self.came.release()
        await self._jetstream.publish(subject, payload, message_id=message_id, headers=headers)


@asynccontextmanager
async def heard(server: NatsServer) -> AsyncIterator[tuple[Publisher, Heard]]:
    """A publisher on the server. No bundle fails here, so that it never asks the database."""
    async with open_jetstream(NatsAccess(nats_url=server.url, nats_token=server.token)) as jetstream:
        assert await jetstream.wait_connected(20)
        await jetstream.ensure_streams()
        hears = Heard(jetstream)
        facts = FactPublisher(jetstream)
        async with Publisher(cast("Pool", None), cast("JetStream", hears), facts, Clock()) as publisher:
            yield publisher, hears


def accept(publisher: Publisher, items: list[AcceptItem], *, is_leased: bool = True) -> list[str]:
    """Tell the publisher of a flush that accepted the items; return their ids."""
    now = datetime.now(UTC)
    answers = [
        AcceptAnswer("accepted", item.message_id, None, None, 1, "QUEUED", now, dispatch_now=True)
        for item in items
    ]
    publisher.publish_later(items, answers, is_leased=is_leased)
    return [item.message_id.hex for item in items]


def ids_of(bundles: list[Bundle]) -> list[list[str]]:
    return [[message_id for message_id, _ in bundle.work] for bundle in bundles]


@pytest.fixture
def gathers_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves because of the time."""
    monkeypatch.setattr(publish, "GATHER_SECONDS", LONG_SECONDS)


@pytest.mark.usefixtures("gathers_long")
async def test_the_first_leaves_at_once_and_the_next_ones_together(nats_server: NatsServer) -> None:
    async with heard(nats_server) as (publisher, hears):
        first = accept(publisher, [accept_item(CLIENT)])
        await asyncio.sleep(0)
        assert ids_of(hears.bundles) == [first], "who is alone waits for nothing"
        later = [accept(publisher, [accept_item(CLIENT), accept_item(CLIENT)]) for _ in range(3)]
        other = accept(publisher, [accept_item(CLIENT, carrier_id=2)])
        bulk = accept(publisher, [accept_item(CLIENT, lane="bulk")])
        await asyncio.sleep(0)
        assert len(hears.bundles) == 1

    together = [message_id for flush in later for message_id in flush]
    assert ids_of(hears.bundles) == [first, together, other, bulk], "whoever stops sends what has gathered"
    assert [(bundle.lane, bundle.carrier_id) for bundle in hears.bundles[1:]] == [
        ("normal", 1),
        ("normal", 2),
        ("bulk", 1),
    ]
    assert len(set(hears.ids)) == len(hears.ids), "JetStream takes an id once"


async def test_what_has_gathered_leaves_when_its_time_has_passed_and_the_next_one_at_once(
    nats_server: NatsServer,
) -> None:
    async with heard(nats_server) as (publisher, hears), asyncio.timeout(LONG_SECONDS):
        flushes = [accept(publisher, [accept_item(CLIENT)]) for _ in range(3)]
        await hears.came.acquire()
        await hears.came.acquire()
        assert ids_of(hears.bundles) == [flushes[0], flushes[1] + flushes[2]]
        await asyncio.sleep(3 * publish.GATHER_SECONDS)  # the round that finds nothing ends the rounds
        alone = accept(publisher, [accept_item(CLIENT)])
        await asyncio.sleep(0)
        assert ids_of(hears.bundles)[2:] == [alone]


@pytest.mark.usefixtures("gathers_long")
async def test_a_full_bundle_waits_for_no_time(nats_server: NatsServer) -> None:
    async with heard(nats_server) as (publisher, hears):
        accept(publisher, [accept_item(CLIENT)])
        many = accept(publisher, [accept_item(CLIENT) for _ in range(2 * BUNDLE_MAX + 1)])
        await asyncio.sleep(0)
        assert ids_of(hears.bundles)[1:] == [many[:BUNDLE_MAX], many[BUNDLE_MAX : 2 * BUNDLE_MAX]]
    assert ids_of(hears.bundles)[3:] == [many[2 * BUNDLE_MAX :]]


async def test_what_is_not_leased_is_left_to_the_clockwork(nats_server: NatsServer) -> None:
    async with heard(nats_server) as (publisher, hears):
        accept(publisher, [accept_item(CLIENT)], is_leased=False)
    assert not hears.bundles


@pytest.mark.usefixtures("gathers_long")
async def test_what_is_for_the_express_lane_waits_for_nothing(nats_server: NatsServer) -> None:
    async with heard(nats_server) as (publisher, hears):
        first = accept(publisher, [accept_item(CLIENT)])
        behind = accept(publisher, [accept_item(CLIENT)])
        express = accept(publisher, [accept_item(CLIENT, lane="express")])
        await asyncio.sleep(0)
        assert ids_of(hears.bundles) == [first, behind, express]


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Traced is what its caller asks for; no span is kept for a database."""
    monkeypatch.setattr(traces, "_kept", [])
    made = InMemorySpanExporter()
    tracing.configure("api", {"OTEL_TRACES_SAMPLER_ARG": "0"}, exporter=made)
    yield made
    tracing.shutdown()


@pytest.mark.usefixtures("gathers_long")
async def test_what_leaves_after_its_request_was_answered_stays_in_its_trace(
    nats_server: NatsServer, exporter: InMemorySpanExporter
) -> None:
    callers = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2, 3)]
    asked: list[str] = []
    async with heard(nats_server) as (publisher, hears):
        for caller in callers:
            with tracing.request("POST /v1/messages", {"traceparent": caller}) as trace:
                item = accept_item(CLIENT)
                tracing.follow(item.message_id.hex)
                asked += accept(publisher, [item])
                trace.status = 202
        accept(publisher, [accept_item(CLIENT)])
    assert [len(bundle.work) for bundle in hears.bundles] == [1, 3]
    told = [one for headers in hears.headers for one in read_traces(headers)]
    assert [(one.message_id, one.trace_id) for one in told] == list(zip(asked, (1, 2, 3), strict=True))
    sent = [span.context for span in exporter.get_finished_spans() if span.name == "send sms.send.normal"]
    assert {context.trace_id for context in sent if context is not None} == {1, 2, 3}
