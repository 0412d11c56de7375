"""A call knows its outcome, whatever happens to the connection (RULES 4)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import pytest

from embedded.postgres import PostgresServer
from shared.runtime import metrics, server_calls
from shared.runtime.postgres import OutcomeUnknown, Pool, call, is_bisectable, is_retryable, open_pool
from shared.runtime.server_calls import RELEASE_SECONDS
from tests.support.own_time import own_time
from tests.support.postgres_proxy import Proxy, open_proxy

PING = "select * from calls.ping_v1($1)"
DEADLINE_SECONDS = 20.0
LOCK = 4711

# A function that is idempotent by its id; the sequence counts the tries, which no rollback undoes. It can
# be told to fail its first tries with an SQLSTATE, and to wait for the test's advisory lock.
SCHEMA = f"""
drop schema if exists calls cascade;
create schema calls;
create table calls.pings (id uuid primary key);
create sequence calls.tries;
create table calls.plan (sqlstate text, failures int);
create function calls.ping_v1(ping uuid) returns table (id uuid, backend int)
language plpgsql set search_path = calls as $$
declare planned record;
begin
    select * into planned from plan;
    if nextval('tries') <= planned.failures then
        raise exception 'as planned' using errcode = planned.sqlstate;
    end if;
    perform pg_advisory_xact_lock({LOCK});
    insert into pings values (ping) on conflict do nothing;
    notify pinged;
    return query select ping, pg_backend_pid();
end $$;
"""


@dataclass
class Settings:
    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = 3


class Watcher:
    """A direct connection that sees what the calls did."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self.committed = asyncio.Event()

    def note(self, *_ignored: object) -> None:
        self.committed.set()

    async def next_commit(self) -> None:
        """Return when another ping was committed."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.committed.wait()
        self.committed.clear()

    async def plan(self, sqlstate: str, failures: int) -> None:
        await self.connection.execute("insert into plan values ($1, $2)", sqlstate, failures)

    async def count(self) -> tuple[int, int]:
        """How many pings there are, and how many tries there were."""
        row = await self.connection.fetchrow("select (select count(*) from pings), last_value from tries")
        assert row is not None
        return row[0], row[1]

    async def blocked_backend(self) -> int:
        """Return the backend that waits for our lock, as soon as there is one."""
        query = "select pid from pg_locks where locktype = 'advisory' and not granted"
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                pid = await self.connection.fetchval(query)
                if pid is not None:
                    return int(pid)


@pytest.fixture
async def watcher(postgres: PostgresServer) -> AsyncIterator[Watcher]:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute(SCHEMA)
    await connection.execute("set search_path = calls")
    found = Watcher(connection)
    await connection.add_listener("pinged", found.note)
    yield found
    await connection.close()


@pytest.fixture
async def pool(postgres: PostgresServer, watcher: Watcher) -> AsyncIterator[Pool]:
    async with open_pool(Settings(postgres.dsn()), application_name="test") as opened:
        yield opened


@asynccontextmanager
async def through_proxy(postgres: PostgresServer, watcher: Watcher) -> AsyncIterator[tuple[Pool, Proxy]]:
    """A pool of one connection through a proxy; the call was prepared on it, and made once."""
    async with (
        open_proxy(postgres.dsn()) as (proxy, dsn),
        open_pool(Settings(dsn, postgres_pool_max=1), application_name="test") as opened,
    ):
        await ping(opened)
        await watcher.next_commit()
        yield opened, proxy


def ping(
    pool: Pool, deadline_seconds: float = DEADLINE_SECONDS, *, is_repeatable: bool = True
) -> Awaitable[list[asyncpg.Record]]:
    return call(pool, PING, uuid4(), deadline_seconds=deadline_seconds, is_repeatable=is_repeatable)


async def test_a_call_returns_the_functions_rows(pool: Pool, watcher: Watcher) -> None:
    message_id = uuid4()
    (row,) = await call(pool, PING, message_id, deadline_seconds=DEADLINE_SECONDS)
    assert row["id"] == message_id
    assert await watcher.count() == (1, 1)


async def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_id(
    postgres: PostgresServer, watcher: Watcher
) -> None:
    async with through_proxy(postgres, watcher) as (pool, proxy):
        proxy.swallow_answers()
        calling = asyncio.ensure_future(ping(pool))
        await watcher.next_commit()
        proxy.cut()
        proxy.heal()
        assert len(await calling) == 1
    assert await watcher.count() == (2, 3)


async def test_an_answer_that_was_lost_is_not_asked_for_again_where_that_would_do_harm(
    postgres: PostgresServer, watcher: Watcher
) -> None:
    async with through_proxy(postgres, watcher) as (pool, proxy):
        proxy.swallow_answers()
        calling = asyncio.ensure_future(ping(pool, is_repeatable=False))
        await watcher.next_commit()
        proxy.cut()
        proxy.heal()
        with pytest.raises(OutcomeUnknown):
            await calling
    assert await watcher.count() == (2, 2)


async def test_what_was_not_done_is_tried_again_also_where_a_repetition_would_do_harm(
    pool: Pool, watcher: Watcher
) -> None:
    await watcher.plan("40P01", 2)
    assert len(await ping(pool, is_repeatable=False)) == 1
    assert await watcher.count() == (1, 3)


async def test_what_comes_out_of_the_pool_after_its_deadline_is_not_sent(
    pool: Pool, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = asyncpg.Pool.acquire

    async def stand_still(self: Pool, **options: float) -> object:
        connection = await acquire(self, **options)
        time.sleep(0.3)  # noqa: ASYNC251 - as a process does that is stopped
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.Pool, "acquire", stand_still)
        with pytest.raises(OutcomeUnknown) as unknown:
            await ping(pool, deadline_seconds=0.2)
    assert not unknown.value.was_sent
    assert len(await ping(pool)) == 1
    assert await watcher.count() == (1, 1)


async def test_a_backend_that_was_terminated_is_asked_again(pool: Pool, watcher: Watcher) -> None:
    async with watcher.connection.transaction():
        await watcher.connection.execute(f"select pg_advisory_xact_lock({LOCK})")
        calling = asyncio.ensure_future(ping(pool))
        pid = await watcher.blocked_backend()
        await watcher.connection.execute("select pg_terminate_backend($1)", pid)
    assert len(await calling) == 1
    assert await watcher.count() == (1, 2)


def message(kind: bytes, body: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


async def test_a_connection_that_was_said_farewell_to_is_replaced(
    postgres: PostgresServer, watcher: Watcher
) -> None:
    farewell = message(b"E", b"SFATAL\0VFATAL\0C57P02\0Mterminating connection because of crash\0\0")
    async with through_proxy(postgres, watcher) as (pool, proxy):
        before = await pool.fetchval("select pg_backend_pid()")
        connection = pool._holders[0]._con  # type: ignore[attr-defined] # private
        proxy.say(message(b"S", b"TimeZone\0Mars\0") + farewell)
        async with asyncio.timeout(DEADLINE_SECONDS):
            # Then the farewell behind it is read too.
            while connection.get_settings().TimeZone != "Mars":  # noqa: ASYNC110 - the event is the client's own
                await asyncio.sleep(0)
        (row,) = await ping(pool)
        assert row["backend"] != before
    assert await watcher.count() == (2, 2)


async def test_without_an_answer_by_the_deadline_the_outcome_is_unknown(
    postgres: PostgresServer, watcher: Watcher
) -> None:
    async with through_proxy(postgres, watcher) as (pool, proxy):
        proxy.swallow_answers()
        async with own_time() as own:
            with pytest.raises(OutcomeUnknown, match=r"ping_v1: the outcome is not known") as caught:
                await ping(pool, deadline_seconds=2.0)
            assert own() < 2.0 + RELEASE_SECONDS
    assert caught.value.was_sent
    await watcher.next_commit()
    assert (await watcher.count())[0] == 2


async def test_without_a_server_nothing_was_sent(postgres: PostgresServer, watcher: Watcher) -> None:
    async with through_proxy(postgres, watcher) as (pool, proxy):
        proxy.cut()
        await pool.expire_connections()
        with pytest.raises(OutcomeUnknown, match="no connection") as caught:
            await ping(pool, deadline_seconds=0.3)
        assert not caught.value.was_sent
        proxy.heal()
        assert len(await ping(pool)) == 1
    assert await watcher.count() == (2, 2)


@pytest.mark.parametrize("sqlstate", ["08006", "53300", "57014", "57P01", "40001", "40P01", "55P03"])
async def test_what_may_pass_is_tried_again(pool: Pool, watcher: Watcher, sqlstate: str) -> None:
    await watcher.plan(sqlstate, failures=2)
    assert len(await ping(pool)) == 1
    assert await watcher.count() == (1, 3)


@pytest.mark.parametrize("sqlstate", ["22003", "23505", "XX001", "P0001", "42501", "25001"])
async def test_a_refusal_is_raised_at_once(pool: Pool, watcher: Watcher, sqlstate: str) -> None:
    await watcher.plan(sqlstate, failures=100)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await ping(pool)
    assert caught.value.sqlstate == sqlstate
    assert await watcher.count() == (0, 1)
    assert is_bisectable(caught.value) == sqlstate.startswith(("22", "23", "XX"))
    assert not is_retryable(caught.value)


@pytest.fixture
def no_time_for_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_calls, "BACKOFF_FIRST_SECONDS", 2 * DEADLINE_SECONDS)
    monkeypatch.setattr(random, "random", lambda: 1.0)


async def test_a_function_shows_no_deadlocks_from_its_first_call_on(pool: Pool, watcher: Watcher) -> None:
    """A counter that begins at 1 has not risen, so the alert would pass over the first one."""
    metrics.DEADLOCKS.clear()
    server_calls._function_name.cache_clear()
    await ping(pool)
    shown = [sample for metric in metrics.DEADLOCKS.collect() for sample in metric.samples]
    assert ("calls.ping_v1", 0.0) in [(one.labels["function"], one.value) for one in shown]


@pytest.mark.usefixtures("no_time_for_another_try")
async def test_a_deadlock_is_counted_and_raised_when_it_does_not_pass(pool: Pool, watcher: Watcher) -> None:
    counter = metrics.DEADLOCKS.labels("calls.ping_v1")
    before = counter._value.get()
    await watcher.plan("40P01", failures=10_000)
    with pytest.raises(asyncpg.DeadlockDetectedError) as caught:
        await ping(pool)
    assert is_retryable(caught.value)
    assert counter._value.get() - before == 1
    assert await watcher.count() == (0, 1)


@pytest.mark.usefixtures("no_time_for_another_try")
async def test_an_interruption_that_does_not_pass_leaves_the_outcome_unknown(
    pool: Pool, watcher: Watcher
) -> None:
    await watcher.plan("57014", failures=10_000)
    with pytest.raises(OutcomeUnknown) as caught:
        await ping(pool)
    assert caught.value.was_sent


async def test_a_server_that_became_a_standby_is_left(pool: Pool, watcher: Watcher) -> None:
    old = await pool.fetchval("select pg_backend_pid()")
    await watcher.plan("25006", failures=1)
    (row,) = await ping(pool)
    assert row["backend"] != old


async def test_a_value_that_cannot_be_sent_is_the_rows_own_fault(pool: Pool, watcher: Watcher) -> None:
    with pytest.raises(asyncpg.DataError) as caught:
        await call(pool, PING, "no uuid", deadline_seconds=DEADLINE_SECONDS)
    assert is_bisectable(caught.value)
    assert await watcher.count() == (0, 1)  # a sequence that was never asked stands at 1


async def test_a_cancelled_call_leaves_the_pool_whole(pool: Pool, watcher: Watcher) -> None:
    async with watcher.connection.transaction():
        await watcher.connection.execute(f"select pg_advisory_xact_lock({LOCK})")
        calling = asyncio.ensure_future(ping(pool))
        await watcher.blocked_backend()
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()
    assert len(await asyncio.gather(*(ping(pool) for _ in range(9)))) == 9


@pytest.mark.parametrize(
    ("judge", "error"),
    [
        (is_bisectable, ValueError("no database in sight")),
        (is_retryable, OSError()),
        (is_bisectable, OSError()),
    ],
)
def test_other_errors_are_neither_bisectable_nor_retryable(
    judge: Callable[[BaseException], bool], error: Exception
) -> None:
    assert not judge(error)
