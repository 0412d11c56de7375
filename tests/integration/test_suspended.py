"""A suspended client's messages end, whatever they wait for, and nobody else's."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from embedded.nats import NatsServer
from ledger.clockwork import Clockwork
from ledger.clockwork_store import Moved
from ledger.suspended import Suspended
from shared.runtime.jetstream import open_jetstream
from shared.runtime.postgres import OutcomeUnknown
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database

SUSPEND = "update tollwire.clients set suspended = $2 where id = $1"

STUCK = "update tollwire.message_states set sequence = 32767 where message_id = any ($1::uuid[])"


class Rig(NamedTuple):
    """What looks after suspended clients, and what they have."""

    flow: Flow
    suspended: Suspended
    carrier: int
    calls: list[int]  # of how many messages each call was

    async def suspend(self, client: int, is_suspended: bool = True) -> None:
        """Stop a client's sending, or let it go on."""
        await self.flow.pool.execute(SUSPEND, client, is_suspended)

    async def states(self, ids: list[UUID]) -> set[str]:
        """The states that messages are in."""
        return {await self.flow.state(id_) for id_ in ids}


@pytest.fixture
async def rig(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    monkeypatch.setattr("ledger.suspended.ON_THEIR_WAY_SECONDS", 0.0)
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
    ):
        clockwork = Clockwork(flow.pool, jetstream, facts)
        calls: list[int] = []

        async def expire(message_ids: Sequence[UUID]) -> Sequence[Moved]:
            calls.append(len(message_ids))
            return await clockwork.expire(message_ids)

        yield Rig(flow, Suspended(flow.pool, expire), await flow.carrier(), calls)


async def waiting_of_every_kind(rig: Rig, client: int) -> list[UUID]:
    """Messages that are queued, paced, scheduled, and to be tried again."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ids = await rig.flow.accepted(client, 3)  # the client is paced: two of them wait for their places
    ids += await rig.flow.accepted(client, 2, send_at=tomorrow)
    (again,) = await rig.flow.accepted(client, is_test=True)
    (claim,) = await rig.flow.claim([again], rig.carrier)
    await rig.flow.record(
        [outcome(again, claim.attempt_no, "refused_temp", retry_seconds=900.0)], rig.carrier
    )
    assert await rig.states([*ids, again]) == {"QUEUED", "SCHEDULED", "FAILED_TEMP"}
    return [*ids, again]


async def test_what_waits_ends_when_its_client_is_suspended_and_not_when_it_would_go(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.ROWS_MAX", 4)
    monkeypatch.setattr("ledger.suspended.PAGES_MAX", 2)
    client, other = (
        await rig.flow.client(interval_us=10_000_000),
        await rig.flow.client(interval_us=10_000_000),
    )
    waiting, others = await waiting_of_every_kind(rig, client), await waiting_of_every_kind(rig, other)
    await rig.suspend(client)
    for _ in range(4):
        await rig.suspended.run_once()
    assert await rig.states(waiting) == {"FAILED_PERM"}
    assert {(await rig.flow.state_row(id_))["error_code"] for id_ in waiting} == {"client_suspended"}
    assert (await rig.flow.account(client))["held_micros"] == 0
    assert await rig.states(others) == {"QUEUED", "SCHEDULED", "FAILED_TEMP"}
    await rig.suspend(client, False)
    await rig.suspended.run_once()
    assert await rig.states(waiting) == {"FAILED_PERM"}, "what has ended stays so"


def in_a_day() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


async def test_many_messages_end_in_small_parts(rig):
    client = await rig.flow.client()
    ids = await rig.flow.accepted(client, 250, send_at=in_a_day())
    await rig.suspend(client)
    await rig.suspended.run_once()
    assert rig.calls == [100, 100, 50]
    assert await rig.states(ids) == {"FAILED_PERM"}


async def test_a_look_ends_in_time_and_the_next_one_goes_on(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)  # less than a part and its pause take
    client = await rig.flow.client()
    ids = await rig.flow.accepted(client, 250, send_at=in_a_day())
    await rig.suspend(client)
    ended = []
    for _ in range(4):
        await rig.suspended.run_once()
        ended.append(sum([await rig.flow.state(id_) == "FAILED_PERM" for id_ in ids]))
    assert ended == [100, 200, 250, 250]


async def test_a_part_with_many_that_no_call_can_end_is_left_until_they_are_due(rig):
    client = await rig.flow.client()
    ids = await rig.flow.accepted(client, 200, send_at=in_a_day())
    await rig.flow.pool.execute(STUCK, sorted(ids)[:100])
    await rig.suspend(client)
    await rig.suspended.run_once()
    assert len(rig.calls) < 20
    assert await rig.states(sorted(ids)[100:]) == {"FAILED_PERM"}


async def test_the_log_says_whose_walk_is_over_and_what_it_ended(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.ROWS_MAX", 2)
    client, idle = await rig.flow.client(), await rig.flow.client()
    await rig.flow.accepted(client, 3, send_at=in_a_day())
    for one in (client, idle):
        await rig.suspend(one)
    with capture_logs() as logs:
        await rig.suspended.run_once()
    names = [
        await rig.flow.pool.fetchval("select name from tollwire.clients where id = $1", one)
        for one in (client, idle)
    ]
    over = {(line["client"], line["ended"]) for line in logs if line["event"] == "walk over"}
    assert over == {(names[0], 3), (names[1], 0)}


async def test_the_log_says_whose_messages_are_left_also_where_few_are(rig):
    client, other = await rig.flow.client(), await rig.flow.client()
    (stuck, *_), (*_, last) = [await rig.flow.accepted(one, 3, send_at=in_a_day()) for one in (client, other)]
    await rig.flow.pool.execute(STUCK, [stuck])
    for one in (client, other):
        await rig.suspend(one)
    with capture_logs() as logs:
        await rig.suspended.run_once()
    assert [await rig.flow.state(one) for one in (stuck, last)] == ["SCHEDULED", "FAILED_PERM"]
    over = {(line["ended"], line["has_left"]) for line in logs if line["event"] == "walk over"}
    assert over == {(2, True), (3, False)}


async def test_who_is_suspended_while_a_long_walk_is_under_way_does_not_wait_for_its_end(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)  # less than a part and its pause take
    client, later = await rig.flow.client(), await rig.flow.client()
    (early,) = await rig.flow.accepted(later, send_at=in_a_day())
    many = await rig.flow.accepted(client, 500, send_at=in_a_day())
    (last,) = await rig.flow.accepted(later, send_at=in_a_day())
    await rig.suspend(client)
    await rig.suspended.run_once()
    await rig.suspend(later)
    with capture_logs() as logs:
        for _ in range(2):
            await rig.suspended.run_once()
    assert await rig.states([early, last]) == {"FAILED_PERM"}
    assert [line["ended"] for line in logs if line["event"] == "walk over"] == [2]
    assert "SCHEDULED" in await rig.states(many)
    for _ in range(3):
        await rig.suspended.run_once()
    assert await rig.states(many) == {"FAILED_PERM"}


async def test_a_walk_ends_when_its_client_is_let_go_on(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)
    client = await rig.flow.client()
    await rig.flow.accepted(client, 300, send_at=in_a_day())
    await rig.suspend(client)
    await rig.suspended.run_once()
    await rig.suspend(client, False)
    for _ in range(3):
        await rig.suspended.run_once()
    assert rig.calls == [100]


async def test_more_walks_than_go_at_once_go_after_each_other(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("ledger.suspended.WALKS_MAX", 1)
    client, later = await rig.flow.client(), await rig.flow.client()
    ids = await rig.flow.accepted(client, 200, send_at=in_a_day())
    ids += await rig.flow.accepted(later, 1, send_at=in_a_day())
    for one in (client, later):
        await rig.suspend(one)
        await rig.suspended.run_once()
    assert rig.calls == [100, 100]
    for _ in range(2):
        await rig.suspended.run_once()
    assert await rig.states(ids) == {"FAILED_PERM"}


async def test_who_is_let_go_on_and_stopped_again_between_two_looks_is_walked_for_again(rig):
    client = await rig.flow.client()
    await rig.suspend(client)
    await rig.suspended.run_once()
    await rig.suspend(client, False)
    (late,) = await rig.flow.accepted(client, send_at=in_a_day())
    await rig.suspend(client)
    await rig.suspended.run_once()
    assert await rig.flow.state(late) == "FAILED_PERM"


async def test_what_a_carrier_may_have_is_left_to_it(rig):
    client = await rig.flow.client()
    sent, sending, unknown = ids = await rig.flow.accepted(client, 3)
    await rig.flow.submitted([sent], rig.carrier)
    await rig.flow.claim([sending, unknown], rig.carrier)
    await rig.flow.record([outcome(unknown, 1, "uncertain")], rig.carrier)
    await rig.suspend(client)
    await rig.suspended.run_once()
    assert [await rig.flow.state(id_) for id_ in ids] == ["SENT", "SENDING", "UNKNOWN"]


async def test_each_suspension_is_walked_for_once(rig, monkeypatch):
    client = await rig.flow.client()
    await rig.suspend(client)
    for _ in range(2):
        await rig.suspended.run_once()
    (late,) = await rig.flow.accepted(client, send_at=in_a_day())
    await rig.suspended.run_once()
    assert await rig.flow.state(late) == "SCHEDULED", "the walk is over; it ends at its time"
    await rig.suspend(client, False)
    await rig.suspended.run_once()
    await rig.suspend(client)
    await rig.suspended.run_once()
    assert await rig.flow.state(late) == "FAILED_PERM"


async def test_what_is_accepted_while_processes_still_hear_of_it_is_waited_for(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.ON_THEIR_WAY_SECONDS", 3_600.0)
    client = await rig.flow.client()
    await rig.suspend(client)
    await rig.suspended.run_once()
    (late,) = await rig.flow.accepted(client, send_at=in_a_day())
    monkeypatch.setattr("ledger.suspended.ON_THEIR_WAY_SECONDS", 0.0)
    await rig.suspended.run_once()
    assert await rig.flow.state(late) == "FAILED_PERM"


async def test_nobody_elses_validity_is_judged_before_its_time(rig):
    """What ends before it is due is what its client's suspension ends, and nothing else."""
    client = await rig.flow.client()
    (queued,) = await rig.flow.accepted(client)
    (unknown,) = await rig.flow.accepted(client)
    await rig.flow.claim([unknown], rig.carrier)
    await rig.flow.record([outcome(unknown, 1, "uncertain")], rig.carrier)
    assert await rig.flow.expire([queued, unknown]) == []
    await rig.suspend(client)
    assert [(m.message_id, m.state) for m in await rig.flow.expire([queued, unknown])] == [
        (queued, "FAILED_PERM")
    ]


async def test_a_walk_goes_on_whatever_else_of_its_client_is_changed(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)  # less than a part and its pause take
    client = await rig.flow.client()
    await rig.flow.accepted(client, 250, send_at=in_a_day())
    await rig.suspend(client)
    await rig.suspended.run_once()
    monkeypatch.setattr("ledger.suspended.ON_THEIR_WAY_SECONDS", 3_600.0)
    with capture_logs() as logs:
        for _ in range(3):
            await rig.suspend(client)
            await rig.suspended.run_once()
    assert [line["ended"] for line in logs if line["event"] == "walk over"] == [250]


async def test_a_walk_that_fails_leaves_the_others_their_turn(rig, monkeypatch):
    monkeypatch.setattr("ledger.suspended.LOOK_SECONDS", 0.02)  # less than a part and its pause take
    client, later = await rig.flow.client(), await rig.flow.client()
    many = await rig.flow.accepted(client, 150, send_at=in_a_day())
    (unlucky,) = await rig.flow.accepted(later, send_at=in_a_day())
    is_answered = False

    async def expire(message_ids: Sequence[UUID]) -> Sequence[Moved]:
        if unlucky in message_ids and not is_answered:
            raise OutcomeUnknown("expire", was_sent=True)
        moved: Sequence[Moved] = await rig.suspended._expire(message_ids)
        return moved

    suspended = Suspended(rig.flow.pool, expire)
    await rig.suspend(client)
    await suspended.run_once()
    await rig.suspend(later)
    with capture_logs() as logs:
        for _ in range(3):
            await suspended.run_once()
        assert await rig.states(many) == {"FAILED_PERM"}
        assert await rig.states([unlucky]) == {"SCHEDULED"}
        is_answered = True
        await suspended.run_once()
    assert await rig.states([unlucky]) == {"FAILED_PERM"}
    assert {"walk failed, will try again", "walk over"} <= {line["event"] for line in logs}
