"""What a worker and dlr have in hand when they are stopped firmly: given back, or noted, and not dropped."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from dlr import notes
from embedded.nats import NatsServer
from shared.runtime.jetstream import open_jetstream
from shared.runtime.loops import Stop
from shared.runtime.server_settings import NatsAccess
from shared.storage.config import Routes
from tests.support.deliveries import client_at, ended, open_deliver
from tests.support.endpoints import Reply, Request, answer, endpoint, says
from tests.support.faulty_http import http
from tests.support.flow import open_flow
from tests.support.held_http import held_server
from tests.support.locks import BLOCKED, held
from tests.support.servers import Database
from tests.support.worker_rig import Rig, open_rig
from worker import journal
from worker.apart import each_apart
from worker.consume import consume

# Far less than a bundle that nobody answers waits for another worker, or a claim for its deadline.
ENOUGH_SECONDS = 10.0
OUTCOME = "select outcome from tollwire.callbacks where id = $1"


async def cut_off(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until_states(rig: Rig, ids: Sequence[UUID], state: str) -> None:
    async with asyncio.timeout(ENOUGH_SECONDS):
        await rig.until_states(ids, state)


async def test_what_a_claim_wins_that_nobody_waits_for_any_more_is_given_back(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(3, delivery="at_most_once")
        async with held(database, "lock table tollwire.attempts in share row exclusive mode"):
            task = asyncio.create_task(rig.bundle(ids))
            async with asyncio.timeout(ENOUGH_SECONDS):
                while not await rig.flow.pool.fetchval(BLOCKED):  # noqa: ASYNC110 - the event is the server's
                    await asyncio.sleep(0.01)
            await cut_off(task)
            leaving = asyncio.create_task(rig.journal.__aexit__())
        await leaving
        assert await rig.states(ids) == ["QUEUED"] * 3
        assert not rig.server.requests


@pytest.mark.parametrize("passes", range(4))
async def test_a_claim_that_is_answered_in_the_moment_of_the_stop_is_given_back(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """So many passes of the loop after the flush has its answer."""

    def cut_after(passes: int) -> None:
        if passes:
            asyncio.get_running_loop().call_soon(cut_after, passes - 1)
        else:
            task.cancel()

    async def answered(name: str, *what: Any) -> Any:
        answers = await each_apart(name, *what)
        if name == "claim":
            cut_after(passes)
        return answers

    monkeypatch.setattr("worker.journal.each_apart", answered)
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(2, delivery="at_most_once")
        work = [(message_id.hex, 1) for message_id in ids]
        task = asyncio.create_task(rig.journal.claim(rig.carrier.id, work, 30))
        await asyncio.wait([task])
        await rig.journal.__aexit__()
        # Either its caller has it, or it is given back.
        assert await rig.states(ids) == ["QUEUED" if task.cancelled() else "SENDING"] * 2
        assert task.cancelled() or passes


async def test_what_another_carrier_is_to_have_goes_there_though_nobody_waits_for_its_record(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LINGER_SECONDS", 5.0)
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(3, delivery="at_most_once")
        other = await rig.another(rig.server.url)
        await rig.desks.apply({other.id: other}, Routes({"49": (rig.carrier.id, other.id)}))
        task = asyncio.create_task(rig.bundle(ids))
        await until_states(rig, ids, "SENDING")
        await cut_off(task)
        await rig.journal.__aexit__()
        assert await rig.states(ids) == ["QUEUED"] * 3


async def test_bundles_of_a_worker_that_is_cut_off_are_for_the_next_at_once(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig, held_server() as server:
        slow = await rig.another(server.url)
        access = NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)
        # A connection of its own, which ends with it: else what it has asked for last would come to nobody.
        async with open_jetstream(access) as own:
            assert await own.wait_connected(ENOUGH_SECONDS)
            task = asyncio.create_task(consume(own, "bulk", rig.submit, Stop()))
            await rig.publish("bulk", slow, 1)
            await server.until_held(1)
            await cut_off(task)
        consumer = rig.jetstream.consumer("SMS_SEND", "worker-bulk", "sms.send.bulk")
        (message,) = await consumer.fetch(1, ENOUGH_SECONDS)
        assert message.deliveries == 2
        await message.ack()
        server.answer_all(http(200, b'{"reference":"r"}'))


async def hangs(_: Request, __: Reply) -> None:
    await asyncio.Event().wait()


async def test_what_endpoints_took_is_noted_by_who_stops_to_wait_for_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "GATHER_SECONDS", 0.5)
    async with (
        open_flow(database) as flow,
        endpoint(says(answer(200))) as takes,
        endpoint(hangs) as silent,
        open_deliver(flow) as deliver,
    ):
        works = [(await ended(flow, await client_at(flow, one.url()), None))[0] for one in (takes, silent)]
        deliver.deliver_soon(works)
        async with asyncio.timeout(ENOUGH_SECONDS):
            while not (takes.requests and silent.requests):  # noqa: ASYNC110 - the event is the server's
                await asyncio.sleep(0.01)
        leaving = asyncio.create_task(deliver.__aexit__())
        await asyncio.sleep(0.1)  # it waits for the one that hangs
        await cut_off(leaving)
        assert await flow.pool.fetchval(OUTCOME, works[0].callback_id) == "delivered"
