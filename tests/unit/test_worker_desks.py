"""The desks of a worker when a carrier's row changes under those who use it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shared.runtime.keyring import Keyring
from shared.storage.config import CarrierConfig, Routes
from tests.support.faulty_http import FaultyServer, faulty_server, http
from tests.support.submissions import submission
from worker.carriers.base import Submitted
from worker.desk import Desk
from worker.desks import Desks

LANES = ("express", "normal", "bulk")
NO_ROUTES = Routes({})


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty_server(lambda _: http(200, b'{"reference":"r"}')) as server:
        yield server


def row(server: FaultyServer) -> CarrierConfig:
    settings = {"url": server.url, "body": {"to": "$msisdn"}, "keepalive_seconds": 300.0}
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
async def test_who_took_places_at_a_desk_submits_there_though_the_row_has_changed(server, change):
    async with open_desks() as desks:
        await desks.apply({1: row(server)}, NO_ROUTES)
        old = desk_of(desks)
        assert await old.take("normal", 7) == 7
        await desks.apply({1: replace(row(server), **change)}, NO_ROUTES)
        assert desks.get(1) is not old
        await asyncio.sleep(0)
        assert await old.submit([submission()]) == [Submitted("r")]
        assert server.connections == 1, "kept alive while somebody may need it"
        old.give("normal", 7)
        await server.until_connections(0)


@pytest.mark.parametrize("change", [{"settings": {}}, {"secret_sealed": b"of no keyring"}, {"kind": "post"}])
async def test_a_row_that_cannot_work_leaves_the_desk_that_does(server, change):
    async with open_desks() as desks:
        await desks.apply({1: row(server)}, NO_ROUTES)
        good = desk_of(desks)
        for _ in range(2):
            await desks.apply({1: replace(row(server), **change)}, NO_ROUTES)
            assert desk_of(desks) is good
        assert await good.take("normal", 1) == 1
        assert await good.submit([submission()]) == [Submitted("r")]
        good.give("normal", 1)
        await desks.apply({1: replace(row(server), window_max=20)}, NO_ROUTES)
        assert desk_of(desks) is not good
        await desks.apply({1: replace(row(server), is_enabled=False, **change)}, NO_ROUTES)
        assert desks.get(1) is None


async def test_who_waits_at_a_desk_that_closes_gets_no_places_and_never_submits_there(server):
    async with open_desks() as desks:
        await desks.apply({1: row(server)}, NO_ROUTES)
        old = desk_of(desks)
        taken = {lane: await old.take(lane, 10) for lane in LANES}
        waiting = [asyncio.create_task(old.take(lane, 10)) for lane in LANES]
        await asyncio.sleep(0)
        await desks.apply({1: replace(row(server), window_max=20)}, NO_ROUTES)
        async with asyncio.timeout(1):
            assert await asyncio.gather(*waiting) == [0, 0, 0]
            assert await old.take("normal", 1) == 0
        for lane, count in taken.items():
            old.give(lane, count)
        assert await desk_of(desks).take("normal", 1) == 1


async def test_leaving_closes_desks_that_are_still_in_use(server):
    async with open_desks() as desks:
        await desks.apply({1: row(server)}, NO_ROUTES)
        old = desk_of(desks)
        await old.take("normal", 1)
        await old.submit([submission()])
        await desks.apply({}, NO_ROUTES)
        assert server.connections == 1
    await server.until_connections(0)
