"""The clockwork on real PostgreSQL and JetStream: what was dropped is dispatched, what waits is left."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import nats
import pytest
from nats.aio.client import Client

from embedded.nats import NatsServer
from ledger.clockwork import END_MAX, UNWORKABLE, Clockwork
from ledger.clockwork_store import look_due
from shared.domain.ids import uuid7_from
from shared.events.bundles import BUNDLE_MAX, Bundle, decode, encode
from shared.runtime.jetstream import JetStream, JetStreamDown, PublishFailed, open_jetstream
from shared.runtime.server_calls import PartitionMissing
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import Flow, accept_item, open_flow, outcome
from tests.support.old_days import drop_days, soon_given_up
from tests.support.servers import Database
from worker.store import put_off_work

WAITING = 500


@dataclass(frozen=True, slots=True)
class Works:
    """A clockwork, and what it works on."""

    flow: Flow
    jetstream: JetStream
    clockwork: Clockwork
    client: int
    carrier: int

    async def accepted(self, number: int, **changes: object) -> list[UUID]:
        """Accept messages into the stream's present life."""
        items = [accept_item(self.client, carrier_id=self.carrier, **changes) for _ in range(number)]
        await self.flow.accept(items, incarnation=self.jetstream.stream_incarnation("SMS_SEND"))
        return sorted(item.message_id for item in items)

    async def publish(self, ids: Sequence[UUID], dispatch_no: int = 1) -> None:
        """Publish them as the API does."""
        for start in range(0, len(ids), BUNDLE_MAX):
            work = [(id_.hex, dispatch_no) for id_ in ids[start : start + BUNDLE_MAX]]
            bundle = Bundle(lane="normal", carrier_id=self.carrier, work=work)
            await self.jetstream.publish(
                "sms.send.normal", encode(bundle), message_id=f"{work[0][0]}.{dispatch_no}"
            )


@pytest.fixture
async def works(database: Database, nats_server: NatsServer) -> AsyncIterator[Works]:
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
    ):
        client, carrier = await flow.client(), await flow.carrier()
        await until_streams_are_there(jetstream)
        yield Works(flow, jetstream, Clockwork(flow.pool, jetstream, facts), client, carrier)


async def until_streams_are_there(jetstream: JetStream) -> None:
    assert await jetstream.wait_connected(20.0)
    await jetstream.ensure_streams()


@asynccontextmanager
async def raw(server: NatsServer) -> AsyncIterator[Client]:
    connection = await nats.connect(server.url, token=server.token)
    try:
        yield connection
    finally:
        await connection.close()


async def in_stream(server: NatsServer) -> list[tuple[UUID, int]]:
    """Every (message, dispatch number) in SMS_SEND, without taking it out."""
    async with raw(server) as connection:
        api = connection.jetstream()
        state = (await api.stream_info("SMS_SEND")).state
        found: list[tuple[UUID, int]] = []
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            bundle = decode((await api.get_msg("SMS_SEND", sequence)).data or b"")
            found += [(UUID(id_), number) for id_, number in bundle.work]
        return found


async def test_what_waits_in_the_stream_is_not_published_again(works, nats_server):
    ids = await works.accepted(WAITING)
    await works.publish(ids)
    await works.flow.later(ids, 0.5)  # the bundles came half a second before
    await works.flow.pool.execute("update tollwire.outbox set due_at = clock_timestamp()")
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted((id_, 1) for id_ in ids)
    lease = await works.flow.pool.fetchval("select min(lease_seconds) from tollwire.outbox")
    assert lease == 120, "the lease of what waits doubles"


async def test_a_wiped_stream_is_filled_again_in_two_sweeps(works, nats_server):
    ids = await works.accepted(WAITING)
    await works.publish(ids)
    async with raw(nats_server) as connection:
        await connection.jetstream().delete_stream("SMS_SEND")
    await works.jetstream.ensure_streams()
    await works.flow.later(ids, 61)
    await works.clockwork.turn()
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted((id_, 2) for id_ in ids)


async def waiting_for_an_hour(works: Works) -> list[UUID]:
    """Messages that wait in the stream since an outage of the workers, with the longest leases."""
    ids = await works.accepted(50)
    await works.publish(ids)
    await works.flow.later(ids, 0.5)
    for start in range(0, 50, 10):
        sql = """update tollwire.outbox set due_at = clock_timestamp(), lease_seconds = 1800
                 where message_id = any ($1)"""
        await works.flow.pool.execute(sql, ids[start : start + 10])
        await works.clockwork.turn()
    assert await wait_seconds(works.flow.pool, "outbox", ids[0]) > 3_500
    await works.flow.later(ids, 8)
    return ids


@pytest.mark.parametrize("is_same_process", [True, False])
async def test_a_wiped_stream_is_noticed_however_long_the_leases_of_what_it_had(
    works, nats_server, monkeypatch, is_same_process
):
    monkeypatch.setattr("ledger.clockwork.LEASES_MAX", 20)
    ids = await waiting_for_an_hour(works)
    if is_same_process:
        for _ in range(5):
            await works.clockwork.end_lost_leases()
        assert "dispatch" not in await look_due(works.flow.pool, 100), "nothing is lost yet"
    async with raw(nats_server) as connection:
        await connection.jetstream().delete_stream("SMS_SEND")
    await works.jetstream.ensure_streams()
    for _ in range(4):
        await works.clockwork.end_lost_leases()
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted((id_, 2) for id_ in ids)
    assert works.clockwork._lease_walk.is_over


SHIFTED_CLOCK = """
    create schema shifted;
    grant usage on schema shifted to public;
    create function shifted.clock_timestamp() returns timestamptz language sql as
        $$ select pg_catalog.clock_timestamp() + interval '{seconds} seconds' $$;
    do $$
    declare
        f record;
    begin
        for f in select p.oid::regprocedure as name
                 from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                 where n.nspname in ('tollwire', 'ledger') and p.proconfig::text like '%search_path=%' loop
            execute format('alter function %s set search_path = shifted, pg_catalog, pg_temp', f.name);
        end loop;
        execute format('alter database %I set search_path = shifted, pg_catalog, public', current_database());
    end $$;
"""


@pytest.mark.parametrize("seconds", [-10, 10])
async def test_a_nats_whose_clock_is_off_makes_no_waiting_work_look_lost_and_no_lost_look_waiting(
    works, nats_server, seconds
):
    """The database's clock is moved: neither can tell which of the two is right."""
    pool = works.flow.pool
    await pool.execute(SHIFTED_CLOCK.format(seconds=seconds))
    await pool.expire_connections()
    lost = await works.accepted(2)
    await works.flow.later(lost, 7)
    ids = await works.accepted(3)
    await works.publish(ids)
    await works.flow.later(ids, 0.5)  # the bundle came half a second before
    await pool.execute("update tollwire.outbox set due_at = clock_timestamp()")
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted([(i, 1) for i in ids] + [(i, 2) for i in lost])


async def test_a_bundle_that_was_acknowledged_and_not_done_is_dispatched_again(works, nats_server):
    ids = await works.accepted(3)
    await works.flow.later(ids, 61)
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted((id_, 2) for id_ in ids)


async def test_a_scheduled_message_is_queued_and_dispatched_when_its_time_comes(works, nats_server):
    (id_,) = await works.accepted(
        1, send_at=await works.flow.pool.fetchval("select clock_timestamp() + interval '1 hour'")
    )
    await works.clockwork.turn()
    assert (await works.flow.state(id_), await in_stream(nats_server)) == ("SCHEDULED", [])
    await works.flow.later([id_], 3_601)
    await works.clockwork.turn()
    await works.clockwork.turn()
    assert await works.flow.state(id_) == "QUEUED"
    assert [found for found, _ in await in_stream(nats_server)] == [id_]


async def test_a_claim_whose_worker_died_is_taken_over_after_its_deadline(works):
    ids = await works.accepted(2)
    await works.flow.claim(ids, works.carrier)
    await works.flow.pool.execute("update tollwire.outbox set due_at = clock_timestamp()")
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in ids} == {"SENDING"}
    await works.flow.later(ids, 66)
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in ids} == {"UNKNOWN"}


async def test_what_waited_beyond_its_validity_expires_with_release(works):
    ids = await works.accepted(2, valid_seconds=60)
    await works.flow.later(ids, 61)
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in ids} == {"EXPIRED"}
    assert (await works.flow.account(works.client))["held_micros"] == 0


async def test_a_hold_without_a_receipt_ends_by_the_carriers_policy_at_its_own_time(works):
    await works.flow.pool.execute("update tollwire.carriers set no_receipt_seconds = 1")
    ids = await works.accepted(2)
    await works.flow.submitted(ids, works.carrier)
    await works.clockwork.expire_holds()
    assert {await works.flow.state(id_) for id_ in ids} == {"SENT"}
    await works.flow.later(ids, 2)
    await age_the_watch(works.flow.pool)
    await age_the_walk(works.flow.pool, ids)
    await works.clockwork.expire_holds()
    assert {await works.flow.state(id_) for id_ in ids} == {"EXPIRED"}
    assert (await works.flow.account(works.client))["held_micros"] == 0


async def test_many_holds_end_in_calls_that_each_stay_short(works):
    await works.flow.pool.execute("update tollwire.carriers set no_receipt_seconds = 1")
    ids = await works.accepted(END_MAX + 1)
    await works.flow.submitted(ids, works.carrier)
    await works.flow.later(ids, 2)
    await age_the_walk(works.flow.pool, ids)
    await works.clockwork.expire_holds()
    calls = "select count(*) from ledger.credit_locks where state = 'RELEASED' group by xmin order by 1"
    assert [row[0] for row in await works.flow.pool.fetch(calls)] == [1, END_MAX]


async def test_many_messages_expire_in_calls_that_each_stay_short(works):
    ids = await works.accepted(END_MAX + 1, valid_seconds=60)
    await works.flow.later(ids, 61)
    await works.clockwork.turn()
    calls = "select count(*) from ledger.credit_locks where state = 'RELEASED' group by xmin order by 1"
    assert [row[0] for row in await works.flow.pool.fetch(calls)] == [1, END_MAX]


async def age_the_walk(pool: asyncpg.Pool, ids: Sequence[UUID]) -> None:
    """The walk goes by the time in the ids, which cannot be moved: let the watch find them instead."""
    await pool.execute(
        "insert into tollwire.hold_watch select unnest($1::uuid[]), clock_timestamp() on conflict do nothing",
        ids,
    )


async def test_partitions_are_there_for_a_week(works):
    await works.clockwork.make_partitions()
    days = await works.flow.pool.fetchval(
        "select count(*) from pg_inherits where inhparent = 'tollwire.messages'::regclass"
    )
    assert days >= 8


async def test_without_the_days_partitions_nothing_is_taken_for_unworkable(works, monkeypatch):
    await works.flow.endpoint(works.client)
    (id_,) = await works.accepted(1, valid_seconds=60)
    await works.flow.later([id_], 61)
    await drop_days(works.flow, "tollwire.callbacks")
    with monkeypatch.context() as in_a_hurry:
        soon_given_up(in_a_hurry, "ledger.clockwork_store.CALL_DEADLINE_SECONDS")
        with pytest.raises(PartitionMissing):
            await works.clockwork.turn()
    await works.clockwork.make_partitions()
    await works.clockwork.turn()
    assert await works.flow.state(id_) == "EXPIRED"


async def test_a_message_that_was_charged_at_the_submit_ends_without_a_receipt_too(works):
    await works.flow.pool.execute("update tollwire.carriers set no_receipt_seconds = 1")
    (id_,) = await works.accepted(1, charge="submitted")
    await works.flow.submitted([id_], works.carrier)
    await works.flow.later([id_], 2)
    seen = await works.flow.pool.fetch(
        "select * from ledger.walk_holds_v1('00000000-0000-0000-0000-000000000000', "
        "'ffffffff-ffff-ffff-ffff-ffffffffffff', 10)"
    )
    assert [tuple(row) for row in seen] == [(id_, True)], "the walk names it although nothing is held"
    await age_the_walk(works.flow.pool, [id_])
    await works.clockwork.expire_holds()
    assert await works.flow.state(id_) == "EXPIRED"
    assert (await works.flow.lock(id_))["state"] == "CAPTURED"


async def test_what_cannot_be_dispatched_hides_nothing_behind_it(works, monkeypatch):
    waiting = await works.accepted(5)
    expired = await works.accepted(2, valid_seconds=60)
    await works.flow.later(waiting, 3_600)
    await works.flow.later(expired, 61)
    monkeypatch.setattr("ledger.clockwork.DUE_MAX", 5)
    monkeypatch.setattr(type(works.jetstream), "connected", property(lambda _: False))
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in expired} == {"EXPIRED"}
    assert {await works.flow.state(id_) for id_ in waiting} == {"QUEUED"}


@pytest.mark.parametrize("silent", ["oldest_ms", "publish"])
async def test_without_a_quorum_everything_but_the_dispatch_goes_on(works, nats_server, monkeypatch, silent):
    """The connection stands, JetStream does not answer."""
    waiting = await works.accepted(5)
    expired = await works.accepted(2, valid_seconds=60)
    now = await works.flow.pool.fetchval("select clock_timestamp()")
    scheduled = await works.accepted(2, send_at=now + timedelta(seconds=30))
    await works.flow.later(waiting, 3_600)
    await works.flow.later(expired, 61)
    await works.flow.later(scheduled, 31)

    async def no_answer(*_: object, **__: object) -> None:
        if silent == "oldest_ms":
            raise JetStreamDown("no quorum")
        await asyncio.Event().wait()

    monkeypatch.setattr("ledger.clockwork.DUE_MAX", 5)
    with monkeypatch.context() as without_quorum:
        without_quorum.setattr("ledger.clockwork.PUBLISHING_SECONDS", 0.05)
        without_quorum.setattr(type(works.jetstream), silent, no_answer)
        await works.clockwork.turn()
        await works.clockwork.turn()
        assert {await works.flow.state(id_) for id_ in expired} == {"EXPIRED"}
        assert {await works.flow.state(id_) for id_ in [*waiting, *scheduled]} == {"QUEUED"}
    works.clockwork._rests_until = 0.0
    await works.flow.later([*waiting, *scheduled], 10)
    await works.clockwork.turn()
    assert {id_ for id_, _ in await in_stream(nats_server)} == {*waiting, *scheduled}


async def test_a_lane_that_is_refused_holds_up_no_other(works, nats_server, monkeypatch):
    refused = await works.accepted(1, lane="express")
    others = [*await works.accepted(1, lane="normal"), *await works.accepted(1, lane="bulk")]
    for age, ids in ((63, refused), (61, others)):  # the refused one stands first
        await works.flow.later(ids, age)
    publish = type(works.jetstream).publish

    async def take(jetstream: JetStream, subject: str, *args: object, **options: object) -> None:
        if subject == "sms.send.express":
            raise PublishFailed("permissions violation")
        await publish(jetstream, subject, *args, **options)

    monkeypatch.setattr(type(works.jetstream), "publish", take)
    await works.clockwork.turn()
    assert {id_ for id_, _ in await in_stream(nats_server)} == set(others)
    assert await wait_seconds(works.flow.pool, "outbox", refused[0]) <= 1
    assert works.clockwork._rests_until == 0.0


async def test_a_stream_that_lost_what_it_had_and_is_as_old_as_before_is_noticed_by_the_next_walk(
    works, nats_server, monkeypatch
):
    ids = await waiting_for_an_hour(works)
    await works.clockwork.end_lost_leases()
    assert works.clockwork._lease_walk.is_over
    async with raw(nats_server) as connection:
        await connection.jetstream().purge_stream("SMS_SEND")
    await works.flow.later(ids, 60)
    await works.clockwork.end_lost_leases()
    assert "dispatch" not in await look_due(works.flow.pool, 100), "the next walk is minutes away"
    monkeypatch.setattr("ledger.lease_walk.WALK_EVERY_SECONDS", 0.0)
    await works.clockwork.end_lost_leases()
    await works.clockwork.turn()
    assert sorted(await in_stream(nats_server)) == sorted((id_, 2) for id_ in ids)


async def test_with_an_empty_outbox_a_walk_asks_nats_for_nothing(works, monkeypatch):
    monkeypatch.setattr("ledger.lease_walk.WALK_EVERY_SECONDS", 0.0)
    await works.accepted(1, send_at=datetime.now(UTC) + timedelta(hours=2))
    asked = []
    monkeypatch.setattr(type(works.jetstream), "now_ms", lambda *_: asked.append(1))
    for _ in range(2):
        await works.clockwork.end_lost_leases()
    assert (asked, works.clockwork._lease_walk.is_over) == ([], True)


async def test_what_was_put_off_hides_no_lost_lease(works, monkeypatch):
    """Each look sees a few rows only, and others stand before the lost one in every look."""
    monkeypatch.setattr("ledger.clockwork.LEASES_MAX", 3)
    put_off = await works.accepted(9)
    seconds = [54.0 - number / 10 for number in range(len(put_off))]
    await put_off_work(works.flow.pool, [(id_.hex, 1) for id_ in put_off], seconds)
    (lost,) = await works.accepted(1)
    await works.flow.later([lost], 9)
    for _ in range(5):
        await works.clockwork.end_lost_leases()
    assert await wait_seconds(works.flow.pool, "outbox", lost) <= 0
    assert await works.flow.pool.fetchval("select count(*) from tollwire.outbox where due_at <= now()") == 1
    assert works.clockwork._lease_walk.is_over, "the walk begins anew"


async def test_a_fresh_lease_that_is_lost_waits_for_no_walk_over_long_ones(works, monkeypatch):
    """A new process looks at the longest leases first, page by page."""
    monkeypatch.setattr("ledger.clockwork.LEASES_MAX", 3)
    long = await works.accepted(9)
    await works.flow.pool.execute("update tollwire.outbox set due_at = now() + interval '30 minutes'")
    (lost,) = await works.accepted(1)
    await works.flow.later([lost], 9)
    await works.clockwork.end_lost_leases()
    assert await wait_seconds(works.flow.pool, "outbox", lost) <= 0
    assert not works.clockwork._lease_walk.is_over, "the walk over the others goes on"
    assert all([await wait_seconds(works.flow.pool, "outbox", id_) > 1_700 for id_ in long])


async def break_state(pool: asyncpg.Pool, ids: Sequence[UUID]) -> None:
    """Let every call that moves these messages fail: the counter of their moves is at its end."""
    await pool.execute(
        "update tollwire.message_states set sequence = 32767 where message_id = any ($1::uuid[])", ids
    )


async def wait_seconds(pool: asyncpg.Pool, table: str, id_: UUID) -> int:
    """In how many seconds somebody looks again."""
    sql = f"select extract(epoch from due_at - clock_timestamp()) from tollwire.{table} where message_id = $1"
    return round(float(await pool.fetchval(sql, id_)))


async def test_one_message_that_cannot_be_moved_holds_up_nobody(works, nats_server):
    expired = await works.accepted(7, valid_seconds=60)
    waiting = await works.accepted(3)
    stuck = expired[3]
    await works.flow.later(expired, 61)
    await works.flow.later(waiting, 61)
    await break_state(works.flow.pool, [stuck])
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in expired if id_ != stuck} == {"EXPIRED"}
    assert sorted(await in_stream(nats_server)) == sorted((id_, 2) for id_ in waiting)


async def test_what_cannot_be_moved_is_tried_less_and_less_often_and_counted(works):
    (stuck,) = await works.accepted(1, valid_seconds=60)
    await works.flow.later([stuck], 61)
    await break_state(works.flow.pool, [stuck])
    before = UNWORKABLE.labels("expire")._value.get()
    waits = []
    for _ in range(8):
        await works.clockwork.turn()
        waits.append(await wait_seconds(works.flow.pool, "outbox", stuck))
        await works.flow.pool.execute("update tollwire.outbox set due_at = clock_timestamp()")
    assert waits == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600], abs=5)
    assert UNWORKABLE.labels("expire")._value.get() - before == len(waits)
    await works.flow.pool.execute("update tollwire.message_states set sequence = 1")
    await works.clockwork.turn()
    assert await works.flow.state(stuck) == "EXPIRED", "mended, it goes on"


async def test_any_number_that_cannot_be_moved_hides_nothing_behind_it(works, monkeypatch):
    stuck = await works.accepted(6, valid_seconds=60)
    expired = await works.accepted(3, valid_seconds=60)
    await works.flow.later(stuck, 3_600)
    await works.flow.later(expired, 61)
    await break_state(works.flow.pool, stuck)
    monkeypatch.setattr("ledger.clockwork.DUE_MAX", 3)
    await works.clockwork.turn()
    assert {await works.flow.state(id_) for id_ in expired} == {"EXPIRED"}


async def test_what_a_call_leaves_due_without_an_error_is_put_off_too(works):
    """What waits for its outcome and is no message: nothing that an expiry could end."""
    pool = works.flow.pool
    (stuck,) = await works.accepted(1)
    await works.flow.claim([stuck], works.carrier)
    await works.flow.record([outcome(stuck, 1, "uncertain")], works.carrier)
    await pool.execute("create table kept as select * from tollwire.messages")
    await pool.execute("delete from tollwire.messages")
    await works.flow.later([stuck], 4_000)
    await works.clockwork.turn()
    await works.clockwork.turn()
    assert await wait_seconds(pool, "outbox", stuck) == pytest.approx(60, abs=5)
    await pool.execute("insert into tollwire.messages select * from kept")


async def sent_long_ago(works: Works, number: int) -> list[UUID]:
    """Messages that the walk over the holds has not passed yet: their ids are of a quarter of an hour ago."""
    await works.flow.pool.execute("update tollwire.carriers set no_receipt_seconds = 1")
    then_ms = time.time_ns() // 1_000_000 - 900_000
    ids = [uuid7_from(then_ms + place, place) for place in range(number)]
    for id_ in ids:
        await works.accepted(1, message_id=id_)
    await works.flow.submitted(ids, works.carrier)
    await works.flow.later(ids, 2)
    return ids


async def test_a_hold_that_the_walk_could_not_end_is_looked_at_again(works):
    ids = await sent_long_ago(works, 3)
    stuck = ids[1]
    await break_state(works.flow.pool, [stuck])
    await works.clockwork.expire_holds()
    assert [await works.flow.state(id_) for id_ in ids] == ["EXPIRED", "SENT", "EXPIRED"]
    assert await wait_seconds(works.flow.pool, "hold_watch", stuck) == pytest.approx(3_600, abs=5)
    await works.flow.pool.execute("update tollwire.message_states set sequence = 3")
    await age_the_watch(works.flow.pool)
    await works.clockwork.expire_holds()
    assert await works.flow.state(stuck) == "EXPIRED"
    assert await works.flow.pool.fetchval("select count(*) from tollwire.hold_watch") == 0


async def test_the_walk_over_holds_finds_what_was_accepted_after_a_clock_was_set_right(works):
    """While it was ahead the walk came to ids of a time that is still to come."""
    ids = await sent_long_ago(works, 2)
    ahead = uuid7_from(time.time_ns() // 1_000_000 + 3_600_000, 1)
    await works.flow.pool.execute("select tollwire.set_watermark_v1('expire_holds', $1)", str(ahead))
    await works.clockwork.expire_holds()
    assert [await works.flow.state(id_) for id_ in ids] == ["EXPIRED", "EXPIRED"]
    mark = "select position from tollwire.watermarks where name = 'expire_holds'"
    assert await works.flow.pool.fetchval(mark) == str(ids[-1])


async def test_a_watched_hold_that_cannot_end_waits_behind_the_others(works, monkeypatch):
    ids = await sent_long_ago(works, 4)
    await age_the_walk(works.flow.pool, ids)
    await break_state(works.flow.pool, ids[:2])
    monkeypatch.setattr("ledger.clockwork.END_MAX", 2)
    monkeypatch.setattr("ledger.clockwork.WALKS_MAX", 0)
    await works.clockwork.expire_holds()
    assert [await works.flow.state(id_) for id_ in ids] == ["SENT", "SENT", "EXPIRED", "EXPIRED"]
    assert await wait_seconds(works.flow.pool, "hold_watch", ids[0]) == pytest.approx(3_600, abs=5)


async def age_the_watch(pool: asyncpg.Pool) -> None:
    await pool.execute("update tollwire.hold_watch set due_at = clock_timestamp()")


async def test_what_a_carrier_may_have_is_asked_again_of_that_carrier_alone(works):
    other = await works.flow.carrier()
    (id_,) = await works.accepted(1)
    again = {"may_ask_again": True}
    for word, retry in (("uncertain", 0.0), ("refused_temp", 0.0)):
        (claim,) = await works.flow.claim([id_], works.carrier)
        line = outcome(id_, claim.attempt_no, word, retry_seconds=retry, next_carrier_id=other)
        await works.flow.record([line], works.carrier, **again)
    row = await works.flow.outbox(id_)
    assert row is not None
    assert row["carrier_id"] == works.carrier
