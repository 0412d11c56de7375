"""Texts go when their time is over, never those of a message that may still be sent."""

from datetime import date
from typing import Any
from uuid import UUID

from ledger import retention_store as store
from tests.support.flow import Flow
from tests.support.old_days import accepted_on, days_ago, delivered_on, retention

DAY = days_ago(5)
SENTINEL = date(1, 1, 1)


async def expiring(flow: Flow, ids: list[UUID], on: date) -> None:
    await flow.pool.execute(
        "update tollwire.message_texts set expires_on = $2 where message_id = any ($1)", ids, on
    )


async def kept(flow: Flow) -> set[UUID]:
    return {row[0] for row in await flow.pool.fetch("select message_id from tollwire.message_texts")}


async def walk(flow: Flow) -> Any:
    return await flow.row("select * from tollwire.text_walks where day = $1", DAY)


async def test_expired_texts_go_and_the_others_stay(flow, pool):
    client, carrier = await flow.client(), await flow.carrier()
    gone, last_day, week = [await delivered_on(flow, DAY, client, carrier, 2) for _ in range(3)]
    await expiring(flow, gone, days_ago(1))
    await expiring(flow, last_day, days_ago(0))
    await expiring(flow, week, days_ago(-7))
    await retention(pool, None).run_once()
    assert await kept(flow) == {*last_day, *week}
    found = await walk(flow)
    assert (found["kept"], found["first_expires_on"], found["last_expires_on"]) == (
        4,
        days_ago(0),
        days_ago(-7),
    )


async def test_a_message_that_is_not_final_keeps_its_text(flow, pool):
    client, carrier = await flow.client(), await flow.carrier()
    waiting = await accepted_on(flow, DAY, client, carrier_id=carrier)
    at_the_end = await accepted_on(flow, DAY, client, carrier_id=carrier, text_days=0)
    await expiring(flow, waiting, days_ago(2))
    await retention(pool, None).run_once()
    assert await kept(flow) == {*waiting, *at_the_end}
    # It is looked at again tomorrow, and not before.
    assert (await walk(flow))["first_expires_on"] == days_ago(0)


async def test_a_day_of_which_nothing_is_to_be_kept_is_emptied_at_once(flow, pool):
    ids = await delivered_on(flow, DAY, await flow.client(), await flow.carrier(), 3)
    await retention(pool, None).run_once()
    assert await kept(flow) == set(ids)
    await flow.pool.execute(
        "update tollwire.text_walks set first_expires_on = $1, last_expires_on = $1", days_ago(1)
    )
    assert await store.empty_texts(pool, DAY) == 3
    assert await kept(flow) == set()
    assert await store.empty_texts(pool, DAY) is None


async def test_a_day_with_an_open_message_is_not_emptied(flow, pool):
    client, carrier = await flow.client(), await flow.carrier()
    await delivered_on(flow, DAY, client, carrier)
    waiting = await accepted_on(flow, DAY, client, carrier_id=carrier)
    await retention(pool, None).run_once()
    await flow.pool.execute("update tollwire.text_walks set last_expires_on = $1", days_ago(1))
    assert await store.empty_texts(pool, DAY) is None
    assert set(waiting) <= await kept(flow)


async def test_a_walk_goes_on_where_it_stopped(flow, pool, monkeypatch):
    monkeypatch.setattr(store, "TEXT_ROWS", 2)
    client, carrier = await flow.client(), await flow.carrier()
    ids = await delivered_on(flow, DAY, client, carrier, 5)
    await expiring(flow, ids[:3], days_ago(1))
    assert await store.expire_texts(pool, DAY) == (2, False)
    assert await store.expire_texts(pool, DAY) == (1, False)
    assert await store.expire_texts(pool, DAY) == (0, True)
    assert await kept(flow) == set(ids[3:])
    assert (await walk(flow))["kept"] == 2


async def test_the_last_two_days_are_left_alone(flow, pool):
    ids = await delivered_on(flow, days_ago(1), await flow.client(), await flow.carrier())
    await expiring(flow, ids, days_ago(1))
    await retention(pool, None).run_once()
    assert await kept(flow) == set(ids)
