"""A pool of connections to PostgreSQL in which every wait ends, also when the server says nothing more."""

from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from shared.runtime.postgres_arrays import ask_types
from shared.runtime.postgres_hosts import Hosts
from shared.runtime.server_calls import CONNECT_SECONDS, RELEASE_SECONDS

if TYPE_CHECKING:
    from asyncpg.pool import PoolAcquireContext

    _Pool = asyncpg.Pool[asyncpg.Record]
else:
    _Pool = asyncpg.Pool

# asyncpg's own limit of 50,000 queries would reopen a busy connection every few minutes.
QUERIES_MAX: Final = 100_000_000
# A pool that grew for a crowd becomes small again; asyncpg's own default.
IDLE_SECONDS: Final = 300.0

_log = structlog.get_logger(__name__)


class LimitedPool(_Pool):
    """A pool whose users wait no longer than they say, or than its own limits when they say nothing.

    For a place ``CONNECT_SECONDS``, for an answer the pool's ``command_timeout``, for the way back
    ``RELEASE_SECONDS``; then the connection is cut and its place is free. So a silent server holds a place
    for one answer, or two in a transaction (the second is that of its rollback), and the way back.
    """

    def acquire(self, *, timeout: float | None = None) -> "PoolAcquireContext[asyncpg.Record]":
        """Wait for a connection; asyncpg would wait for ever."""
        return super().acquire(timeout=CONNECT_SECONDS if timeout is None else timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """Give a connection back. One that does not answer in time is cut, which is no error of its user."""
        try:
            await super().release(connection, timeout=RELEASE_SECONDS if timeout is None else timeout)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            _log.info("connection cut", error=type(error).__name__)

    async def expire_connections(self) -> None:
        """Have every connection made anew when it is next used. Who is idle is cut at once.

        asyncpg says goodbye to each, and waits for the answer of a host that may be the reason for this.
        """
        await super().expire_connections()
        for holder in self._holders:  # type: ignore[attr-defined] # no public way to those that are idle
            if holder.is_idle():
                holder.terminate()


async def make_pool(hosts: Hosts, *, min_size: int, max_size: int, **options: Any) -> LimitedPool:
    """Open a pool on one of the hosts; ``create_pool`` names its class itself, and no other.

    Args:
        hosts: where the server is.
        min_size: connections that are opened at once and kept.
        max_size: never more than these.
        options: ``init`` and ``reset`` of a pool, and those of ``Hosts.connect``.
    """
    ask_types()
    connect: Any = hosts.connect  # asyncpg's type of it names each of the options
    return await LimitedPool(
        connect=connect,
        min_size=min_size,
        max_size=max_size,
        max_queries=QUERIES_MAX,
        max_inactive_connection_lifetime=IDLE_SECONDS,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        **options,
    )
