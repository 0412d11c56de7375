"""Following the configuration: one poll, then prices and keys are what the database says (RULES 32)."""

from api import key_store
from api.authenticate import Authenticator
from api.quote import Prices
from shared.runtime.postgres import Connection, Pool
from shared.storage.config import ConfigWatch, load_carriers, load_rates, load_routes


async def load_prices(connection: Connection, version: int) -> Prices:
    """Load what quoting needs, from one snapshot."""
    return Prices(
        rates=await load_rates(connection, version),
        carriers=await load_carriers(connection),
        routes=await load_routes(connection),
    )


class Follower:
    """Renews prices and keys whenever the configuration's version has risen.

    What clients change themselves, their callback endpoints, renews the keys of those clients alone.
    """

    def __init__(self, pool: Pool, prices: ConfigWatch[Prices], authenticator: Authenticator) -> None:
        self._pool = pool
        self._prices = prices
        self._authenticator = authenticator
        self._is_behind = False
        self._callbacks: key_store.CallbacksVersion | None = None

    async def poll(self) -> None:
        """Look once. What fails half-way is made up for by the next poll."""
        self._is_behind |= await self._prices.refresh()
        if self._is_behind:
            await self._authenticator.refresh()
            self._is_behind = False
        await self._follow_callbacks()

    async def _follow_callbacks(self) -> None:
        found, before = await key_store.read_callbacks_version(self._pool), self._callbacks
        # At the first look no key was loaded yet.
        if before is not None and found.version != before.version:
            changed = await key_store.clients_with_new_endpoints(self._pool, before.read_at)
            await self._authenticator.refresh(changed)
        self._callbacks = found
