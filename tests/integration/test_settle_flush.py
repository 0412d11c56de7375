"""A flush of receipts gives what each of them alone gives, and tells all that callbacks and facts need."""

import json
from typing import Any
from uuid import UUID

import asyncpg

from dlr import store
from dlr.bodies import body_of
from dlr.store import Settled
from tests.integration.test_hot_plans import SETTINGS, OneConnection
from tests.support.flow import LEASE_SECONDS, MSISDN, Flow, new_id, open_flow, outcome
from tests.support.servers import Database

FLUSH = 200


async def crowd(flow: Flow, carrier: int) -> tuple[list[int], list[tuple[str, str]]]:
    """Messages of every kind with their receipts: (reference, word), in the order in which they come."""
    plain, charged, late = [await flow.client() for _ in range(3)]
    await flow.endpoint(plain)
    told: list[tuple[str, str]] = []
    for word in ("delivered", "undelivered", "expired", "rejected", "enroute") * 2:
        told += [(ref, word) for ref in await flow.submitted(await flow.accepted(plain), carrier)]
    told += [(told[0][0], "delivered"), (told[1][0], "delivered"), (told[4][0], "delivered")]
    paid = await flow.submitted(await flow.accepted(charged, 2, charge="submitted"), carrier)
    told += [(paid[0], "delivered"), (paid[1], "undelivered")]
    long = await flow.submitted(await flow.accepted(plain, parts=3, segments=3), carrier)
    told += [(long[0], "delivered"), (long[1], "delivered"), (long[2], "delivered")]
    half = await flow.submitted(await flow.accepted(plain, parts=2, segments=2), carrier)
    told += [(half[0], "delivered"), (half[1], "undelivered")]
    (ended,) = ids = await flow.accepted(late)
    told += [(ref, "delivered") for ref in await flow.submitted(ids, carrier)]
    await flow.later([ended], 4 * 86_400)
    await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [ended])
    return [plain, charged, late], [*told, ("unheard of", "delivered")]


async def ends(flow: Flow, clients: list[int], settled: list[Settled]) -> list[Any]:
    """What two worlds can be compared by: outcomes, states, holds and balances, in the order of making."""
    sql = """
        select s.state, s.sequence, s.parts_delivered, s.error_code, s.late_receipt, l.state, l.reason,
               (select count(*) from tollwire.callbacks c where c.message_id = m.id),
               (select array_agg(a.receipt order by a.attempt_no, a.part_no) from tollwire.attempts a
                where a.message_id = m.id)
        from tollwire.messages m join tollwire.message_states s on s.message_id = m.id
        join ledger.credit_locks l on l.message_id = m.id
        where m.client_id = any ($1) order by m.created_at, m.id
    """
    accounts = [await flow.account(client) for client in clients]
    sums = [(a["posted_micros"], a["held_micros"], a["open_holds"], a["overdrawn_micros"]) for a in accounts]
    told = [(s.outcome, s.state, s.callback_id is not None, s.told.is_charged) for s in settled]
    return [told, [tuple(row) for row in await flow.pool.fetch(sql, clients)], sums]


async def test_a_mixed_flush_gives_what_one_by_one_gives(database: Database) -> None:
    async with open_flow(database) as flow:
        worlds: list[Any] = []
        for is_together in (True, False):
            carrier = await flow.carrier()
            clients, told = await crowd(flow, carrier)
            receipts = [await flow.receive(carrier, *word, msisdn=MSISDN) for word in told]
            if is_together:
                settled = await flow.settle(receipts)
            else:
                settled = [(await flow.settle([receipt]))[0] for receipt in receipts]
            worlds.append(await ends(flow, clients, settled))
            rows = await flow.pool.fetch("select message_id, submitted_at from tollwire.message_states")
            submitted_at = {row["message_id"]: row["submitted_at"] for row in rows}
            moved = [answer for answer in settled if answer.outcome == "moved"]
            assert {answer.message_id: answer.submitted_at for answer in moved} == {
                answer.message_id: submitted_at[answer.message_id] for answer in moved
            }
            assert None not in {answer.submitted_at for answer in moved}
        outcomes = {outcome for outcome, *_ in worlds[0][0]}
        assert outcomes == {"moved", "noted", "repeated", "late_capture", "waiting"}
        together, alone = worlds
        # Of several parts in one flush the first tells the end, one by one the last.
        assert sorted(together[0], key=repr) == sorted(alone[0], key=repr)
        assert together[1:] == alone[1:]


async def test_receipts_that_are_taken_at_once_do_what_kept_and_settled_ones_do(database: Database) -> None:
    async with open_flow(database) as flow:
        worlds: list[Any] = []
        for is_at_once in (True, False):
            carrier = await flow.carrier()
            clients, told = await crowd(flow, carrier)
            if is_at_once:
                receipts = [flow.new_receipt(carrier, *word, msisdn=MSISDN) for word in told]
                settled = await store.take_receipts(flow.pool, receipts, LEASE_SECONDS)
                again = await store.take_receipts(flow.pool, receipts, LEASE_SECONDS)
                assert {answer.outcome for answer in again} == {"done", "waiting"}
            else:
                settled = await flow.settle(
                    [await flow.receive(carrier, *word, msisdn=MSISDN) for word in told]
                )
            worlds.append(await ends(flow, clients, settled))
        assert worlds[0] == worlds[1]


async def test_settle_tells_a_callback_as_loading_it_would(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        clients, told = await crowd(flow, carrier)
        settled = await flow.settle([await flow.receive(carrier, *word, msisdn=MSISDN) for word in told])
        moved = [s.told for s in settled if s.outcome == "moved" and s.callback_id]
        assert {work.state for work in moved} == {"DELIVERED", "UNDELIVERED", "EXPIRED"}
        loaded = await store.load_callbacks(flow.pool, [work.callback_id for work in moved])
        assert loaded == moved
        assert [body_of(work) for work in loaded] == [body_of(work) for work in moved]
        assert {s.region for s in settled if s.outcome == "moved"} == {"DE"}
        assert {s.client_id for s in settled if s.outcome == "moved"} == set(clients[:2])


async def test_settle_says_where_a_callback_cannot_go(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for column, skip in (("disabled_at", "disabled"), ("open_until", "open")):
            client = await flow.client()
            endpoint = await flow.endpoint(client)
            await flow.pool.execute(
                f"insert into tollwire.callback_health (endpoint_id, {column}) values ($1, now() + '1 hour')",
                endpoint,
            )
            (reference,) = await flow.submitted(await flow.accepted(client), carrier)
            settled = await flow.receipt(carrier, reference, "delivered")
            assert (settled.told.skip, settled.told.endpoint_id) == (skip, endpoint)
            assert await store.load_callbacks(flow.pool, [settled.told.callback_id]) == [settled.told]


async def test_two_receipts_of_one_message_in_a_flush_move_it_once(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        references = await flow.submitted(await flow.accepted(client, 3), carrier)
        pairs = [("undelivered", "delivered"), ("delivered", "undelivered"), ("enroute", "delivered")]
        receipts = [
            await flow.receive(carrier, reference, word)
            for reference, pair in zip(references, pairs, strict=True)
            for word in pair
        ]
        settled = await flow.settle(receipts)
        assert [(s.outcome, s.state) for s in settled] == [
            ("moved", "UNDELIVERED"), ("repeated", None),
            ("moved", "DELIVERED"), ("repeated", None),
            ("noted", None), ("moved", "DELIVERED"),
        ]  # fmt: skip
        assert sorted(await flow.kinds(client))[:3] == ["capture", "capture", "hold"]


async def big_flush(flow: Flow, clients: list[int], carrier: int) -> list[UUID]:
    """Receipts of many messages of many clients, kept and not settled."""
    ids = []
    for client in clients:
        ids += await flow.accepted(client, FLUSH // len(clients))
    claims = await flow.claim(ids, carrier)
    lines = [outcome(id_, claim.attempt_no, "submitted") for id_, claim in zip(ids, claims, strict=True)]
    await flow.record(lines, carrier)
    return [await flow.receive(carrier, str(line.reference), "delivered") for line in lines]


async def test_no_plan_of_a_small_day_compares_each_with_each(database: Database) -> None:
    """Plans are made by a connection while the tables are next to empty, and kept: they must stay good."""
    conn = await asyncpg.connect(database.dsn(), server_settings=SETTINGS)
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    plans: list[str] = []
    async with open_flow(database) as other:
        flow = Flow(OneConnection(conn))  # type: ignore[arg-type] # what a flow needs of a pool
        carrier = await other.carrier()
        clients = [await other.client() for _ in range(20)]
        for client in clients:
            await other.endpoint(client)
        await other.pool.execute("analyze")
        (first,) = await flow.settle((await big_flush(other, clients[:1], carrier))[:1])
        await store.record_callbacks(flow.pool, [taken(first)])
        receipts = await big_flush(other, clients, carrier)
        conn.add_log_listener(lambda _conn, message: plans.append(str(message.message)))
        settled = await flow.settle(receipts)
        await store.load_callbacks(flow.pool, [s.told.callback_id for s in settled])
        await store.record_callbacks(flow.pool, [taken(s) for s in settled])
    await conn.close()
    assert {s.outcome for s in settled} == {"moved"}
    wasted = [line.strip() for plan in plans for line in plan.splitlines() if "Rows Removed by" in line]
    assert plans
    assert not [line for line in wasted if int(line.rpartition(" ")[2]) > FLUSH], wasted


def taken(settled: Settled) -> store.CallbackRecord:
    """The note of a callback that was taken at its first try."""
    callback = settled.callback_id or new_id()
    return store.CallbackRecord(callback, 1, "delivered", 200, None, 3, "127.0.0.1", None, 0.0)
