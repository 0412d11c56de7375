"""What waits for a carrier that is stopped or down: it uses up nothing, and goes when it can."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from embedded.nats import NatsServer
from shared.runtime.loops import Stop
from shared.storage.config import Routes
from tests.support.faulty_http import http
from tests.support.servers import Database
from tests.support.worker_rig import NO_ROUTES, Rig, open_rig, taken
from worker.lines import AWAY_SECONDS
from worker.store import read_numbers

ATTEMPTS = "select count(*) from tollwire.attempts where message_id = any ($1)"
DUE_SECONDS = """
select extract(epoch from due_at - clock_timestamp())::float from tollwire.outbox where message_id = $1
"""


async def carry(rig: Rig, ids: Sequence[UUID], carrier_id: int | None = None) -> None:
    """Work a bundle off that was dispatched now."""
    rows = [await rig.flow.outbox(id_) for id_ in ids]
    work = [(id_.hex, row["dispatch_no"]) for id_, row in zip(ids, rows, strict=True) if row]
    await rig.submit.carry("normal", carrier_id or rig.carrier.id, work, 1, Stop())


async def test_what_waits_for_a_carrier_that_is_away_uses_up_nothing(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(3)
        await rig.desks.apply({}, NO_ROUTES)
        for asked in range(1, 9):
            await carry(rig, ids)
            due_seconds = [await rig.flow.pool.fetchval(DUE_SECONDS, id_) for id_ in ids]
            assert min(due_seconds) > 0, asked
            assert max(due_seconds) <= (AWAY_SECONDS if asked < 6 else 60), asked
            await rig.flow.later(ids, 60)
            await rig.clockwork.turn()
        assert await rig.flow.pool.fetchval(ATTEMPTS, ids) == 0
        assert [(await rig.flow.state_row(id_))["sequence"] for id_ in ids] == [0] * 3
        await rig.desks.apply({rig.carrier.id: rig.carrier}, NO_ROUTES)
        await carry(rig, ids)
        assert await rig.states(ids) == ["SENT"] * 3
        assert [(await rig.flow.state_row(id_))["attempt_no"] for id_ in ids] == [1] * 3


async def test_of_one_bundle_only_what_another_carrier_carries_is_claimed(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        (stays,) = await rig.accepted(1, msisdn="+4915112345678")
        (goes,) = await rig.accepted(1, msisdn="+436641234567", region="AT")
        (test,) = await rig.accepted(1, is_test=True)
        other = await rig.another(rig.server.url)
        simulator = await rig.another(rig.server.url, is_simulator=True)
        routes = Routes({"49": (rig.carrier.id,), "43": (rig.carrier.id, other.id)})
        await rig.desks.apply({other.id: other, simulator.id: simulator}, routes)
        await carry(rig, [stays, goes, test])
        rows = {id_: await rig.flow.outbox(id_) for id_ in (stays, goes, test)}
        assert {id_: row and row["carrier_id"] for id_, row in rows.items()} == {
            stays: rig.carrier.id,
            goes: other.id,
            test: simulator.id,
        }
        now = await rig.flow.pool.fetchval("select clock_timestamp()")
        assert {id_: row and row["due_at"] <= now for id_, row in rows.items()} == {
            stays: False,
            goes: True,
            test: True,
        }
        assert await rig.flow.pool.fetchval(ATTEMPTS, [stays]) == 0


async def test_what_waits_for_a_carrier_that_is_away_expires_at_its_time(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        (id_,) = await rig.accepted(1, valid_seconds=60)
        await rig.desks.apply({}, NO_ROUTES)
        await rig.flow.later([id_], 57)
        await carry(rig, [id_])
        await rig.flow.later([id_], 3)
        await rig.clockwork.turn()
        assert await rig.states([id_]) == ["EXPIRED"]
        assert (await rig.flow.lock(id_))["state"] == "RELEASED"


async def test_what_only_the_carrier_that_is_away_may_be_asked_waits_for_it_unclaimed(
    database: Database, nats_server: NatsServer
) -> None:
    """Its answer was lost, and it knows our ids: another one would send a second time."""
    async with open_rig(database, nats_server) as rig:
        knows = await rig.another(rig.server.url, idempotent_submit=True)
        (id_,) = await rig.accepted(1, carrier_id=knows.id)
        rig.server.answer = lambda _: http(502)
        await carry(rig, [id_], knows.id)
        await rig.flow.later([id_], 60)
        await rig.desks.apply({rig.carrier.id: rig.carrier}, Routes({"49": (knows.id, rig.carrier.id)}))
        await carry(rig, [id_], knows.id)
        row = await rig.flow.outbox(id_)
        assert row
        assert (row["carrier_id"], row["leased_at"]) == (knows.id, None)
        assert await rig.flow.pool.fetchval(ATTEMPTS, [id_]) == 1


async def test_what_each_carrier_refuses_for_now_comes_to_the_last_of_its_route(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        rows = [rig.carrier, await rig.another(rig.server.url), await rig.another(rig.server.url)]
        route = tuple(row.id for row in rows)
        await rig.desks.apply({row.id: row for row in rows}, Routes({"49": route}))
        (id_,) = await rig.accepted(1)
        rig.server.answer = lambda _: http(503)
        went = []
        for _ in range(4):
            waiting = await rig.flow.outbox(id_)
            assert waiting
            went.append(waiting["carrier_id"])
            await carry(rig, [id_], went[-1])
            await rig.flow.later([id_], 600)
        assert went == [*route, route[0]]
        rig.server.answer = taken
        await carry(rig, [id_], route[1])
        assert await rig.states([id_]) == ["SENT"]


async def test_how_long_each_is_valid_yet_is_read_with_whom_it_is_for(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        (id_,) = await rig.accepted(1, valid_seconds=600)
        await rig.flow.later([id_], 100)
        work = [(id_.hex, 1), (UUID(int=1).hex, 1)]
        known, unknown = await read_numbers(rig.flow.pool, work, rig.carrier.id, may_ask_again=False)
        assert known.left_seconds == pytest.approx(500, abs=30)
        assert (unknown.msisdn, unknown.left_seconds) == ("", 0)
