"""Following the configuration: one poll, then prices and keys are what the database says (RULES 32)."""

from collections.abc import Sequence

from api import key_store
from api.authenticate import Authenticator
from api.quote import Prices
from shared.runtime.loops import Loop
from shared.runtime.postgres import Connection, Pool
from shared.storage.config import (
    ConfigWatch,
    load_carriers,
    load_rates,
    load_routes,
    polling,
)


async def load_prices(connection: Connection, version: int) -> Prices:
    """Load what quoting needs, from one snapshot."""
    return Prices(
        rates=await load_rates(connection, version),
        carriers=await load_carriers(connection),
        routes=await load_routes(connection),
    )


class Follower:
    """Renews the keys whenever the configuration's version has risen, and says what renews the prices.

    What clients change themselves, their callback endpoints, renews the keys of those clients alone.
    ``prices.keep_up`` is a loop of its own: a key that was revoked ends within a second however long the
    prices take to load, and also when they cannot be loaded at all. While they load that takes a second
    connection: where the pool has one, as ``split_pool`` makes it of one or two, keys wait for the prices.
    """

    def __init__(self, pool: Pool, authenticator: Authenticator) -> None:
        self._pool = pool
        self.prices = ConfigWatch(pool, load_prices, read_version=key_store.READ_VERSIONS)
        self._authenticator = authenticator
        self._config_version = 0
        self._before: key_store.Versions | None = None

    def loops(self) -> Sequence[Loop]:
        """Return the loop of the keys and that of the prices."""
        return [polling(self.poll), self.prices.keep_up]

    async def poll(self) -> None:
        """Look once. What fails half-way is made up for by the next poll."""
        found = key_store.Versions(*await self.prices.look())
        if found.config != self._config_version:
            self._authenticator.outdate()
            self._config_version = found.config
        await self._authenticator.refresh()
        await self._follow_callbacks(found)

    async def _follow_callbacks(self, found: key_store.Versions) -> None:
        before = self._before
        # At the first look no key was loaded yet.
        if before is not None and found.callbacks != before.callbacks:
            self._authenticator.outdate(
                await key_store.clients_with_new_endpoints(self._pool, before.read_at)
            )
        self._before = found
        await self._authenticator.refresh()
