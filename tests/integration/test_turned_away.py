"""What a worker cannot submit now: how long it waits, what it holds up, and how it is counted."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest

from embedded.nats import NatsServer
from shared.runtime.loops import Stop
from shared.storage.config import Routes
from tests.support.faulty_http import Reply, Request, http
from tests.support.servers import Database
from tests.support.worker_rig import NO_ROUTES, Rig, open_rig, taken
from worker.breaker import FAILURES_TO_OPEN
from worker.lines import AWAY_SECONDS
from worker.submit import ACCEPT_TO_SUBMIT
from worker.words import RETRY_AFTER_MIN_SECONDS

HAS_TRIED = """
with tried as (
    insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at, outcome)
    select $1, n, 1, $3::smallint, now(), 'refused_temp' from generate_series(1, $2::smallint) n)
update tollwire.message_states set attempt_no = $2, tries = $2 where message_id = $1
"""
STALE = 99  # no dispatch of this number is out
AGED = "update tollwire.messages set created_at = created_at - interval '100 seconds' where id = $1"
WAITS_SECONDS = """
select extract(epoch from dispatch_at - clock_timestamp())::float from tollwire.outbox where message_id = $1
"""


async def carry_again(rig: Rig, ids: Sequence[UUID]) -> None:
    """Work a bundle off that was dispatched now."""
    rows = [await rig.flow.outbox(id_) for id_ in ids]
    work = [(id_.hex, row["dispatch_no"]) for id_, row in zip(ids, rows, strict=True) if row]
    await rig.submit.carry("normal", rig.carrier.id, work, 1, Stop())


async def test_only_claims_that_came_to_nothing_make_a_message_wait_longer(
    database: Database, nats_server: NatsServer
) -> None:
    """A message with eight tries that is turned away for the first time waits as a new one does."""
    async with open_rig(database, nats_server) as rig:
        ids = throttled, away, passed_on = await rig.accepted(3)
        for id_ in ids:
            await rig.flow.pool.execute(HAS_TRIED, id_, 8, rig.carrier.id)
        rig.server.answer = lambda _: http(429)
        await rig.bundle([throttled])
        await rig.desks.apply({}, NO_ROUTES)
        await rig.bundle([away])
        other = replace(rig.carrier, id=await rig.flow.carrier(settings=rig.carrier.settings))
        await rig.desks.apply({other.id: other}, Routes({"49": (rig.carrier.id, other.id)}))
        await rig.bundle([passed_on])
        waits = [await rig.flow.pool.fetchval(WAITS_SECONDS, id_) for id_ in ids]
        assert waits[0] < 2 * RETRY_AFTER_MIN_SECONDS
        assert waits[1] < AWAY_SECONDS
        assert waits[2] < 0
        assert [(await rig.flow.state_row(id_))["tries"] for id_ in ids] == [8] * 3


async def test_a_message_counts_once_as_submitted_however_often_it_was_turned_away(
    database: Database, nats_server: NatsServer
) -> None:
    """At its first try, with all the time until then: also one whose carrier was away at first."""

    def seen() -> tuple[float, float]:
        metric = ACCEPT_TO_SUBMIT.labels("normal")
        return sum(bucket.get() for bucket in metric._buckets), metric._sum.get()

    def refuse(status: int, _: Request) -> Reply:
        return http(status)

    async with open_rig(database, nats_server) as rig:
        (id_,) = await rig.accepted(1)
        await rig.flow.pool.execute(AGED, id_)
        begin, begin_seconds = seen()
        counts = []
        for answer in (429, None, 429, 503, 200):
            rig.server.answer = taken if answer == 200 else partial(refuse, answer or 500)
            await rig.desks.apply({rig.carrier.id: rig.carrier} if answer else {}, NO_ROUTES)
            await rig.flow.later([id_], 600)
            await carry_again(rig, [id_])
            counts.append(seen()[0] - begin)
        assert await rig.states([id_]) == ["SENT"]
        assert counts == [0, 0, 0, 1, 1]
        assert 100 <= seen()[1] - begin_seconds < 160


async def test_a_test_message_is_not_given_to_a_carrier_that_was_a_simulator_when_it_was_accepted(
    database: Database, nats_server: NatsServer
) -> None:
    """The row was turned into a real carrier meanwhile, and a test message costs nothing."""
    async with open_rig(database, nats_server) as rig:
        (live,) = await rig.accepted(1)
        (test,) = await rig.accepted(1, is_test=True)
        await rig.bundle([live, test])
        assert len(rig.server.requests) == 1
        assert await rig.states([live, test]) == ["SENT", "QUEUED"]
        outbox = await rig.flow.outbox(test)
        assert outbox
        assert outbox["carrier_id"] == rig.carrier.id, "it waits for a simulator"
        simulator = await rig.another(rig.server.url, is_simulator=True)
        await rig.flow.later([test], 60)
        await carry_again(rig, [test])
        outbox = await rig.flow.outbox(test)
        assert outbox
        assert outbox["carrier_id"] == simulator.id
        await rig.submit.carry("normal", simulator.id, [(test.hex, outbox["dispatch_no"])], 1, Stop())
        assert await rig.states([test]) == ["SENT"]
        assert (await rig.flow.state_row(test))["tries"] == 1


async def test_messages_whose_answers_are_lost_each_time_hold_up_no_other(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them probes at a time, for the carrier may be back; what tells more goes first, or beside it."""
    monkeypatch.setattr("worker.breaker.OPEN_SECONDS", 0.0)
    async with open_rig(database, nats_server) as rig:
        odd = await rig.accepted(FAILURES_TO_OPEN, delivery="at_least_once")
        (other,) = await rig.accepted(1)

        def answer(request: Request) -> Reply:
            return taken(request) if str(other).encode() in request.body else lost

        lost, rig.server.answer = http(502), answer
        await rig.bundle(odd)
        await rig.flow.later(odd, 60)
        lost = Reply(b"", "hang")
        rig.server.requests.clear()
        rig.server.arrived.clear()
        probing = asyncio.create_task(carry_again(rig, odd[:1]))
        await rig.server.arrived.wait()
        await carry_again(rig, odd[1:2])
        assert len(rig.server.requests) == 1, "turned away"
        not_claimed = [(other.hex, STALE)]
        await rig.submit.carry("normal", rig.carrier.id, not_claimed, 1, Stop())
        await carry_again(rig, [*odd[2:], other])
        assert await rig.states([other]) == ["SENT"]
        assert len(rig.server.requests) == 2
        assert not rig.desk.is_broken()
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
