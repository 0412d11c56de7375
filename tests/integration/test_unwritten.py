"""What is claimed and not written yet: few wait so, and none is written when nothing may be any more."""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from embedded.nats import NatsServer
from shared.runtime.batcher import Busy
from shared.runtime.loops import Stop
from shared.storage.config import CarrierConfig
from tests.support.faulty_http import Request, http
from tests.support.held_http import HeldServer, held_server
from tests.support.servers import Database
from tests.support.worker_rig import NO_ROUTES, Rig, open_rig
from worker import chunk
from worker.breaker import FAILURES_TO_OPEN
from worker.desk import PLACES

CONNECTIONS = 8
CAMPAIGN = 200
ENOUGH_SECONDS = 30.0
TAKEN = http(200, b'{"reference":"r"}')
LOST = http(502)


@dataclass
class Held:
    """A rig with a carrier that takes single messages, and answers when it is told to."""

    rig: Rig
    server: HeldServer
    row: CarrierConfig

    async def accepted(self, number: int, lane: str, **changes: Any) -> list[UUID]:
        return await self.rig.accepted(
            number, lane=lane, carrier_id=self.row.id, delivery="at_most_once", **changes
        )

    async def carry(self, lane: str, ids: Sequence[UUID], stop: Stop) -> None:
        work = [(id_.hex, 1) for id_ in ids]
        with suppress(Busy):
            await self.rig.submit.carry(lane, self.row.id, work, 1, stop)

    async def states(self, ids: Sequence[UUID]) -> Tally[str]:
        return Tally(await self.rig.states(ids))

    def places_used(self) -> float:
        (metric,) = PLACES.collect()
        label = {"carrier": self.row.name, "state": "used"}
        return next(sample.value for sample in metric.samples if sample.labels == label)

    async def until(self, ids: Sequence[UUID], states: dict[str, int]) -> None:
        async with asyncio.timeout(ENOUGH_SECONDS):
            while await self.states(ids) != Tally(states):  # noqa: ASYNC110 - the event is the server's
                await asyncio.sleep(0.01)


@asynccontextmanager
async def held(database: Database, nats_server: NatsServer) -> AsyncIterator[Held]:
    async with open_rig(database, nats_server) as rig, held_server() as server:
        row = await rig.another(server.url, {"connections_max": CONNECTIONS})
        yield Held(rig, server, row)


@asynccontextmanager
async def going(work: Awaitable[object]) -> AsyncIterator[None]:
    """Run something beside; it has ended when the context is left."""
    task = asyncio.ensure_future(work)
    try:
        yield
        async with asyncio.timeout(ENOUGH_SECONDS):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_when_the_breaker_opens_what_is_claimed_is_not_written_any_more(
    database: Database, nats_server: NatsServer
) -> None:
    async with held(database, nats_server) as one:
        ids = await one.accepted(CAMPAIGN, "bulk")
        async with going(one.carry("bulk", ids, Stop())):
            await one.server.until_held(CONNECTIONS)
            one.server.answer_all(LOST)
        lost = len(one.server.requests)
        assert lost < CONNECTIONS + FAILURES_TO_OPEN
        assert await one.states(ids) == {"UNKNOWN": lost, "QUEUED": CAMPAIGN - lost}


@pytest.mark.parametrize("others", [["bulk"], ["bulk", "normal"]])
async def test_a_password_has_one_of_the_next_connections_though_campaigns_are_claimed_before_it(
    database: Database, nats_server: NatsServer, others
) -> None:
    """Counted in the carrier's answers: there are eight in the time in which it gives one."""
    async with held(database, nats_server) as one:
        campaigns = [one.carry(lane, await one.accepted(CAMPAIGN, lane), Stop()) for lane in others]
        async with going(asyncio.gather(*campaigns)):
            await one.server.until_held(CONNECTIONS)
            (password,) = await one.accepted(1, "express")
            async with going(one.carry("express", [password], Stop())):
                await one.until([password], {"SENDING": 1})
                answers = 0
                while not any(is_of(password, request) for request in one.server.requests):
                    one.server.answer(TAKEN)
                    answers += 1
                    await one.server.until_held(CONNECTIONS)
                one.server.answer_all(TAKEN)
        assert answers <= 2


def is_of(id_: UUID, request: Request) -> bool:
    return bool(msgspec.json.decode(request.body)["id"] == str(id_))


End = Callable[[Held, Stop], Awaitable[None]]


async def stops(_: Held, stop: Stop) -> None:
    stop.request("SIGTERM")


async def is_switched_off(one: Held, _: Stop) -> None:
    await one.rig.desks.apply({}, NO_ROUTES)


async def is_found_elsewhere(one: Held, _: Stop) -> None:
    settings: dict[str, Any] = {**one.row.settings, "url": one.rig.server.url}
    await one.rig.desks.apply({one.row.id: replace(one.row, settings=settings)}, NO_ROUTES)


@pytest.mark.parametrize("ends", [stops, is_switched_off, is_found_elsewhere])
async def test_what_is_not_written_when_it_ends_is_given_back_at_once_and_the_rest_has_its_answer(
    database: Database, nats_server: NatsServer, ends: End
) -> None:
    """While nothing is answered: nobody knows if the process is there when the answers come."""
    stop = Stop()
    async with held(database, nats_server) as one, going(one.rig.desks.close_at_the_stop(stop)):
        ids = await one.accepted(CAMPAIGN, "bulk")
        async with going(one.carry("bulk", ids, stop)):
            await one.server.until_held(CONNECTIONS)
            await until_claimed_ahead(one, ids)
            await ends(one, stop)
            await until_unclaimed(one, ids)
            assert len(one.server.requests) == CONNECTIONS
            one.server.answer_all(TAKEN)
        assert len(one.server.requests) == CONNECTIONS
        written = [id_ for id_ in ids if any(is_of(id_, request) for request in one.server.requests)]
        assert await one.states(written) == {"SENT": CONNECTIONS}
        stop.request("the test is over")


async def test_what_is_answered_is_recorded_though_a_neighbour_has_no_answer(
    database: Database, nats_server: NatsServer
) -> None:
    async with held(database, nats_server) as one:
        ids = await one.accepted(CONNECTIONS, "bulk")
        async with going(one.carry("bulk", ids, Stop())):
            await one.server.until_held(CONNECTIONS)
            for _ in range(CONNECTIONS - 1):
                one.server.answer(TAKEN)
            await one.until(ids, {"SENT": CONNECTIONS - 1, "SENDING": 1})
            one.server.answer_all(TAKEN)
        assert await one.states(ids) == {"SENT": CONNECTIONS}


async def test_what_is_answered_is_recorded_by_who_is_cut_off(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "GATHER_SECONDS", ENOUGH_SECONDS)
    async with held(database, nats_server) as one:
        ids = await one.accepted(CONNECTIONS, "bulk")
        task = asyncio.create_task(one.carry("bulk", ids, Stop()))
        await one.server.until_held(CONNECTIONS)
        for _ in range(CONNECTIONS - 1):
            one.server.answer(TAKEN)
        async with asyncio.timeout(ENOUGH_SECONDS):
            while one.places_used() > 1:  # noqa: ASYNC110 - the event is the server's
                await asyncio.sleep(0.01)
        assert await one.states(ids) == {"SENDING": CONNECTIONS}, "the answers still gather"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.until(ids, {"SENT": CONNECTIONS - 1, "SENDING": 1})


@pytest.mark.parametrize("is_cut_off", [False, True])
async def test_what_cannot_be_submitted_is_recorded_though_a_neighbour_has_no_answer(
    database: Database, nats_server: NatsServer, is_cut_off: bool
) -> None:
    """Also by who is cut off right after its claim, when nothing of it is answered."""
    async with held(database, nats_server) as one:
        sealed = await one.accepted(1, "bulk", text_sealed=b"by a key that is not there")
        ids = await one.accepted(CONNECTIONS, "bulk")
        task = asyncio.create_task(one.carry("bulk", [*sealed, *ids], Stop()))
        await one.server.until_held(CONNECTIONS)
        if is_cut_off:
            task.cancel()
        await one.until(sealed, {"QUEUED": 1})
        assert await one.states(ids) == {"SENDING": CONNECTIONS}
        one.server.answer_all(TAKEN)
        await asyncio.gather(task, return_exceptions=True)


async def until_claimed_ahead(one: Held, ids: Sequence[UUID]) -> None:
    """Return when more is claimed than has a connection."""
    async with asyncio.timeout(ENOUGH_SECONDS):
        while (await one.states(ids))["SENDING"] <= CONNECTIONS:  # noqa: ASYNC110 - the event is the server's
            await asyncio.sleep(0.01)


async def until_unclaimed(one: Held, ids: Sequence[UUID]) -> None:
    """Return when just what is written is claimed, and nothing of it counts as answered."""
    sql = "select count(*) from tollwire.attempts where message_id = any ($1) and outcome is null"
    async with asyncio.timeout(ENOUGH_SECONDS):
        while await one.rig.flow.pool.fetchval(sql, ids) != CONNECTIONS:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
