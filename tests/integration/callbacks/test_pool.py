"""Kept connections: used while they are fresh, closed when they are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from dlr.connection import Connection
from dlr.dialer import Dialer, tls_context
from dlr.guard import Guard
from dlr.pool import AGE_SECONDS_MAX, IDLE_SECONDS_MAX, Pool
from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from dlr.resolver import Resolver
from dlr.watch import Watch
from shared.domain.callback_urls import UrlPolicy, parse_callback_url
from shared.domain.callbacks import Posted
from tests.support.endpoints import Endpoint, Reply, Request, answer, endpoint, says, says_nothing

KEY = ("http", "127.0.0.1", 1)
OTHER_KEY = ("http", "127.0.0.1", 2)
LAPTOP = UrlPolicy(allow_private=True)


class Bench:
    """A pool, and real connections to put into it."""

    def __init__(self, it: Endpoint, connections_max: int) -> None:
        self.pool = Pool(connections_max)
        self._url = parse_callback_url(it.url(), LAPTOP)
        self._dialer = Dialer(Guard(LAPTOP, Resolver()), tls_context())

    async def connection(self, *, idle_seconds: float = 0.0, age_seconds: float = 0.0) -> Connection:
        assert self.pool.reserve()
        now = asyncio.get_running_loop().time()
        watch: Watch[Connection] = Watch(Connection.end_late)
        connection = await self._dialer.open(
            self._url, now + 10, lambda ip: Connection(ip, watch, self.pool.closed)
        )
        self.pool.opened(connection)
        connection.idle_since = now - idle_seconds
        connection.opened_at = now - age_seconds
        return connection


@asynccontextmanager
async def bench(connections_max: int = 10) -> AsyncIterator[Bench]:
    async with endpoint(says(answer())) as it:
        made = Bench(it, connections_max)
        yield made
        await made.pool.close()


async def test_the_connection_used_last_is_used_next() -> None:
    async with bench() as it:
        first, second = await it.connection(), await it.connection()
        it.pool.put(KEY, first)
        it.pool.put(KEY, second)

        assert [it.pool.take(KEY), it.pool.take(KEY), it.pool.take(KEY)] == [second, first, None]


async def test_a_connection_serves_its_own_host_only() -> None:
    async with bench() as it:
        it.pool.put(KEY, await it.connection())

        assert it.pool.take(OTHER_KEY) is None
        assert it.pool.take(KEY) is not None


@pytest.mark.parametrize(
    ("idle_seconds", "age_seconds"), [(IDLE_SECONDS_MAX + 1, IDLE_SECONDS_MAX + 1), (0, AGE_SECONDS_MAX + 1)]
)
async def test_a_connection_that_idled_or_lived_too_long_is_closed(
    idle_seconds: float, age_seconds: float
) -> None:
    async with bench() as it:
        connection = await it.connection(idle_seconds=idle_seconds, age_seconds=age_seconds)
        it.pool.put(KEY, connection)

        assert it.pool.take(KEY) is None
        assert not connection.is_usable


async def test_a_closed_connection_is_not_kept() -> None:
    async with bench() as it:
        connection = await it.connection()
        connection.abort()
        it.pool.put(KEY, connection)

        assert it.pool.take(KEY) is None


async def test_the_one_that_idled_longest_makes_room() -> None:
    async with bench(2) as it:
        oldest, newest = await it.connection(), await it.connection()
        it.pool.put(KEY, oldest)
        it.pool.put(OTHER_KEY, newest)

        assert it.pool.reserve()
        assert not oldest.is_usable
        assert newest.is_usable


async def test_there_is_no_room_while_all_are_in_use() -> None:
    async with bench(2) as it:
        await it.connection()
        assert it.pool.reserve()
        assert not it.pool.reserve()

        it.pool.not_opened()
        assert it.pool.reserve()


async def test_idle_connections_are_swept_when_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlr.pool.IDLE_SECONDS_MAX", 0.05)
    hung_up = asyncio.Event()

    async def script(request: Request, reply: Reply) -> None:
        await reply.send(answer())
        await says_nothing(request, reply)
        hung_up.set()

    async with (
        endpoint(script) as it,
        CallbackPoster(CallbackSettings(callback_allow_private=True)) as poster,
    ):
        outcome = await poster.post(Delivery(UUID(int=1), 7, it.url(), (b"s" * 32,), b"{}"))
        await hung_up.wait()

    assert isinstance(outcome, Posted)
