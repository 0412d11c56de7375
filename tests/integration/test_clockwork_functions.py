"""The clockwork's functions: what is due, what is lost, what has waited too long."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import asyncpg

from ledger import clockwork_store as store
from tests.support.flow import TRIES_MAX, Flow, accept_item, open_flow, outcome
from tests.support.servers import Database
from worker.store import put_off_work

NONE_IN_STREAM = [None, None, None]
LOOKED_AT_MAX = 1_000


async def work_for(flow: Flow, message: UUID) -> str | None:
    """What look_due says that a message needs."""
    due = await store.look_due(flow.pool, 100)
    return next((work for work, ids in due.items() if message in ids), None)


async def row_of(flow: Flow, message: UUID) -> asyncpg.Record:
    row = await flow.outbox(message)
    assert row is not None
    return row


async def test_nothing_is_due_while_a_lease_lasts(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        assert await work_for(flow, message) is None
        await flow.later([message], 61)
        assert await work_for(flow, message) == "dispatch"


async def test_a_lost_bundle_is_dispatched_with_a_new_number_and_once_there_waits_longer(
    database: Database,
) -> None:
    """RULES 19."""
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        leases = []
        for number in (2, 3, 4):
            await flow.later([message], 3_700)
            (dispatch,) = await store.dispatch_due(flow.pool, [message], NONE_IN_STREAM, 1)
            assert (dispatch.dispatch_no, dispatch.lane) == (number, "normal")
            row = await row_of(flow, message)
            leases.append(((row["due_at"] - row["leased_at"]).total_seconds(), row["lease_seconds"]))
        assert leases == [(60, 120), (60, 240), (60, 480)]
        carrier = await flow.carrier()
        assert [c.refusal for c in await flow.claim([message], carrier, dispatch_no=1)] == ["stale"]
        assert [c.refusal for c in await flow.claim([message], carrier, dispatch_no=4)] == [None]


async def test_what_is_still_in_the_stream_is_only_put_off(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client(), lane="bulk")
        await flow.later([message], 61)
        oldest = [None, None, datetime.now(UTC) - timedelta(seconds=90)]
        assert await store.dispatch_due(flow.pool, [message], oldest, 1) == []
        row = await row_of(flow, message)
        assert (row["dispatch_no"], row["lease_seconds"]) == (1, 120)
        assert await work_for(flow, message) is None
        await flow.later([message], 121)
        # Another life of the stream: what it had is gone.
        assert [d.dispatch_no for d in await store.dispatch_due(flow.pool, [message], oldest, 2)] == [2]


async def ended_early(flow: Flow, oldest: Sequence[datetime | None], incarnation: int = 1) -> int:
    ended, reached = await store.end_lost_leases(flow.pool, oldest, incarnation, None, LOOKED_AT_MAX)
    assert reached is None
    return ended


async def test_the_lease_of_a_publisher_that_died_ends_when_the_stream_shows_the_loss(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        (lost,) = await flow.accepted(client)
        (behind,) = await flow.accepted(client, lane="bulk")
        await flow.later([lost, behind], 8)
        (fresh,) = await flow.accepted(client)
        oldest = [None, datetime.now(UTC), datetime.now(UTC) - timedelta(seconds=9)]
        assert await ended_early(flow, oldest) == 1
        assert await work_for(flow, lost) == "dispatch"
        assert (await work_for(flow, behind), await work_for(flow, fresh)) == (None, None)
        assert await ended_early(flow, oldest, incarnation=2) == 1, "another life of the stream has nothing"
        assert await work_for(flow, behind) == "dispatch"


async def test_a_lost_claim_is_looked_at_when_its_deadline_is_over_and_not_before(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        await flow.claim([message], await flow.carrier())
        await flow.later([message], 30)
        assert await ended_early(flow, NONE_IN_STREAM) == 0
        sql = "update tollwire.message_states set claim_deadline = clock_timestamp() - interval '6 seconds'"
        await flow.pool.execute(sql)
        assert await ended_early(flow, NONE_IN_STREAM) == 1
        assert await work_for(flow, message) == "recover"


async def test_what_waits_for_its_own_time_is_nobodys_loss(database: Database) -> None:
    async with open_flow(database) as flow:
        soon = datetime.now(UTC) + timedelta(seconds=20)
        await flow.accepted(await flow.client(interval_us=10_000_000), 2)
        (scheduled,) = await flow.accepted(await flow.client(), send_at=soon)
        (retried,) = await flow.accepted(await flow.client())
        carrier = await flow.carrier()
        (claim,) = await flow.claim([retried], carrier)
        await flow.record([outcome(retried, claim.attempt_no, "throttled", retry_seconds=30.0)], carrier)
        assert await ended_early(flow, NONE_IN_STREAM) == 0
        assert await flow.state(scheduled) == "SCHEDULED"


async def test_what_could_not_be_published_is_due_at_once(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        await flow.pool.execute("select tollwire.return_leases_v1($1, $2)", [message], [7])
        assert await work_for(flow, message) is None
        await flow.pool.execute("select tollwire.return_leases_v1($1, $2)", [message], [1])
        assert await work_for(flow, message) == "dispatch"


async def test_what_could_not_be_published_has_no_longer_lease_afterwards_than_what_was_lost_once(
    database: Database,
) -> None:
    """Each round of an outage of NATS would double it, and what is lost after it wait for an hour."""
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        for _ in range(6):
            await flow.later([message], 3_700)
            (dispatch,) = await store.dispatch_due(flow.pool, [message], NONE_IN_STREAM, 1)
            await store.return_leases(flow.pool, [dispatch])
        await flow.later([message], 1)
        await store.dispatch_due(flow.pool, [message], NONE_IN_STREAM, 1)
        row = await row_of(flow, message)
        assert (row["dispatch_no"], row["lease_seconds"]) == (8, 120)


async def test_work_that_is_put_off_is_due_later_under_a_new_number_and_not_in_the_stream(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client())
        before = await row_of(flow, message)
        for _ in range(2):  # the second call is the first one's, whose answer was lost
            await put_off_work(flow.pool, [(message.hex, 1)], [30.0])
        row = await row_of(flow, message)
        assert (row["dispatch_no"], row["leased_at"], row["lease_seconds"]) == (2, None, 60)
        assert row["dispatch_at"] == before["dispatch_at"], "it might go as early as before"
        assert 25 < (row["due_at"] - datetime.now(UTC)).total_seconds() < 31
        (claim,) = await flow.claim([message], await flow.carrier(), dispatch_no=1)
        assert claim.refusal == "stale", "the bundle that it was in may come again"
        await flow.later([message], 31)
        long_ago = [datetime.now(UTC) - timedelta(hours=1)] * 3
        assert [d.dispatch_no for d in await store.dispatch_due(flow.pool, [message], long_ago, 1)] == [2]


async def test_only_what_waits_is_put_off_and_soon_enough_for_another_carrier(database: Database) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier()
        (claimed,) = await flow.accepted(client)
        (short,) = await flow.accepted(client, valid_seconds=60)
        await flow.claim([claimed], carrier)
        assert await put_off_work(flow.pool, [(id_.hex, 1) for id_ in (claimed, short)], [300.0] * 2) == 1
        assert (await row_of(flow, claimed))["dispatch_no"] == 1
        row = await row_of(flow, short)
        assert 8 < (row["due_at"] - datetime.now(UTC)).total_seconds() < 15.1, "a quarter of its validity"


async def test_what_ends_in_a_moment_is_put_off_to_its_end(database: Database) -> None:
    async with open_flow(database) as flow:
        (message,) = await flow.accepted(await flow.client(), valid_seconds=60)
        await flow.later([message], 57)
        await put_off_work(flow.pool, [(message.hex, 1)], [300.0])
        valid_until = await flow.pool.fetchval(
            "select valid_until from tollwire.messages where id = $1", message
        )
        assert (await row_of(flow, message))["due_at"] == valid_until


async def test_scheduled_messages_start_in_their_clients_pace(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=5_000_000)
        soon = datetime.now(UTC) + timedelta(seconds=100)
        items = [accept_item(client, send_at=soon + timedelta(microseconds=n)) for n in range(4)]
        await flow.accept(items)
        ids = [item.message_id for item in items]
        assert await store.start_scheduled(flow.pool, ids) == []
        await flow.later(ids, 101)
        assert {await work_for(flow, message) for message in ids} == {"start"}
        moved = await store.start_scheduled(flow.pool, [*reversed(ids), ids[0]])
        assert {(m.message_id, m.state) for m in moved} == {(message, "QUEUED") for message in ids}
        times = [(await row_of(flow, message))["dispatch_at"] for message in ids]
        assert [b - a for a, b in pairwise(times)] == [timedelta(seconds=5)] * 3
        assert await store.start_scheduled(flow.pool, ids) == []
        (after,) = await flow.accept([accept_item(client)])
        assert (await row_of(flow, after.message_id))["dispatch_at"] == times[-1] + timedelta(seconds=5)


async def test_a_message_ends_when_its_validity_ends(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        (queued, retried, sent) = await flow.accepted(client, 3, valid_seconds=100)
        (claim,) = await flow.claim([retried], carrier)
        await flow.record([outcome(retried, claim.attempt_no, "refused_temp")], carrier)
        await flow.submitted([sent], carrier)
        assert await flow.expire([queued, retried, sent]) == []
        await flow.later([queued, retried, sent], 101)
        assert await work_for(flow, queued) == "expire"
        moved = await flow.expire([queued, retried, sent, queued])
        assert sorted(m.state for m in moved) == ["EXPIRED", "EXPIRED"]
        assert await flow.state(sent) == "SENT"
        assert (await flow.state_row(queued))["error_code"] == "validity_ended"
        assert (await flow.account(client))["open_holds"] == 1
        sql = "select count(*) from tollwire.callbacks where event_type = 'message.expired'"
        assert await flow.pool.fetchval(sql) == 2


async def test_a_suspended_clients_messages_end_when_they_are_due(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        (message,) = await flow.accepted(client)
        await flow.pool.execute("update tollwire.clients set suspended = true where id = $1", client)
        await flow.later([message], 61)
        assert await work_for(flow, message) == "expire"
        assert [m.state for m in await flow.expire([message])] == ["FAILED_PERM"]
        assert (await flow.state_row(message))["error_code"] == "client_suspended"


async def test_an_outcome_that_never_comes_releases_and_says_so(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        (claim,) = await flow.claim([message], carrier)
        await flow.record([outcome(message, claim.attempt_no, "uncertain")], carrier)
        assert await flow.expire([message]) == []
        await flow.later([message], 3_601)
        assert [m.state for m in await flow.expire([message])] == ["FAILED_PERM"]
        assert (await flow.state_row(message))["error_code"] == "outcome_unknown"
        assert (await flow.lock(message))["state"] == "RELEASED"


async def test_a_dead_workers_claims_are_taken_over_after_their_deadline(database: Database) -> None:
    async with open_flow(database) as flow:
        plain, knowing = await flow.carrier(), await flow.carrier(idempotent_submit=True)
        client = await flow.client()
        cautious, again = await flow.accepted(client, 2)
        (twice,) = await flow.accepted(client, delivery="at_least_once")
        await flow.claim([cautious, twice], plain)
        await flow.claim([again], knowing)
        ids = [cautious, again, twice]
        await flow.later(ids, 62)
        assert {await work_for(flow, message) for message in ids} == {"wait"}
        assert await store.recover_claims(flow.pool, ids, TRIES_MAX) == []
        await flow.later(ids, 10)
        assert {await work_for(flow, message) for message in ids} == {"recover"}
        moved = {m.message_id: m.state for m in await store.recover_claims(flow.pool, ids, TRIES_MAX)}
        assert moved == {cautious: "UNKNOWN", again: "QUEUED", twice: "QUEUED"}
        assert (await flow.state_row(twice))["possible_duplicate"]
        assert not (await flow.state_row(again))["possible_duplicate"]
        assert await store.recover_claims(flow.pool, ids, TRIES_MAX) == []


async def test_a_message_that_is_being_sent_by_nobody_goes_on(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        taken, lost = await flow.accepted(client, 2, carrier_id=carrier)
        await flow.submitted([taken], carrier)
        await flow.claim([lost], carrier)
        # As a recovery left them: SENDING, and no attempt open. What was taken has its row again.
        await flow.pool.execute(
            "update tollwire.attempts set outcome = 'uncertain' where message_id = $1", lost
        )
        await flow.pool.execute("alter table tollwire.message_states disable trigger message_states_move")
        await flow.pool.execute(
            "update tollwire.message_states set state = 'SENDING', attempt_no = 2, claim_deadline = now()"
            " where message_id = $1",
            taken,
        )
        await flow.pool.execute(
            "insert into tollwire.attempts select message_id, 2, 1, carrier_id, now(), 'uncertain', now()"
            " from tollwire.attempts where message_id = $1",
            taken,
        )
        await flow.pool.execute("alter table tollwire.message_states enable trigger message_states_move")
        assert await store.recover_claims(flow.pool, [taken, lost], TRIES_MAX) == []
        await flow.later([taken, lost], 70)
        moved = {
            m.message_id: m.state for m in await store.recover_claims(flow.pool, [taken, lost], TRIES_MAX)
        }
        assert moved == {taken: "SENT", lost: "UNKNOWN"}
        await flow.later([lost], 3_600)
        assert [m.state for m in await flow.expire([lost])] == ["FAILED_PERM"]
        settled = await flow.receipt(carrier, f"ref-{taken}-1-1", "delivered")
        assert (settled.outcome, (await flow.lock(taken))["state"]) == ("moved", "CAPTURED")


async def test_holds_end_by_their_carriers_policy_and_not_before(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        releasing = await flow.carrier(no_receipt_seconds=100)
        capturing = await flow.carrier(no_receipt_seconds=100, no_receipt_policy="capture")
        first, second, queued = await flow.accepted(client, 3)
        await flow.submitted([first], releasing)
        await flow.submitted([second], capturing)
        ids = [first, second, queued]
        assert await store.expire_holds(flow.pool, ids) == []
        watched = await flow.pool.fetch("select message_id from tollwire.hold_watch order by 1")
        assert [row[0] for row in watched] == ids
        assert await store.watched_holds(flow.pool, 10) == []
        await flow.later(ids, 101)
        moved = await store.expire_holds(flow.pool, [*ids, first])
        assert {m.message_id: m.state for m in moved} == {first: "EXPIRED", second: "EXPIRED"}
        assert [(await flow.lock(i))["state"] for i in ids] == ["RELEASED", "CAPTURED", "HELD"]
        assert await store.expire_holds(flow.pool, [first, second]) == []
        watched = await flow.pool.fetch("select message_id from tollwire.hold_watch")
        assert [row[0] for row in watched] == [queued]


async def test_a_shorter_wait_is_heard_by_what_is_watched_already(database: Database) -> None:
    async with open_flow(database) as flow:
        client, carrier, other = await flow.client(), await flow.carrier(), await flow.carrier()
        first, second, elsewhere = await flow.accepted(client, 3)
        await flow.submitted([first, second], carrier)
        await flow.submitted([elsewhere], other)
        ids = [first, second, elsewhere]
        await flow.later(ids, 2 * 3_600)
        await flow.later([second], -3_600)
        assert await store.expire_holds(flow.pool, ids) == []
        assert await store.watched_holds(flow.pool, 10) == []
        sql = "update tollwire.carriers set no_receipt_seconds = $2 where id = $1"
        await flow.pool.execute(sql, carrier, 5_400)
        assert await store.watched_holds(flow.pool, 10) == [first]
        await store.watch_later(flow.pool, [first])
        assert await store.watched_holds(flow.pool, 10) == [], "what no call can end is looked at in an hour"
        await flow.pool.execute(sql, carrier, 1_800)
        assert await store.watched_holds(flow.pool, 10) == [second]
        assert len(await store.expire_holds(flow.pool, ids)) == 2
        assert [await flow.state(message) for message in ids] == ["EXPIRED", "EXPIRED", "SENT"]
        await flow.pool.execute(sql, other, 604_800)
        assert await store.watched_holds(flow.pool, 10) == []


async def test_what_is_not_sent_yet_is_looked_at_again_before_its_hold_can_be_due(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        quick, slow = await flow.carrier(no_receipt_seconds=40), await flow.carrier()
        sql = "select round(extract(epoch from due_at - clock_timestamp()))::integer from tollwire.hold_watch"
        for carrier, seconds in ((quick, 40), (slow, 3_600)):
            (message,) = await flow.accepted(client, carrier_id=carrier)
            await flow.claim([message], carrier)
            assert await store.expire_holds(flow.pool, [message]) == []
            assert await flow.pool.fetchval(f"{sql} where message_id = $1", message) in {seconds - 1, seconds}


async def test_rows_that_nobody_needs_are_forgotten_and_waiting_ones_put_off(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        queued, claimed, sent = await flow.accepted(client, 3)
        await flow.claim([claimed], carrier)
        await flow.submitted([sent], carrier)
        left = """
            insert into tollwire.outbox (message_id, lane, carrier_id, due_at, dispatch_at)
            values ($1, 'bulk', 1, now(), now())
        """
        await flow.pool.execute(left, sent)
        assert await work_for(flow, sent) == "forget"
        await store.tidy_outbox(flow.pool, [claimed], [sent, queued])
        assert await flow.outbox(sent) is None
        assert await flow.outbox(queued) is not None
        deadline = (await flow.state_row(claimed))["claim_deadline"]
        assert (await row_of(flow, claimed))["due_at"] == deadline + timedelta(seconds=5)


async def test_the_walk_over_holds_sees_each_lock_in_id_order(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        ids = await flow.accepted(client, 5)
        await flow.cancel(client, ids[:1])
        sql = "select * from ledger.walk_holds_v1($1, $2, 4)"
        rows = await flow.pool.fetch(sql, UUID(int=0), UUID(int=2**128 - 1))
        assert [tuple(row) for row in rows] == [(message, message != ids[0]) for message in ids[:4]]


async def test_functions_that_find_nothing_answer_nothing(database: Database) -> None:
    async with open_flow(database) as flow:
        nobody = [UUID(int=1)]
        for ids in ([], nobody):
            assert await store.expire_holds(flow.pool, ids) == []
            assert await store.start_scheduled(flow.pool, ids) == []
            assert await store.recover_claims(flow.pool, ids, TRIES_MAX) == []
            assert await store.dispatch_due(flow.pool, ids, NONE_IN_STREAM, 1) == []
            assert await flow.expire(ids) == []
            await store.tidy_outbox(flow.pool, ids, ids)
        assert await store.look_due(flow.pool, 10) == {}
