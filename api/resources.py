"""What a running API has open; every handler gets it as its first argument."""

from dataclasses import dataclass

from api.accept import Accept
from api.cancel import Cancels
from api.health import Health
from api.in_flight import InFlight
from api.limits import Limits
from api.places import ClientPlaces
from api.quote import Prices
from api.reader import Reader
from shared.domain.callback_urls import UrlPolicy
from shared.runtime.clock import Clock
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Pool
from shared.storage.config import ConfigWatch
from shared.storage.facts import FactPublisher


@dataclass(frozen=True, slots=True)
class Resources:
    """Opened by ``api/service.py``, closed after the last request."""

    pool: Pool
    """For reads and changes by hand; what accepts messages and knows keys has a pool of its own."""
    accept: Accept
    prices: ConfigWatch[Prices]
    limits: Limits
    in_flight: InFlight
    keyring: Keyring
    clock: Clock
    health: Health
    url_policy: UrlPolicy
    """Which URLs a callback may go to."""
    facts: FactPublisher
    reader: Reader
    """For lists, statements and balances: nothing that decides reads there."""
    places: ClientPlaces
    cancels: Cancels
