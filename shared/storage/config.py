"""The configuration that every process keeps in memory, and the watch that keeps it fresh.

One poll of a version number is the guarantee that a revoked key or a suspended client is known
everywhere within a second (RULES 32); a message over NATS may make it faster, never replace it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from prometheus_client import Gauge

from shared.domain.rates import RateTable
from shared.runtime.loops import Loop, Stop, every
from shared.runtime.postgres import Connection, Pool
from shared.runtime.server_calls import CONNECT_SECONDS
from shared.storage.finals import know_carriers

POLL_SECONDS: Final = 0.5
# A look that failed is followed by the next one so soon: what changed in an outage is known right after it.
POLL_BACKOFF_SECONDS: Final = 1.0
# One row by one round trip. A server whose host has vanished says nothing at all, and TCP waits for minutes.
VERSION_SECONDS: Final = 2.0
# A host that says nothing took all of the pool's connections with it. One that is only slow must not be
# connected to anew by every process after each look: such a look ends its own connection alone.
EXPIRE_AGAIN_SECONDS: Final = 30.0
# Requests wait no longer than this for the tables that are made of what was loaded.
TURN_SECONDS: Final = 0.005
# Between two loads, where what is new comes faster than it is loaded.
LOAD_REST_SECONDS: Final = 0.2
# The client whose rates are the list for everybody.
EVERYBODY: Final = 0

C = TypeVar("C")
Load = Callable[[Connection, int], Awaitable[C]]


@dataclass(frozen=True, slots=True)
class CarrierConfig:
    """A carrier and how it wants to be treated."""

    id: int
    name: str
    kind: str
    settings: dict[str, Any]
    secret_sealed: bytes | None
    is_enabled: bool
    is_simulator: bool
    may_ask_again: bool
    splits_parts: bool
    rate_per_second: int
    window_max: int
    submit_deadline_seconds: int
    receipt_wait_seconds: int


def carrier_aad(carrier_id: int) -> bytes:
    """What a carrier's sealed secret is bound to: a secret moved to another row does not open."""
    return b"carrier:%d" % carrier_id


class Routes:
    """Which carriers carry which prefixes, best first."""

    __slots__ = ("_lengths", "by_prefix")

    def __init__(self, by_prefix: dict[str, tuple[int, ...]]) -> None:
        self.by_prefix = by_prefix
        lengths = {len(prefix) for prefix, carriers in by_prefix.items() if carriers}
        self._lengths = tuple(sorted(lengths, reverse=True))

    def carriers_for(self, e164: str) -> tuple[int, ...]:
        """Return the carriers of the longest prefix that has any, best first; empty when nothing fits."""
        digits = e164.removeprefix("+")
        for length in self._lengths:
            carriers = self.by_prefix.get(digits[:length])
            if carriers:
                return carriers
        return ()


# Everybody's list first: clients' own prices are laid over it.
LOAD_RATES = """
    select coalesce(client_id, 0), currency, array_agg(prefix), array_agg(price_micros) from tollwire.rates
    where until_version is null
    group by client_id, currency order by client_id nulls first
"""


async def load_rates(connection: Connection, version: int) -> dict[tuple[int, str], RateTable]:
    """Load the rate tables by (client, currency); client ``EVERYBODY`` is the list for everybody.

    A client with rates of its own has them laid over the list.
    """
    tables: dict[tuple[int, str], RateTable] = {}
    turn_ends_at = time.monotonic() + TURN_SECONDS
    for client_id, currency, prefixes, prices in await connection.fetch(LOAD_RATES):
        own = dict(zip(prefixes, prices, strict=True))
        everybodys = tables.get((EVERYBODY, currency))
        tables[client_id, currency] = RateTable(own, currency, version, everybodys=everybodys)
        if time.monotonic() >= turn_ends_at:
            await asyncio.sleep(0)
            turn_ends_at = time.monotonic() + TURN_SECONDS
    return tables


LOAD_CARRIERS = """
    select id, name, kind, settings, secret_sealed, enabled, is_simulator, idempotent_submit,
           splits_parts, rate_per_second, window_max, submit_deadline_seconds, receipt_wait_seconds
    from tollwire.carriers
"""


async def load_carriers(connection: Connection) -> dict[int, CarrierConfig]:
    """Load every carrier by its id, the disabled ones too: their receipts still come."""
    carriers = {row[0]: CarrierConfig(*row) for row in await connection.fetch(LOAD_CARRIERS)}
    know_carriers({carrier.id: carrier.name for carrier in carriers.values()})
    return carriers


LOAD_ROUTES = "select prefix, carrier_id from tollwire.routes order by prefix, priority"


async def load_routes(connection: Connection) -> Routes:
    """Load the routes."""
    by_prefix: dict[str, tuple[int, ...]] = {}
    for prefix, carrier_id in await connection.fetch(LOAD_ROUTES):
        by_prefix[prefix] = (*by_prefix.get(prefix, ()), carrier_id)
    return Routes(by_prefix)


VERSION: Final = Gauge("tollwire_config_version", "The configuration's version that is in force here")
LOADED: Final = Gauge("tollwire_config_loaded_timestamp_seconds", "When the configuration was last loaded")

# Each reads one row: the version, and what else is watched.
READ_VERSION = "select version from tollwire.config_version"
# For who needs clients' endpoints and secrets, too. Both only grow, so their sum changes with either.
READ_VERSION_WITH_CALLBACKS = "select version + callbacks from tollwire.config_version"


class ConfigWatch(Generic[C]):
    """Keeps one process's configuration: ``load(connection, version)`` reads it in one snapshot."""

    def __init__(self, pool: Pool, load: Load[C], *, read_version: str = READ_VERSION) -> None:
        self._pool = pool
        self._load = load
        self._read_version = read_version
        self._listeners: list[Callable[[C], None]] = []
        self.version = 0
        self._newest = 0
        self._is_behind = asyncio.Event()  # what was seen is not in force; or the stop has come
        self._current: C | None = None
        self._expires_from = 0.0  # monotonic: before it the pool's connections stay

    @property
    def current(self) -> C:
        """The configuration as of at most a poll ago.

        Raises:
            RuntimeError: before the first ``refresh()``.
        """
        if self._current is None:
            raise RuntimeError("the configuration was not loaded yet")
        return self._current

    def on_change(self, listener: Callable[[C], None]) -> None:
        """Call ``listener`` with every new configuration, in the loop that refreshes."""
        self._listeners.append(listener)

    async def refresh(self) -> bool:
        """Load the configuration if its version has changed; return whether it had.

        Raises:
            TimeoutError: as ``look`` does.
        """
        async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
            if (await self._look(connection))[0] == self.version:
                return False
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                version = await connection.fetchval(self._read_version)
                current = await self._load(connection, version)
        self.version, self._current = version, current
        VERSION.set(version)
        LOADED.set_to_current_time()
        for listener in self._listeners:
            listener(current)
        return True

    async def catch_up(self) -> None:
        """Load what ``look`` saw that is not in force; asks nobody where there is nothing.

        Raises:
            TimeoutError: as ``look`` does.
        """
        if self._newest != self.version:
            await self.refresh()

    async def keep_up(self, stop: Stop) -> None:
        """Load what another loop's ``look`` sees, as soon as it does, until the stop."""
        stop.also_set(self._is_behind)
        await every(
            stop,
            LOAD_REST_SECONDS,
            self._catch_up_when_behind,
            name="ConfigWatch.keep_up",
            backoff_max_seconds=POLL_BACKOFF_SECONDS,
        )

    async def _catch_up_when_behind(self) -> None:
        await self._is_behind.wait()
        await self.catch_up()
        if self._newest == self.version:
            self._is_behind.clear()

    async def look(self) -> tuple[Any, ...]:
        """Return the version that there is, and what ``read_version`` reads behind it; load nothing.

        Raises:
            TimeoutError: the server says nothing. The pool's other connections are made anew when they are
                next used, once in ``EXPIRE_AGAIN_SECONDS``: they led to the same host.
        """
        async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
            return await self._look(connection)

    async def _look(self, connection: Connection) -> tuple[Any, ...]:
        try:
            row = await connection.fetchrow(self._read_version, timeout=VERSION_SECONDS)
        except TimeoutError:
            connection.terminate()  # else the pool would wait for it to confirm that the query is cancelled
            if time.monotonic() >= self._expires_from:
                self._expires_from = time.monotonic() + EXPIRE_AGAIN_SECONDS
                await self._pool.expire_connections()
            raise
        if row is None:
            raise LookupError("config_version")
        self._newest = row[0]
        if self._newest != self.version:
            self._is_behind.set()
        return tuple(row)


def polling(look: Callable[[], Awaitable[object]], seconds: float = POLL_SECONDS) -> Loop:
    """Return the loop that looks at the configuration for as long as a process lives (RULES 32)."""
    return partial(every, interval_seconds=seconds, run_once=look, backoff_max_seconds=POLL_BACKOFF_SECONDS)
