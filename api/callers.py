"""Who calls: an API key, the client it belongs to, and what both may do."""

from dataclasses import dataclass

from shared.runtime.addresses import Network
from shared.runtime.gcra import Quota


@dataclass(frozen=True, slots=True)
class Client:
    """A paying client as the API needs it; a copy of its row, renewed within a second (RULES 32).

    ``allowed_senders`` and ``allowed_countries`` are None where everything is allowed that the routes and
    rates allow. ``allowed_callback_hosts`` holds the host of its own endpoint too, and
    ``has_endpoint`` says whether there is one, with a secret that signs. ``id`` is also the id of its ledger
    account. ``charge`` is delivered or submitted.
    """

    id: int
    name: str
    currency: str
    is_suspended: bool
    quota: Quota
    charge: str
    default_sender: str
    allowed_senders: frozenset[str] | None
    allowed_countries: frozenset[str] | None
    allowed_callback_hosts: frozenset[str]
    messages_per_second: int
    text_retention_days: int
    has_endpoint: bool


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A live API key. ``client`` is None for an operator's key that belongs to no client."""

    key_id: str
    secret_hash: bytes
    is_test: bool
    scopes: frozenset[str]
    allowed_networks: tuple[Network, ...]
    expires_at_seconds: float | None
    """Seconds since the epoch; None: never."""
    client: Client | None
    seal: bytes | None = None
    """What spares it bcrypt, if it was verified before; see ``api.key_seals``."""
