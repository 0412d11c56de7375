"""accept_batch_v1: holds, keys, pace and schedule, for each position of a flush."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from api import store
from tests.support.flow import PRICE_MICROS, Flow, accept_item, new_id, open_flow
from tests.support.servers import Database

SLOT_SECONDS = 43_200


async def outcomes(flow: Flow, *items: Any) -> list[str]:
    return [answer.outcome for answer in await flow.accept(items)]


async def test_each_request_takes_from_what_is_left(database: Database) -> None:
    """RULES 9: balance 100, [500, 10, 10] accepts two."""
    async with open_flow(database) as flow:
        client = await flow.client(100)
        items = [accept_item(client, amount_micros=amount) for amount in (500, 10, 10)]
        answers = await flow.accept(items)
        assert [answer.outcome for answer in answers] == ["refused", "accepted", "accepted"]
        assert [answer.available_micros for answer in answers] == [100, 90, 80]
        assert answers[0].problem == "insufficient_credit"
        assert answers[0].args == {"price_micros": 500, "available_micros": 100, "max_price_micros": None}
        assert (await flow.account(client))["held_micros"] == 20


async def test_a_flush_gives_what_one_by_one_gives(database: Database) -> None:
    async with open_flow(database) as flow:
        amounts = [40, 70, 30, 0, 31, 29, 1]
        together, apart = await flow.client(100), await flow.client(100)
        flush = await outcomes(flow, *(accept_item(together, amount_micros=n) for n in amounts))
        single = [(await outcomes(flow, accept_item(apart, amount_micros=n)))[0] for n in amounts]
        assert flush == single
        columns = ("held_micros", "open_holds", "version")
        one, other = await flow.account(together), await flow.account(apart)
        assert [one[name] for name in columns] == [other[name] for name in columns]


async def test_accounts_in_one_flush_do_not_touch_each_other(database: Database) -> None:
    async with open_flow(database) as flow:
        poor, rich, dollars = await flow.client(5), await flow.client(), await flow.client(currency="USD")
        items = [accept_item(client) for client in (rich, poor, dollars, poor, rich)]
        items[2] = replace(items[2], currency="USD")
        assert await outcomes(flow, *items) == ["accepted", "refused", "accepted", "refused", "accepted"]
        assert [(await flow.account(c))["open_holds"] for c in (poor, rich, dollars)] == [0, 2, 1]


async def test_a_refusal_stays_under_its_key_after_a_top_up(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(0)
        item = accept_item(client, key="otp")
        assert await outcomes(flow, item) == ["refused"]
        await flow.credit(client, "top_up", 10**6, "later")
        (again,) = await flow.accept([replace(item, message_id=new_id())])
        assert (again.outcome, again.problem, again.message_id) == (
            "refused_before", "insufficient_credit", item.message_id,
        )  # fmt: skip
        assert await outcomes(flow, accept_item(client)) == ["accepted"]


async def test_a_call_that_is_sent_again_refuses_again_and_remembers_once(database: Database) -> None:
    """RULES 4: its first answer was lost. Those beside it, new ones too, are answered as ever."""
    async with open_flow(database) as flow:
        client = await flow.client(1)
        items = [
            accept_item(client, key="dear", amount_micros=2),
            accept_item(client, key="cheap", amount_micros=1),
        ]
        first = await flow.accept(items)
        again = await flow.accept([*items, accept_item(client, key="new", amount_micros=0)])
        assert [answer.outcome for answer in first] == ["refused", "accepted"]
        assert [answer.outcome for answer in again] == ["refused", "replayed", "accepted"]
        assert (again[0].message_id, again[0].args) == (first[0].message_id, first[0].args)
        rows = await flow.pool.fetch(
            "select key from tollwire.idempotency_keys where account_id = $1", client
        )
        assert sorted(row["key"] for row in rows) == ["cheap", "dear", "new"]


async def test_a_key_answers_as_before_and_refuses_another_request(database: Database) -> None:
    async with open_flow(database) as flow:
        client, stranger = await flow.client(), await flow.client()
        first = accept_item(client, key="order-1")
        assert await outcomes(flow, first) == ["accepted"]
        same, other = (
            accept_item(client, key="order-1"),
            accept_item(client, key="order-1", fingerprint=b"x" * 32),
        )
        item_1, not_ours = accept_item(client, key="order-1", item=1), accept_item(stranger, key="order-1")
        answers = await flow.accept([same, other, item_1, not_ours, accept_item(client), accept_item(client)])
        assert [answer.outcome for answer in answers] == [
            "replayed", "mismatch", "accepted", "accepted", "accepted", "accepted",
        ]  # fmt: skip
        assert answers[0].message_id == answers[1].message_id == first.message_id
        assert (await flow.account(client))["open_holds"] == 4


async def test_keys_and_ids_that_stand_twice_in_a_call_are_won_once(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        twin = accept_item(client)
        items = [accept_item(client, key="a"), twin, accept_item(client, key="a"), twin]
        items.append(accept_item(client, key="a", fingerprint=b"x" * 32))
        assert await outcomes(flow, *items) == ["accepted", "accepted", "replayed", "replayed", "mismatch"]
        assert (await flow.account(client))["open_holds"] == 2


async def test_what_the_caller_refused_is_remembered_and_never_held(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        blocked = accept_item(client, key="k", refusal="sender_not_allowed", refusal_args={"sender": "EVIL"})
        (answer,) = await flow.accept([blocked])
        assert (answer.outcome, answer.problem, answer.args) == (
            "refused", "sender_not_allowed", {"sender": "EVIL"},
        )  # fmt: skip
        (again,) = await flow.accept([accept_item(client, key="k")])
        assert (again.outcome, again.args) == ("refused_before", {"sender": "EVIL"})
        assert (await flow.account(client))["version"] == 1


async def test_max_price_is_enforced_inside_the_hold(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        over, exact = (accept_item(client, max_price_micros=PRICE_MICROS + n) for n in (-1, 0))
        answers = await flow.accept([over, exact])
        assert [answer.outcome for answer in answers] == ["refused", "accepted"]
        assert answers[0].problem == "max_price_exceeded"


@pytest.mark.parametrize(
    ("slots_ago", "hours_ago", "expected"),
    [(0, 1, "replayed"), (1, 13, "replayed"), (6, 71, "replayed"), (6, 73, "accepted"), (-1, 0, "replayed")],
)
async def test_a_key_is_unique_over_all_its_slots_and_for_72_hours(
    database: Database, slots_ago: int, hours_ago: int, expected: str
) -> None:
    """RULES 11: with day partitions alone a key was accepted on both sides of midnight."""
    async with open_flow(database) as flow:
        client = await flow.client()
        (old,) = await flow.accepted(client)
        await flow.pool.execute("select tollwire.make_partitions_v1(current_date - 5, current_date)")
        slot = int(datetime.now(UTC).timestamp()) // SLOT_SECONDS - slots_ago
        await flow.pool.execute(
            "insert into tollwire.idempotency_keys values ($1, $2, 'k', 0, $3, 1, $4, null, null, $5)",
            slot, client, b"f" * 32, old, datetime.now(UTC) - timedelta(hours=hours_ago),
        )  # fmt: skip
        assert await outcomes(flow, accept_item(client, key="k")) == [expected]


async def test_a_thousand_rivals_for_one_key_get_one_message(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        flushes = [[accept_item(client, key="one") for _ in range(50)] for _ in range(8)]
        answers = [a for flush in await asyncio.gather(*map(flow.accept, flushes)) for a in flush]
        assert sorted(a.outcome for a in answers) == ["accepted"] + ["replayed"] * 399
        assert len({a.message_id for a in answers}) == 1


async def test_rival_flushes_never_overdraw(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(100 * PRICE_MICROS)
        flushes = [[accept_item(client) for _ in range(20)] for _ in range(10)]
        answers = [a for flush in await asyncio.gather(*map(flow.accept, flushes)) for a in flush]
        assert [a.outcome for a in answers].count("accepted") == 100
        account = await flow.account(client)
        assert account["posted_micros"] == account["held_micros"]


async def test_paced_messages_stand_exactly_one_interval_apart(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=5_000_000)
        first = await flow.accept([accept_item(client) for _ in range(4)])
        second = await flow.accept([accept_item(client) for _ in range(3)])
        assert [a.dispatch_now for a in first + second] == [True] + [False] * 6
        sql = "select dispatch_at from tollwire.outbox where message_id = $1"
        times = [await flow.pool.fetchval(sql, a.message_id) for a in first + second]
        assert [later - earlier for earlier, later in pairwise(times[1:])] == [timedelta(seconds=5)] * 5


async def test_a_scheduled_message_waits_and_takes_no_place_in_the_pace(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(interval_us=3_600_000_000)
        at = datetime.now(UTC) + timedelta(hours=2)
        later, now = await flow.accept(
            [accept_item(client, send_at=at, valid_seconds=60), accept_item(client)]
        )
        assert (later.state, later.dispatch_now) == ("SCHEDULED", False)
        assert (now.state, now.dispatch_now) == ("QUEUED", True)
        row = await flow.outbox(later.message_id)
        assert row is not None
        assert (row["dispatch_at"], row["leased_at"]) == (at, None)


async def test_what_is_dispatched_now_is_leased_to_the_caller(database: Database) -> None:
    async with open_flow(database) as flow:
        (answer,) = await flow.accept([accept_item(await flow.client())], incarnation=7)
        row = await flow.outbox(answer.message_id)
        assert row is not None
        assert (row["incarnation"], row["dispatch_no"], row["lease_seconds"]) == (7, 1, 60)
        assert row["due_at"] - row["leased_at"] == timedelta(seconds=60)


async def test_one_row_that_cannot_be_stored_fails_the_call_and_leaves_nothing(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        with pytest.raises(asyncpg.CheckViolationError):
            await flow.accept([accept_item(client), accept_item(client, segments=0)])
        assert (await flow.account(client))["open_holds"] == 0
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await flow.accept([accept_item(client), accept_item(10**9)])


async def test_a_replay_is_rebuilt_with_the_balance_of_then(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(10 * PRICE_MICROS)
        first = accept_item(client, key="k", client_ref="mine")
        await flow.accept([first])
        await flow.accepted(client, 5)
        await flow.credit(client, "credit_limit", 5 * PRICE_MICROS, "trusted")
        second = accept_item(client)
        await flow.accept([second])
        await flow.credit(client, "credit_limit", 0, "withdrawn")
        rebuilt = await store.load_accepted(flow.pool, [first.message_id, second.message_id])
        assert rebuilt[first.message_id].available_micros == 9 * PRICE_MICROS
        assert rebuilt[second.message_id].available_micros == (3 + 5) * PRICE_MICROS
        assert rebuilt[first.message_id].client_ref == "mine"


async def test_what_was_as_good_as_due_is_rebuilt_as_it_was_answered(database: Database) -> None:
    async with open_flow(database) as flow:
        soon, later = sorted(await flow.accepted(await flow.client(), 2))
        send = "update tollwire.messages set send_at = created_at + $2 where id = $1"
        await flow.pool.execute(send, soon, timedelta(milliseconds=50))
        await flow.pool.execute(send, later, timedelta(milliseconds=51))
        rebuilt = await store.load_accepted(flow.pool, [soon, later])
        assert [rebuilt[id_].state for id_ in (soon, later)] == ["QUEUED", "SCHEDULED"]


async def test_the_limit_of_then_is_known_though_the_clock_was_set_back(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        ahead = "update ledger.accounts set last_entry_at = last_entry_at + interval '1 hour' where id = $1"
        await flow.pool.execute(ahead, client)
        answers = []
        for limit in (3, 9, 1, 7):
            await flow.credit(client, "credit_limit", limit, f"limit-{limit}")
            answers += await flow.accept([accept_item(client)])
        rebuilt = await store.load_accepted(flow.pool, [answer.message_id for answer in answers])
        told = {answer.message_id: answer.available_micros for answer in answers}
        assert {id_: one.available_micros for id_, one in rebuilt.items()} == told


async def test_an_empty_flush_is_no_error(database: Database) -> None:
    async with open_flow(database) as flow:
        nothing = ", ".join(["'{}'"] * 29)
        assert (
            await flow.pool.fetch(f"select * from tollwire.accept_batch_v1({nothing}, 1::smallint, 1, 60)")
            == []
        )
