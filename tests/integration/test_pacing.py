"""The pace in an account's row: places are given in order, and given back when nobody waits for them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import pytest

from ledger.clockwork_store import start_scheduled
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

SECOND_US = 1_000_000
# What a test itself may take between two calls, and what is dispatched at once anyway.
SLACK_SECONDS = 10.0


async def place(flow: Flow, message: UUID) -> datetime:
    row = await flow.outbox(message)
    assert row is not None
    at: datetime = row["dispatch_at"]
    return at


async def places(flow: Flow, messages: Sequence[UUID]) -> list[datetime]:
    return sorted([await place(flow, message) for message in messages])


async def next_wait_seconds(flow: Flow, client: int) -> float:
    """How long the next message of a client waits."""
    (message,) = await flow.accepted(client)
    sql = "select extract(epoch from $1::timestamptz - clock_timestamp())"
    return float(await flow.pool.fetchval(sql, await place(flow, message)))


async def an_hour_ahead(flow: Flow, client: int, messages: Sequence[UUID], *, started: bool) -> None:
    """What was accepted, or ``started``, just now was so while the database's clock was an hour ahead."""
    later = "interval '1 hour' where"
    ids = "any ($1::uuid[])"
    await flow.pool.execute(
        f"update tollwire.outbox set due_at = due_at + interval '1 hour',"
        f" dispatch_at = dispatch_at + {later} message_id = {ids}",
        messages,
    )
    states = f"update tollwire.message_states set updated_at = updated_at + {later} message_id = {ids}"
    await flow.pool.execute(states, messages)
    if not started:
        made = f"update tollwire.messages set created_at = created_at + {later} id = {ids}"
        await flow.pool.execute(made, messages)
    await flow.pool.execute(
        "update ledger.accounts set next_dispatch_at = next_dispatch_at + interval '1 hour',"
        f" last_entry_at = last_entry_at + {later} id = $1",
        client,
    )


async def test_after_all_was_cancelled_the_next_message_goes_at_once(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        ids = await flow.accepted(client, 500)
        for start in range(0, 500, 100):
            await flow.cancel(client, ids[start : start + 100])
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS


async def test_what_still_waits_is_not_overtaken_when_others_are_cancelled(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=60 * SECOND_US)
        await flow.accepted(await flow.client(interval_us=SECOND_US), 700)  # somebody else's places between
        ids = await flow.accepted(client, 10)
        by_place = sorted([(await place(flow, id_), id_) for id_ in ids])
        await flow.cancel(client, [id_ for _, id_ in by_place[2:5]])
        (behind,) = await flow.accepted(client)
        assert (await place(flow, behind) - by_place[-1][0]).total_seconds() == 60
        await flow.cancel(client, [behind, *[id_ for _, id_ in by_place[7:]]])
        (instead,) = await flow.accepted(client)
        assert await place(flow, instead) == by_place[7][0], "the first place that was given back"


async def test_who_posts_and_cancels_is_no_faster_than_the_pace(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=60 * SECOND_US)
        (first,) = await flow.accepted(client)
        for _ in range(3):
            await flow.cancel(client, await flow.accepted(client, 2))
        (later,) = await flow.accepted(client)
        assert (
            60 <= (await place(flow, later) - await place(flow, first)).total_seconds() < 60 + SLACK_SECONDS
        )


async def test_what_expired_before_its_place_came_gives_it_back(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        ids = await flow.accepted(client, 300, valid_seconds=60)
        await flow.pool.execute("update tollwire.messages set valid_until = clock_timestamp()")
        await flow.pool.execute("update tollwire.outbox set due_at = clock_timestamp()")
        await flow.expire(ids)
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS


@pytest.mark.parametrize("waiting", [0, 100])
async def test_a_new_rate_holds_from_the_next_message_on(database: Database, waiting: int) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        ids = await flow.accepted(client, waiting + 1)
        ahead = "update ledger.accounts set next_dispatch_at = now() + interval '1 hour' where id = $1"
        await flow.pool.execute(ahead, client)
        await flow.pool.execute("select ledger.set_pacing_v1($1, 1000)", client)
        if waiting:
            (message,) = await flow.accepted(client)
            assert (await place(flow, message) - (await places(flow, ids))[-1]).total_seconds() == 0.001
        else:
            assert await next_wait_seconds(flow, client) < SLACK_SECONDS


async def test_a_retry_and_a_scheduled_message_hold_no_place(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        at = await flow.pool.fetchval("select clock_timestamp() + interval '5 minutes'")
        await flow.accepted(client, send_at=at)
        retried, *cancelled = await flow.accepted(client, 400)
        later = "update tollwire.outbox set due_at = $2, dispatch_at = $2, leased_at = null, dispatch_no = 2"
        await flow.pool.execute(f"{later} where message_id = $1", retried, at)
        await flow.cancel(client, cancelled)
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS


async def test_after_a_clock_that_was_ahead_nobody_waits_for_its_time(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        await an_hour_ahead(flow, client, await flow.accepted(client, 3), started=False)
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS
        many = await flow.accepted(client, 30)
        found = await places(flow, many)
        gaps = {(after - before).total_seconds() for before, after in pairwise(found)}
        assert gaps == {1.0}, "and they keep their pace"


@pytest.mark.parametrize("started", [False, True], ids=["accepted ahead", "started ahead"])
async def test_after_a_clock_that_was_ahead_no_scheduled_message_waits_for_its_time(
    database: Database, started: bool
) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        at = await flow.pool.fetchval("select clock_timestamp() + interval '5 minutes'")
        waiting = await flow.accepted(client, 2, send_at=at)
        ahead = await flow.accepted(client, 3, send_at=at if started else None)
        come = "update tollwire.outbox set dispatch_at = clock_timestamp(), due_at = clock_timestamp()"
        await flow.pool.execute(come)
        if started:
            await start_scheduled(flow.pool, ahead)
        await an_hour_ahead(flow, client, ahead, started=started)
        assert {moved.state for moved in await start_scheduled(flow.pool, waiting)} == {"QUEUED"}
        now = await flow.pool.fetchval("select clock_timestamp()")
        first, second = await places(flow, waiting)
        assert (first - now).total_seconds() < SLACK_SECONDS
        assert (second - first).total_seconds() == 1, "in its pace"
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS, "nor does what comes behind them"


async def test_test_messages_take_no_places(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=60 * SECOND_US)
        tests = await flow.accepted(client, 100, is_test=True)
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS
        tests += await flow.accepted(client, is_test=True)
        leased = "select count(*) from tollwire.outbox where leased_at is not null and message_id = any ($1)"
        assert await flow.pool.fetchval(leased, tests) == 101, "none waits behind a live one either"


async def test_scheduled_test_messages_take_no_places_when_their_time_comes(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=60 * SECOND_US)
        at = await flow.pool.fetchval("select clock_timestamp() + interval '5 minutes'")
        tests = await flow.accepted(client, 3, send_at=at, is_test=True)
        lives = await flow.accepted(client, 2, send_at=at)
        come = "update tollwire.outbox set dispatch_at = clock_timestamp(), due_at = clock_timestamp()"
        await flow.pool.execute(come)
        assert {moved.state for moved in await start_scheduled(flow.pool, [*tests, *lives])} == {"QUEUED"}
        first, second = await places(flow, lives)
        assert (second - first).total_seconds() == 60
        assert set(await places(flow, tests)) == {first}, "now, as the first live one"
        await flow.cancel(client, lives)
        assert await next_wait_seconds(flow, client) < 60 + SLACK_SECONDS, (
            "nobody waits for what a test holds"
        )


async def test_a_test_message_that_waits_holds_no_place(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=SECOND_US)
        ids = await flow.accepted(client, 400)
        as_before = "update tollwire.messages set is_test = true where id <> $1"
        await flow.pool.execute(as_before, ids[200])
        await flow.cancel(client, [ids[200]])
        assert await next_wait_seconds(flow, client) < SLACK_SECONDS
