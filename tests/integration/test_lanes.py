"""A lane is for all carriers: one that is slow, hangs or throttles holds up nobody else's messages."""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
import pytest

from embedded.nats import NatsServer
from shared.runtime.loops import Stop
from tests.support.faulty_http import Reply, Request, faulty_server, http
from tests.support.servers import Database
from tests.support.worker_rig import Rig, open_rig, taken
from worker.consume import GROUPS_IN_FLIGHT, consume

# Far more than a lane waits, far less than the slow carrier's own work takes.
ENOUGH_SECONDS = 30.0


def hangs(_: Request) -> Reply:
    return Reply(b"", then="hang")


def throttles(_: Request) -> Reply:
    return http(429, headers={"Retry-After": "60"})


@asynccontextmanager
async def lane(rig: Rig, name: str) -> AsyncIterator[Stop]:
    """Run the loop of one lane; who leaves without having asked it to stop cuts it off."""
    stop = Stop()
    task = asyncio.create_task(consume(rig.jetstream, name, rig.submit, stop))
    try:
        yield stop
    finally:
        if not stop.requested:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(rig: Rig, ids: list[UUID]) -> Tally[str]:
    """How often the carrier was asked to send each of the messages."""
    wanted = {str(id_) for id_ in ids} | {id_.hex for id_ in ids}
    seen = [msgspec.json.decode(request.body)["id"] for request in rig.server.requests]
    return Tally(id_ for id_ in seen if id_ in wanted)


async def test_a_slow_carrier_holds_up_nobody_elses_password(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig, faulty_server(taken) as slow:
        other = await rig.another(slow.url, rate_per_second=2)
        async with lane(rig, "express"), asyncio.timeout(ENOUGH_SECONDS):
            for _ in range(GROUPS_IN_FLIGHT + 1):
                await rig.publish("express", other, 100)
                await rig.until_handed_out("express")
            password = await rig.publish("express", rig.carrier, 1)
            await rig.until_states(password, "SENT")
        assert len(slow.requests) < 100, "it had to wait for none of the slow ones' groups"


@pytest.mark.parametrize("answer", [hangs, throttles])
async def test_a_carrier_that_does_not_take_messages_holds_up_nobody_elses(
    database: Database, nats_server: NatsServer, answer
) -> None:
    """More of them are in single bundles than a lane has chunks."""
    async with open_rig(database, nats_server) as rig, faulty_server(answer) as bad:
        other = await rig.another(bad.url)
        async with lane(rig, "normal"), asyncio.timeout(ENOUGH_SECONDS):
            for _ in range(GROUPS_IN_FLIGHT + 1):
                for _ in range(25):
                    await rig.publish("normal", other, 1)
                await rig.until_handed_out("normal")
            await rig.until_states(await rig.publish("normal", rig.carrier, 1), "SENT")


async def test_a_carrier_that_is_switched_off_holds_up_nobody(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        other = await rig.another(rig.server.url, enabled=False)
        async with lane(rig, "normal"), asyncio.timeout(ENOUGH_SECONDS):
            for _ in range(GROUPS_IN_FLIGHT + 1):
                await rig.publish("normal", other, 100)
            await rig.until_states(await rig.publish("normal", rig.carrier, 1), "SENT")


async def test_what_is_put_off_leaves_the_stream_and_is_sent_once(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it counts as in the stream, so that a lost lease beside it is found; nothing goes twice."""
    for name, seconds in (("SHORT", 0.05), ("LINE", 0.2), ("PUT_OFF_MIN", 0.01)):
        monkeypatch.setattr(f"worker.lines.{name}_SECONDS", seconds)
    async with open_rig(database, nats_server) as rig:
        slow = await rig.another(rig.server.url, rate_per_second=100)
        async with lane(rig, "normal") as stop, asyncio.timeout(ENOUGH_SECONDS):
            ids = [id_ for _ in range(4) for id_ in await rig.publish("normal", slow, 100)]
            put_off = "select count(*) from tollwire.outbox where dispatch_no > 1 and leased_at is null"
            while await rig.flow.pool.fetchval(put_off) < 200:  # noqa: ASYNC110 - the event is the server's
                await asyncio.sleep(0)
            while await rig.jetstream.oldest_ms("sms.send.normal") is not None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            while set(await rig.states(ids)) != {"SENT"}:
                await rig.clockwork.turn()
            stop.request("the test is over")
        assert await asked(rig, ids) == Tally(str(id_) for id_ in ids)


async def test_a_lane_that_waits_for_a_slow_carrier_stops_when_it_is_asked_to(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig, faulty_server(throttles) as slow:
        other = await rig.another(slow.url, rate_per_second=1)
        async with lane(rig, "normal") as stop, asyncio.timeout(ENOUGH_SECONDS):
            ids = await rig.publish("normal", other, 100)
            await slow.arrived.wait()
            stop.request("SIGTERM")
        assert set(await rig.states(ids)) == {"QUEUED"}
