"""The desks of a worker when a carrier's row changes under those who use it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.storage.config import CarrierConfig, Routes
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http
from tests.support.held_http import held_server
from tests.support.submissions import submission, submissions
from worker.carriers.base import GIVEN_BACK, TOO_LATE, Submission, Submitted
from worker.desk import Desk
from worker.desks import Desks

LANES = ("express", "normal", "bulk")
NO_ROUTES = Routes({})


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty_server(lambda _: http(200, b'{"reference":"r"}')) as server:
        yield server


def settings_of(server: FaultyServer) -> dict[str, object]:
    return {"url": server.url, "body": {"to": "$msisdn"}, "keepalive_seconds": 300.0}


def row(settings: dict[str, object]) -> CarrierConfig:
    return CarrierConfig(
        id=1, name="c", kind="http", settings=settings, secret_sealed=None,
        is_enabled=True, is_simulator=False, may_ask_again=False, splits_parts=False,
        rate_per_second=0, window_max=10, submit_deadline_seconds=60, receipt_wait_seconds=3600,
    )  # fmt: skip


def open_desks() -> Desks:
    return Desks(Keyring("k1", {"k1": bytes(32)}), LANES)


def desk_of(desks: Desks) -> Desk:
    desk = desks.get(1)
    assert desk is not None
    return desk


@pytest.mark.parametrize("change", [{"window_max": 20}, {"is_enabled": False}])
async def test_what_is_written_when_the_row_changes_has_its_answer_and_nothing_more_is_written(change):
    """Neither what waits for a connection then, nor what was not submitted yet."""
    async with held_server() as server, open_desks() as desks:
        settings = {"url": server.url, "body": {"to": "$msisdn"}, "connections_max": 2}
        await desks.apply({1: row(settings)}, NO_ROUTES)
        old = desk_of(desks)
        assert await old.take("normal", 3) == 3
        submitting = asyncio.create_task(old.submit(submissions(3)))
        await server.until_held(2)
        await desks.apply({1: replace(row(settings), **change)}, NO_ROUTES)
        assert desks.get(1) is not old
        assert await old.submit([submission(4)]) == [GIVEN_BACK]
        server.answer_all(http(200, b'{"reference":"r"}'))
        assert await submitting == [Submitted("r"), Submitted("r"), GIVEN_BACK]
        assert len(server.requests) == 2
        old.give("normal", 3)
        await server.until_connections(0)


async def test_a_desk_hears_of_each_message_of_a_bulk():
    """Of three bulks of which one has a message whose validity has ended."""

    def answer(request: Request) -> Reply:
        items = msgspec.json.decode(request.body)
        return http(200, msgspec.json.encode([{"reference": item["to"]} for item in items]))

    async with faulty_server(answer) as server, open_desks() as desks:
        settings: dict[str, object] = {**settings_of(server), "bulk": {"url": server.url, "batch_max": 2}}
        await desks.apply({1: row(settings)}, NO_ROUTES)
        wanted = [*submissions(4), submission(5, valid_for_seconds=0), submission(6)]
        heard: list[Submission] = []
        outcomes = await desk_of(desks).submit(wanted, answered=lambda some, _: heard.extend(some))
    assert outcomes == [*[Submitted(wanted[0].msisdn)] * 4, TOO_LATE, Submitted(wanted[0].msisdn)]
    assert sorted(one.message_id for one in heard) == [one.message_id for one in wanted]


async def test_when_the_worker_stops_every_desk_writes_nothing_more(server):
    stop = Stop()
    async with open_desks() as desks:
        await desks.apply({1: row(settings_of(server))}, NO_ROUTES)
        closing = asyncio.create_task(desks.close_at_the_stop(stop))
        assert await desk_of(desks).submit([submission()]) == [Submitted("r")]
        stop.request("SIGTERM")
        await closing
        assert await desk_of(desks).submit([submission()]) == [GIVEN_BACK]
        assert len(server.requests) == 1


@pytest.mark.parametrize("change", [{"settings": {}}, {"secret_sealed": b"of no keyring"}, {"kind": "post"}])
async def test_a_row_that_cannot_work_leaves_the_desk_that_does(server, change):
    async with open_desks() as desks:
        await desks.apply({1: row(settings_of(server))}, NO_ROUTES)
        good = desk_of(desks)
        for _ in range(2):
            await desks.apply({1: replace(row(settings_of(server)), **change)}, NO_ROUTES)
            assert desk_of(desks) is good
        assert await good.take("normal", 1) == 1
        assert await good.submit([submission()]) == [Submitted("r")]
        good.give("normal", 1)
        await desks.apply({1: replace(row(settings_of(server)), window_max=20)}, NO_ROUTES)
        assert desk_of(desks) is not good
        await desks.apply({1: replace(row(settings_of(server)), is_enabled=False, **change)}, NO_ROUTES)
        assert desks.get(1) is None


async def test_who_waits_at_a_desk_that_closes_gets_no_places_and_never_submits_there(server):
    async with open_desks() as desks:
        await desks.apply({1: row(settings_of(server))}, NO_ROUTES)
        old = desk_of(desks)
        taken = {lane: await old.take(lane, 10) for lane in LANES}
        waiting = [asyncio.create_task(old.take(lane, 10)) for lane in LANES]
        await asyncio.sleep(0)
        await desks.apply({1: replace(row(settings_of(server)), window_max=20)}, NO_ROUTES)
        async with asyncio.timeout(1):
            assert await asyncio.gather(*waiting) == [0, 0, 0]
            assert await old.take("normal", 1) == 0
        for lane, count in taken.items():
            old.give(lane, count)
        assert await desk_of(desks).take("normal", 1) == 1


async def test_leaving_closes_desks_that_are_still_in_use(server):
    async with open_desks() as desks:
        await desks.apply({1: row(settings_of(server))}, NO_ROUTES)
        old = desk_of(desks)
        await old.take("normal", 1)
        await old.submit([submission()])
        await desks.apply({}, NO_ROUTES)
        assert server.connections == 1
    await server.until_connections(0)


async def test_each_carrier_of_a_route_is_asked_before_one_is_again():
    rows = {id_: replace(row({"url": "http://127.0.0.1:1", "body": {}}), id=id_) for id_ in (1, 2, 3, 4)}
    rows[4] = replace(rows[4], is_enabled=False)
    async with open_desks() as desks:
        await desks.apply(rows, Routes({"49": (3, 1, 4, 2), "43": (1,)}))

        def after(than: int, msisdn: str = "+4915112345678") -> int | None:
            return desks.another(msisdn, than, is_test=False)

        assert [after(than) for than in (3, 1, 2)] == [1, 2, 3]
        assert after(4) == 2  # switched off, it keeps its place
        assert after(9) == 3  # no longer on the route
        assert after(1, "+436641234567") is None


async def test_each_simulator_is_asked_before_one_is_again():
    rows = {id_: replace(row({"url": "http://127.0.0.1:1", "body": {}}), id=id_) for id_ in (1, 2, 3, 4)}
    rows |= {id_: replace(rows[id_], is_simulator=True) for id_ in (1, 2, 4)}
    async with open_desks() as desks:
        await desks.apply(rows, NO_ROUTES)
        assert [desks.another("+4915112345678", than, is_test=True) for than in (1, 2, 3, 4)] == [2, 4, 1, 1]
