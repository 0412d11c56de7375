"""Following the configuration: one poll, then prices and keys are what the database says (RULES 32)."""

from api.authenticate import Authenticator
from api.quote import Prices
from shared.runtime.postgres import Connection
from shared.storage.config import ConfigWatch, load_carriers, load_rates, load_routes


async def load_prices(connection: Connection, version: int) -> Prices:
    """Load what quoting needs, from one snapshot."""
    return Prices(
        rates=await load_rates(connection, version),
        carriers=await load_carriers(connection),
        routes=await load_routes(connection),
    )


class Follower:
    """Renews prices and keys whenever the configuration's version has risen."""

    def __init__(self, prices: ConfigWatch[Prices], authenticator: Authenticator) -> None:
        self._prices = prices
        self._authenticator = authenticator
        self._is_behind = False

    async def poll(self) -> None:
        """Look once. What fails half-way is made up for by the next poll."""
        self._is_behind |= await self._prices.refresh()
        if self._is_behind:
            await self._authenticator.refresh()
            self._is_behind = False
