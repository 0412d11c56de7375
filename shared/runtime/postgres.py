"""PostgreSQL: a pool for the hot path, an engine for admin and reads, and the call that knows its outcome.

The hot path's transaction is one function call in autocommit (RULES 1). The pool does not reset a
connection when it comes back, which would be a second round trip: whoever uses the pool leaves no
session state behind (no ``SET`` outside a transaction, no session-level advisory lock, no ``LISTEN``).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

import asyncpg
import msgspec
import structlog
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.runtime import metrics
from shared.runtime.postgres_faults import closing_hint, login_fault
from shared.runtime.postgres_hosts import Hosts
from shared.runtime.postgres_pool import make_pool
from shared.runtime.server_calls import (
    BACKOFF_FIRST_SECONDS,
    CONNECT_SECONDS,
    RELEASE_SECONDS,
    TRY_SECONDS,
    OutcomeUnknown,
    Pool,
    call,
    call_telling,
    is_bisectable,
    is_lost,
    is_retryable,
)
from shared.runtime.settings import SettingsError

__all__ = [
    "Connection",
    "OutcomeUnknown",
    "Pool",
    "PostgresSettings",
    "ServerTooOld",
    "call",
    "call_telling",
    "is_bisectable",
    "is_retryable",
    "open_engine",
    "open_pool",
    "open_read_pool",
    "open_second_pool",
]

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

# transaction_timeout came with PostgreSQL 17, and the roles depend on it (RULES 6).
SERVER_VERSION_MIN: Final = 170000
# A failover of a managed server takes 30 to 60 s; a process that waits longer is better restarted.
START_SECONDS: Final = 60.0
# The engine serves admin and reads only, so a few connections are plenty.
ENGINE_CONNECTIONS_MAX: Final = 5

_log = structlog.get_logger(__name__)


class ServerTooOld(Exception):  # noqa: N818 - named for what happened
    """The PostgreSQL server is older than Tollwire needs."""


class PostgresSettings(Protocol):
    """The part of a service's settings that says where its PostgreSQL is."""

    @property
    def postgres_dsn(self) -> str: ...
    @property
    def postgres_pool_min(self) -> int: ...
    @property
    def postgres_pool_max(self) -> int: ...


@asynccontextmanager
async def open_pool(
    settings: PostgresSettings, *, application_name: str, answer_seconds: float = TRY_SECONDS
) -> AsyncIterator[Pool]:
    """Open the pool and follow the primary of a multi-host DSN.

    jsonb goes in and comes out as Python values. Waits ``START_SECONDS`` for a server that is down.

    Args:
        settings: where the server is.
        application_name: what the server calls us.
        answer_seconds: how long a statement may take that brings no limit of its own; that of the services
            is a little more than their roles' statement_timeout.

    Raises:
        ServerTooOld: the server is older than ``SERVER_VERSION_MIN``.
        SettingsError: the server refuses our login, or we its certificate; the setting is named.
        OSError, asyncpg.PostgresError: no server answered in time, or it refuses us for another reason.
    """
    pool = await _connect(settings, _options(application_name, answer_seconds))
    metrics.POOL_CONNECTIONS.labels("open").set_function(pool.get_size)
    metrics.POOL_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
    metrics.POOL_CONNECTIONS.labels("max").set_function(pool.get_max_size)
    try:
        yield pool
    finally:
        await _close(pool)


@asynccontextmanager
async def open_read_pool(dsn: str, pool_max: int, *, application_name: str) -> AsyncIterator[Pool]:
    """Open a pool on a replica, or on the primary where there is none. Connects when it is first used."""
    async with _open_lazily(dsn, pool_max, application_name, SessionAttribute.prefer_standby) as pool:
        yield pool


@asynccontextmanager
async def open_second_pool(settings: PostgresSettings, *, application_name: str) -> AsyncIterator[Pool]:
    """Open a pool on the primary beside that of ``open_pool``, for what must never take connections from it.

    Connects when it is first used; the metrics of the pool tell of the first one alone.
    """
    async with _open_lazily(
        settings.postgres_dsn, settings.postgres_pool_max, application_name, SessionAttribute.read_write
    ) as pool:
        yield pool


@asynccontextmanager
async def _open_lazily(
    dsn: str, pool_max: int, application_name: str, attribute: SessionAttribute
) -> AsyncIterator[Pool]:
    pool = await make_pool(
        Hosts(dsn),
        min_size=0,
        max_size=pool_max,
        init=_prepare_connection,
        reset=_keep_session,
        target_session_attrs=attribute,
        **_options(application_name, TRY_SECONDS),
    )
    try:
        yield pool
    finally:
        await _close(pool)


@asynccontextmanager
async def open_engine(settings: PostgresSettings, *, application_name: str) -> AsyncIterator[AsyncEngine]:
    """Open a SQLAlchemy engine on the same server, for admin and reads only (RULES 1)."""
    hosts = Hosts(settings.postgres_dsn)
    options = _options(application_name, TRY_SECONDS)

    async def connect() -> Any:
        return await hosts.connect(target_session_attrs=SessionAttribute.read_write, **options)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=ENGINE_CONNECTIONS_MAX,
        pool_timeout=CONNECT_SECONDS,
        max_overflow=0,
        pool_pre_ping=True,
    )
    try:
        yield engine
    finally:
        await engine.dispose()


async def _connect(settings: PostgresSettings, options: dict[str, Any]) -> Pool:
    hosts = Hosts(settings.postgres_dsn)
    give_up_at = time.monotonic() + START_SECONDS
    backoff_seconds = BACKOFF_FIRST_SECONDS
    while True:
        try:
            return await _open_once(settings, hosts, options)
        except (asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched, OSError) as error:
            if fault := login_fault(error):
                raise SettingsError([fault]) from error
            if not is_lost(error) or time.monotonic() >= give_up_at:
                raise
            _log.warning("PostgreSQL does not answer yet", error=str(error), hint=closing_hint(error))
        await asyncio.sleep(backoff_seconds)
        backoff_seconds = min(backoff_seconds * 2, CONNECT_SECONDS)


async def _open_once(settings: PostgresSettings, hosts: Hosts, options: dict[str, Any]) -> Pool:
    pool = await make_pool(
        hosts,
        min_size=settings.postgres_pool_min,
        max_size=settings.postgres_pool_max,
        init=_prepare_connection,
        reset=_keep_session,
        target_session_attrs=SessionAttribute.read_write,
        **options,
    )
    try:
        async with pool.acquire() as connection:
            await _refuse_old_server(connection)
    except BaseException:
        pool.terminate()
        raise
    return pool


def _options(application_name: str, answer_seconds: float) -> dict[str, Any]:
    return {
        "timeout": CONNECT_SECONDS,
        "command_timeout": answer_seconds,
        # A statement that expires is closed before the next one may go, and asyncpg waits for that for ever.
        "max_cached_statement_lifetime": 0,
        # Compiling costs a short statement more than it can win.
        "server_settings": {"application_name": application_name, "jit": "off"},
    }


async def _prepare_connection(connection: Connection) -> None:
    try:
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
        )
    except BaseException:
        connection.terminate()  # else the pool says goodbye first, and waits for the answer to that
        raise


def _encode_jsonb(value: object) -> bytes:
    return b"\x01" + msgspec.json.encode(value)  # the binary form of jsonb begins with its version, 1


def _decode_jsonb(value: bytes) -> Any:
    return msgspec.json.decode(value[1:])


async def _keep_session(_connection: Connection) -> None:
    """Leave out the pool's reset query; see the module's first lines."""


async def _refuse_old_server(connection: Connection) -> None:
    number = int(await connection.fetchval("select current_setting('server_version_num')::int"))
    if number < SERVER_VERSION_MIN:
        raise ServerTooOld(
            f"PostgreSQL {SERVER_VERSION_MIN // 10000} or newer is needed, this server is {number // 10000}"
        )


async def _close(pool: Pool) -> None:
    """Close the pool; what is still in use after ``RELEASE_SECONDS`` is cut."""
    try:
        async with asyncio.timeout(RELEASE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()
