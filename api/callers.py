"""Who calls: an API key, the client it belongs to, and what both may do."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.runtime.addresses import Network
from shared.runtime.gcra import Quota

# An operator's key that belongs to no client; consoles and scripts stay far below.
OPERATOR_QUOTA: Final = Quota(requests_per_minute=6_000, burst=600)


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


class Contract(NamedTuple):
    """The limit that a caller's requests count against.

    ``policy`` is its RateLimit-Policy, of draft-ietf-httpapi-ratelimit-headers: how many, and what may come
    at once.
    """

    subject: str
    quota: Quota
    policy: str


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
    contract: Contract = field(init=False, repr=False, compare=False)
    """All live keys of a client share one, and all its test keys another as large."""

    def __post_init__(self) -> None:
        """Spell the contract out once: it is looked at with each request."""
        object.__setattr__(self, "contract", _contract(self))


def kind_of(key: KeyRecord, client: Client) -> str:
    """A client's live keys, or its test keys."""
    return f"{client.id}:test" if key.is_test else str(client.id)


def _contract(key: KeyRecord) -> Contract:
    if key.client is None:
        subject, quota = f"key:{key.key_id}", OPERATOR_QUOTA
    else:
        subject, quota = f"client:{kind_of(key, key.client)}", key.client.quota
    policy = f'"default";q={quota.requests_per_minute};w=60'
    return Contract(subject, quota, f'{policy}, "burst";q={quota.burst};w={quota.burst_window_seconds}')
