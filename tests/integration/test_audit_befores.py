"""The audit trail says what was there before a change, also where two change the same thing at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import msgspec
import pytest

from shared.runtime.postgres import Connection
from shared.storage import carriers, clients, credit
from shared.storage.audit import Actor
from shared.storage.carriers import CarrierRow
from shared.storage.clients import ClientSettings
from tests.support.servers import Database

BY = Actor("tests", "192.0.2.7")
Change = Callable[[Connection, int], Coroutine[Any, Any, None]]
# Those who wait for a lock of this database.
WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and state = 'active'
"""


@pytest.fixture
async def two(database: Database) -> AsyncIterator[list[asyncpg.Connection]]:
    """Two connections of the API, and one that looks on.

    The role's own limits are shorter than a machine may stand still.
    """
    connections = [await asyncpg.connect(database.dsn(role)) for role in ("api", "api", "postgres")]
    for connection in connections[:2]:
        for limit in ("lock", "statement", "transaction", "idle_in_transaction_session"):
            await connection.execute(f"set {limit}_timeout = '20s'")
    conn = connections[0]
    await clients.create_client(conn, "acme", "EUR", ClientSettings(), BY)
    for name in ("one", "two", "three"):
        await carriers.put_carrier(conn, row(name), BY)
    yield connections
    for connection in connections:
        await connection.close()


def row(name: str, window_max: int = 100) -> CarrierRow:
    return CarrierRow(name=name, kind="http", settings={"url": "http://a"}, window_max=window_max)


async def set_limit(conn: Connection, number: int) -> None:
    await credit.post_credit(conn, "acme", "credit_limit", number * 1_000_000, f"limit-{number}", BY, None)


async def slow_down(conn: Connection, number: int) -> None:
    await carriers.put_carrier(conn, row("one", number), BY)


async def make(conn: Connection, number: int) -> None:
    await carriers.put_carrier(conn, row("new", number), BY)


async def move(conn: Connection, number: int) -> None:
    await carriers.put_route(conn, "49", 1, ("one", "two", "three")[number - 1], BY)


async def remove(conn: Connection, number: int) -> None:
    if number == 1:
        await carriers.put_route(conn, "49", 1, "one", BY)
    await carriers.remove_route(conn, "49", 1, BY)


async def trail(conn: Connection, change: Change, two: list[asyncpg.Connection]) -> list[tuple[Any, Any]]:
    """What was before and after each of two changes, of which the second begins before the first one ends."""
    first, second, _ = two
    last = await conn.fetchval("select coalesce(max(id), 0) from tollwire.audit_trail")
    transaction = first.transaction()
    await transaction.start()
    await change(first, 1)
    async with asyncio.TaskGroup() as group:
        group.create_task(change(second, 2))
        async with asyncio.timeout(10):
            while not await conn.fetchval(WAITING):
                pass
        await transaction.commit()
    rows = await conn.fetch(
        "select before::text, after::text from tollwire.audit_trail where id > $1 order by id", last
    )
    return [(_read(before), _read(after)) for before, after in rows]


def _read(said: str | None) -> Any:
    return None if said is None else msgspec.json.decode(said)


@pytest.mark.parametrize("change", [set_limit, slow_down, make, move])
async def test_what_was_before_a_change_is_what_the_change_before_it_left(
    two: list[asyncpg.Connection], change: Change
) -> None:
    await change(two[0], 3)
    (_, after), (before, _) = await trail(two[2], change, two)
    if change is set_limit:
        (before, after) = ({"credit_limit": before["credit_limit"]}, {"credit_limit": after["amount"]})
    assert before == after


async def test_a_carrier_is_made_once_and_changed_by_who_comes_second(two: list[asyncpg.Connection]) -> None:
    (nothing, made), (before, _) = await trail(two[2], make, two)
    assert nothing is None
    assert before == made


async def test_a_route_is_removed_once(two: list[asyncpg.Connection]) -> None:
    await carriers.put_route(two[0], "49", 1, "two", BY)
    befores = [before for before, _ in await trail(two[2], remove, two)]
    assert befores == ["two", "one"]
