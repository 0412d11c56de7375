"""The rates as the API loads them: a client's own over everybody's, for thousands of clients."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import asyncpg
import pytest

from shared.domain.rates import InvalidRate, NoRate, Rate, RateTable
from shared.storage import clients, rates
from shared.storage.audit import Actor
from shared.storage.clients import ClientSettings, client_account
from shared.storage.config import EVERYBODY, load_rates
from tests.support.servers import Database

T = TypeVar("T")
BY = Actor("tests")
NUMBER = "+4915112345678"
CLIENTS, PREFIXES = 2_000, 800
# Of CPU time, without a turn for others; a table of both for each client took half a second here.
STANDS_SECONDS = 0.1

FILL = """
    with made as (
        insert into ledger.accounts (kind, currency) select 'client', 'EUR' from generate_series(1, $1)
        returning id
    ), named as (
        insert into tollwire.clients (id, name) select id, 'client-' || id from made returning id
    ), own as (
        select id, '4' as prefix from named
        union all select null, (100 + n)::text from generate_series(0, $2 - 1) n
    )
    insert into tollwire.rates (client_id, prefix, currency, price_micros, since_version)
    select id, prefix, 'EUR', 75000, 1 from own
"""


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn("api"))
    yield connection
    await connection.close()


@pytest.fixture
async def acme(conn: asyncpg.Connection) -> int:
    await clients.create_client(conn, "acme", "EUR", ClientSettings(), BY)
    return (await client_account(conn, "acme")).id


def priced(table: RateTable) -> tuple[str, int]:
    found = table.price(NUMBER, 1)
    return found.prefix, found.amount_micros


async def test_a_rate_of_its_own_that_ends_leaves_a_client_everybodys(conn, acme):
    await rates.set_rates(conn, None, [Rate("49", 75, "EUR"), Rate("491", 70, "EUR")], BY)
    await rates.set_rates(conn, None, [Rate("49", 90, "USD")], BY)
    await rates.set_rates(conn, "acme", [Rate("491", 60, "EUR"), Rate("4915", 50, "EUR")], BY)
    before = await load_rates(conn, 7)
    assert before.keys() == {(EVERYBODY, "EUR"), (EVERYBODY, "USD"), (acme, "EUR")}
    assert priced(before[acme, "EUR"]) == ("4915", 50)
    assert priced(before[EVERYBODY, "EUR"]) == ("491", 70)
    assert priced(before[EVERYBODY, "USD"]) == ("49", 90)

    await rates.remove_rates(conn, "acme", "EUR", ["4915"], BY)
    assert priced((await load_rates(conn, 8))[acme, "EUR"]) == ("491", 60)
    await rates.set_rates(conn, "acme", [Rate("44", 1, "EUR")], BY)
    await rates.remove_rates(conn, "acme", "EUR", ["491"], BY)
    await rates.set_rates(conn, None, [Rate("491", 71, "EUR")], BY)
    table = (await load_rates(conn, 9))[acme, "EUR"]
    assert (priced(table), table.price(NUMBER, 1).rate_version) == (("491", 71), 9)

    await rates.remove_rates(conn, None, "EUR", ["49", "491"], BY)
    with pytest.raises(NoRate):
        (await load_rates(conn, 10))[acme, "EUR"].price(NUMBER, 1)


async def test_a_price_that_nobody_can_have_meant_is_not_loaded(database, conn):
    await rates.set_rates(conn, None, [Rate("49", 75, "EUR")], BY)
    await conn.execute("update tollwire.rates set price_micros = 1000000 * 1000000::bigint + 1")
    with pytest.raises(InvalidRate):
        await load_rates(conn, 1)


async def test_others_have_their_turn_while_the_rates_of_many_clients_are_loaded(database, conn):
    owner = await asyncpg.connect(database.dsn())
    await owner.execute(FILL, CLIENTS, PREFIXES)
    await owner.close()
    await load_rates(conn, 1)  # what a first time costs is not meant
    stands = []
    for _ in range(3):  # what others do to this processor's caches is not meant either
        tables, stood_seconds = await longest_stand(load_rates(conn, 1))
        assert len(tables) == 1 + CLIENTS
        stands.append(stood_seconds)
    assert min(stands) < STANDS_SECONDS


async def longest_stand(work: Awaitable[T]) -> tuple[T, float]:
    """Await some work; return what it returned, and the longest time for which it left nobody a turn.

    It is the time of the CPU: of a machine that others use, too, that of the clock would tell of those. What
    a process of ours has frozen (``run_service``) is collected in none, and would be in this one.
    """
    doing, longest = asyncio.ensure_future(work), 0.0
    gc.disable()
    try:
        while not doing.done():
            turn_began_at = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - turn_began_at)
    finally:
        gc.enable()
    return doing.result(), longest
