"""A worker's way of a bundle, on the real journal: from the places at a desk to the recorded outcome."""

import asyncio
import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from embedded.nats import NatsServer
from shared.domain.retry import PATIENT_ATTEMPTS
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.storage.config import Routes
from tests.support.faulty_http import Reply, faulty_server, http
from tests.support.servers import Database
from tests.support.worker_rig import LANES, NO_ROUTES, open_rig
from worker.breaker import FAILURES_TO_OPEN

# Where a message's counter ends: what raises it any further fails.
SEQUENCE_MAX = 2**15 - 1
PASSED_ON = """
with tried as (
    insert into tollwire.attempts (message_id, attempt_no, part_no, carrier_id, claimed_at, outcome)
    select $1, n, 1, $3::smallint, now(), 'unclaimed' from generate_series(1, $2::smallint) n)
update tollwire.message_states set attempt_no = $2 where message_id = $1
"""
# Enough for a claim.
LEFT_SECONDS = 5.0
ENDS_SOON = """
update tollwire.messages set valid_until = clock_timestamp() + $2 * interval '1 second' where id = $1
"""
TRIES = """
select state::text, tries, count(*) from tollwire.message_states where message_id = any ($1)
group by state, tries order by 1, 2
"""
WORN_OUT = "update tollwire.message_states set sequence = $2 where message_id = $1"


async def test_a_bundle_that_waited_while_the_row_changed_goes_to_the_new_desk(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(3)
        old = rig.desk
        taken = {lane: await old.take(lane, 10_000) for lane in LANES}
        waiting = asyncio.create_task(rig.bundle(ids))
        await asyncio.sleep(0)
        await rig.desks.apply({rig.carrier.id: replace(rig.carrier, rate_per_second=500)}, NO_ROUTES)
        async with asyncio.timeout(10):
            await waiting
        assert await rig.states(ids) == ["SENT"] * 3
        for lane, count in taken.items():
            old.give(lane, count)


async def test_a_bundle_that_waited_while_the_carrier_was_switched_off_is_given_back_unsent(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(3)
        for lane in LANES:
            await rig.desk.take(lane, 10_000)
        waiting = asyncio.create_task(rig.bundle(ids))
        await asyncio.sleep(0)
        await rig.desks.apply({}, NO_ROUTES)
        async with asyncio.timeout(10):
            await waiting
        assert await rig.states(ids) == ["QUEUED"] * 3
        assert rig.server.requests == []


async def test_a_message_that_cannot_be_claimed_costs_only_itself(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(21)
        (poison,) = ids[13:14]
        await rig.flow.pool.execute(WORN_OUT, poison, SEQUENCE_MAX)
        with capture_logs() as logs:
            await rig.bundle(ids)
        states = dict(zip(ids, await rig.states(ids), strict=True))
        assert states.pop(poison) == "QUEUED"
        assert set(states.values()) == {"SENT"}
        assert len(rig.server.requests) == 20
        assert [line["message_id"] for line in logs if line["log_level"] == "error"] == [str(poison)]


async def test_an_outcome_that_cannot_be_recorded_costs_only_itself(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(21)
        (poison,) = ids[13:14]
        await rig.flow.pool.execute(WORN_OUT, poison, SEQUENCE_MAX - 1)
        with capture_logs() as logs:
            await rig.bundle(ids)
        states = dict(zip(ids, await rig.states(ids), strict=True))
        assert states.pop(poison) == "SENDING", "its claim ends at its deadline"
        assert set(states.values()) == {"SENT"}
        assert [line["message_id"] for line in logs if line["log_level"] == "error"] == [str(poison)]


async def test_a_message_twice_beside_one_that_cannot_be_claimed_is_sent_once(
    database: Database, nats_server: NatsServer
) -> None:
    """In two halves it is in two calls, and the second must not take the first one's claim for its own."""
    async with open_rig(database, nats_server) as rig:
        ids = await rig.accepted(4)
        await rig.flow.pool.execute(WORN_OUT, ids[1], SEQUENCE_MAX)
        await rig.bundle([*ids, ids[0]])
        assert len(rig.server.requests) == 3


async def test_workers_that_find_each_others_carriers_away_do_not_pass_a_message_on_for_ever(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        young, old = await rig.accepted(2)
        other = replace(rig.carrier, id=await rig.flow.carrier(settings=rig.carrier.settings))
        await rig.desks.apply({other.id: other}, Routes({"49": (rig.carrier.id, other.id)}))
        await rig.flow.pool.execute(PASSED_ON, old, PATIENT_ATTEMPTS, rig.carrier.id)
        await rig.bundle([young, old])
        rows = [await rig.flow.outbox(id_) for id_ in (young, old)]
        assert [row and row["carrier_id"] for row in rows] == [other.id] * 2
        now = await rig.flow.pool.fetchval("select clock_timestamp()")
        assert [row and row["dispatch_at"] <= now for row in rows] == [True, False]


async def test_a_gateway_that_loses_all_answers_burns_a_window_and_not_a_campaign(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        rig.server.answer = lambda _: http(502)
        ids = await rig.accepted(300)
        for start in range(0, len(ids), 10):
            await rig.bundle(ids[start : start + 10])
        assert len(rig.server.requests) < 50
        assert (await rig.states(ids)).count("QUEUED") > 250


async def test_what_finds_no_connection_at_a_carrier_that_hangs_uses_up_no_try(
    database: Database, nats_server: NatsServer
) -> None:
    """Nothing of it was written, and the carrier is not back for that: the others find it down."""
    settings = {"connections_max": FAILURES_TO_OPEN}
    async with open_rig(database, nats_server) as rig, faulty_server(lambda _: Reply(b"", "hang")) as bad:
        other = await rig.another(bad.url, settings, submit_deadline_seconds=4)
        ids = await rig.accepted(2 * FAILURES_TO_OPEN, carrier_id=other.id)
        with capture_logs() as logs:
            await rig.submit.carry("normal", other.id, [(id_.hex, 1) for id_ in ids], 1, Stop())
        desk = rig.desks.get(other.id)
        assert desk is not None
        assert desk.is_down
        assert [line["event"] for line in logs if line["event"].startswith("carrier is")] == [
            "carrier is down"
        ]
        tries = await rig.flow.pool.fetch(TRIES, ids)
        assert [tuple(row) for row in tries] == [
            ("QUEUED", 0, FAILURES_TO_OPEN),
            ("UNKNOWN", 1, FAILURES_TO_OPEN),
        ]
        assert len(bad.requests) == FAILURES_TO_OPEN


async def test_what_a_worker_comes_to_after_its_validity_is_not_sent(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was valid when it was claimed. Not written, it uses up no try, and ends as what is too late does.

    Another carrier could do nothing for it.
    """

    def stand_still(name: str) -> None:
        if name == "claim.after_commit":
            time.sleep(LEFT_SECONDS)

    monkeypatch.setattr("worker.submit.crash_point", stand_still)
    async with open_rig(database, nats_server) as rig:
        (id_,) = await rig.accepted(1)
        other = replace(rig.carrier, id=await rig.flow.carrier(settings=rig.carrier.settings))
        both = {one.id: one for one in (rig.carrier, other)}
        await rig.desks.apply(both, Routes({"49": tuple(both)}))
        await rig.flow.pool.execute(ENDS_SOON, id_, LEFT_SECONDS)
        await rig.bundle([id_])
        outbox = await rig.flow.outbox(id_)
        assert outbox
        assert outbox["carrier_id"] == rig.carrier.id
        row = await rig.flow.state_row(id_)
        assert (row["state"], row["attempt_no"], row["tries"]) == ("QUEUED", 1, 0)
        assert rig.server.requests == []
        await rig.clockwork.turn()
        assert await rig.states([id_]) == ["EXPIRED"]
        assert (await rig.flow.lock(id_))["state"] == "RELEASED"


async def test_what_was_claimed_after_half_of_its_deadline_is_not_written(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half is of the whole deadline, which began when the claim was asked for."""
    deadline_seconds = 4

    def stand_still(name: str) -> None:
        if name == "claim.after_commit":
            time.sleep(0.55 * deadline_seconds)

    monkeypatch.setattr("worker.submit.crash_point", stand_still)
    async with open_rig(database, nats_server) as rig:
        other = await rig.another(rig.server.url, submit_deadline_seconds=deadline_seconds)
        (id_,) = await rig.accepted(1, carrier_id=other.id)
        await rig.submit.carry("normal", other.id, [(id_.hex, 1)], 1, Stop())
        row = await rig.flow.state_row(id_)
        assert (row["state"], row["attempt_no"], row["tries"]) == ("QUEUED", 1, 0)
        assert rig.server.requests == []


async def test_a_text_whose_key_is_away_waits_for_it_and_uses_up_no_try(
    database: Database, nats_server: NatsServer
) -> None:
    """The keyring is the operator's affair and comes back: nothing is given up for it."""
    async with open_rig(database, nats_server) as rig:
        shut = Keyring("k9", {"k9": bytes(32)}).seal(b"hello", b"")
        (id_,) = await rig.accepted(1, text_sealed=shut)
        await rig.bundle([id_])
        (row,) = await rig.flow.pool.fetch(
            """select s.state::text, s.tries, o.dispatch_at > clock_timestamp() as is_later
            from tollwire.message_states s join tollwire.outbox o using (message_id) where message_id = $1""",
            id_,
        )
        assert (row["state"], row["tries"], row["is_later"]) == ("QUEUED", 0, True)
        assert rig.server.requests == []
