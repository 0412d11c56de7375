"""What a new instance begins with: a client with credit and a key, prices, and a carrier to send to.

Everything goes through the API's own role and functions, with lines in the audit trail by the actor
``bootstrap``. It may run at every start: what is there stays as operators have made it since.
"""

import dataclasses
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.default_rates import CURRENCY, default_rates
from cli.home import Home
from embedded.files import write_private
from shared.domain.api_keys import (
    RANDOM_BYTES,
    SCOPES,
    InvalidApiKey,
    format_api_key,
    new_api_key,
    parse_api_key,
)
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection
from shared.runtime.postgres_hosts import connect
from shared.storage import api_keys, carriers, clients, credit, rates
from shared.storage.audit import Actor
from worker.carriers.simulated import simulator_carrier_settings

DEMO_CLIENT: Final = "demo"
DEMO_CREDIT_MICROS: Final = 10_000_000_000
CREDIT_REFERENCE: Final = "bootstrap"
DEMO_KEY: Final = "demo"
KEYS_MAX: Final = 100  # live ones stand first
SIMULATOR: Final = "simulator"
ADMIN_SCOPE: Final = "admin"
# A server that is up answers at once; the role's own limit on a statement is 5 s.
CONNECT_SECONDS: Final = 10.0

BY: Final = Actor("bootstrap")
REASON: Final = "set-up of the instance"


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The keys of the demo client and of the operator, as text. They are kept in the home's *.key files.

    What was done for the demo client besides is told once, and is no part of what there is.
    """

    demo_key: str
    admin_key: str
    is_credited: bool = field(default=False, compare=False)
    is_new_key: bool = field(default=False, compare=False)
    has_earlier_key: bool = field(default=False, compare=False)
    """Whether the new key is not the only one that bootstrap made and that works."""

    @property
    def title(self) -> str:
        """What was done for the demo client, in a few words."""
        if self.is_credited:
            return f"Client demo, with 10,000.00 {CURRENCY} of credit"
        if not self.is_new_key:
            return "Client demo"
        return "Client demo, with a new key" + (
            "; the earlier one still works" if self.has_earlier_key else ""
        )


async def bootstrap(
    dsn_api: str,
    keyring: Keyring,
    *,
    simulator_url: str,
    receipt_secret: str,
    home: Home,
    recognises_repeated_ids: bool = False,
) -> Bootstrapped:
    """Make what is missing of the demo client, its credit and key, the admin key, prices, carrier and route.

    Args:
        dsn_api: the database in the role tollwire_api.
        keyring: seals the simulator's secret; the worker and dlr open it with the same.
        simulator_url: where the simulator takes submits; it may be another one at each start.
        receipt_secret: what submits to the simulator bear, and what signs its receipts.
        home: keeps the keys.
        recognises_repeated_ids: whether this simulator was told to (``recognise_repeated_id``).

    Raises:
        OSError, asyncpg.PostgresError: the database does not answer or refuses.
    """
    connection = await connect(dsn_api, timeout=CONNECT_SECONDS)
    try:
        is_credited = await _ensure_demo_client(connection)
        demo_scopes = [scope for scope in SCOPES if scope != ADMIN_SCOPE]
        demo_key, is_new = await _ensure_key(
            connection, home.demo_key, api_keys.NewKey(DEMO_CLIENT, DEMO_KEY, demo_scopes)
        )
        admin_key, _ = await _ensure_key(
            connection, home.path / "admin.key", api_keys.NewKey(None, "admin", [ADMIN_SCOPE])
        )
        has_earlier = is_new and await _has_earlier_key(connection)
        await ensure_default_rates(connection)
        await ensure_simulated_carrier(
            connection,
            keyring,
            simulator_url,
            receipt_secret,
            recognises_repeated_ids=recognises_repeated_ids,
        )
    finally:
        await connection.close()
    return Bootstrapped(demo_key, admin_key, is_credited, is_new, has_earlier)


async def _ensure_demo_client(connection: Connection) -> bool:
    """Make the client and its credit; True when the credit was posted now."""
    try:
        await clients.client_account(connection, DEMO_CLIENT)
    except clients.NoSuchClient:
        await clients.create_client(connection, DEMO_CLIENT, CURRENCY, clients.ClientSettings(), BY, REASON)
    # Its reference makes it once, even when the start before was cut off between the two.
    posted = await credit.post_credit(
        connection, DEMO_CLIENT, "top_up", DEMO_CREDIT_MICROS, CREDIT_REFERENCE, BY, REASON
    )
    return not posted.is_replay


async def _has_earlier_key(connection: Connection) -> bool:
    """Whether more than one of the keys that were made here works."""
    keys = await api_keys.list_keys(connection, DEMO_CLIENT, limit=KEYS_MAX)
    return sum(key.name == DEMO_KEY and key.revoked_at is None for key in keys) > 1


async def _ensure_key(connection: Connection, file: Path, new: api_keys.NewKey) -> tuple[str, bool]:
    """Return the key in ``file``, and whether it is new: after a missing, unreadable or revoked one.

    The file is written first: a start that is cut off leaves no key in the database that nobody has.
    """
    text = _read_key(file)
    if text is not None:
        try:
            listing = await api_keys.key_listing(connection, parse_api_key(text).key_id)
        except api_keys.NoSuchKey:
            await api_keys.create_key(connection, parse_api_key(text), new, BY, REASON)
            return text, False
        if listing.revoked_at is None:
            return text, False
    key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)
    write_private(file, format_api_key(key) + "\n")
    await api_keys.create_key(connection, key, new, BY, REASON)
    return format_api_key(key), True


def _read_key(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8").strip()
        parse_api_key(text)
    except (FileNotFoundError, UnicodeDecodeError, InvalidApiKey):
        return None
    return text


async def ensure_default_rates(connection: Connection) -> None:
    """Set the price list if nobody has set a price for everybody yet."""
    if not await rates.list_rates(connection, None, limit=1):
        await rates.set_rates(connection, None, default_rates(), BY, REASON)


async def ensure_simulated_carrier(
    connection: Connection, keyring: Keyring, url: str, secret: str, *, recognises_repeated_ids: bool = False
) -> None:
    """Make the simulator a carrier, with its secret, and route everything to it if nothing is routed yet."""
    simulator = await _ensure_simulator(connection, url, recognises_repeated_ids)
    await _ensure_secret(connection, simulator, keyring, secret)
    await _ensure_route(connection)


async def _ensure_simulator(
    connection: Connection, url: str, recognises_repeated_ids: bool
) -> carriers.StoredCarrier:
    row = carriers.CarrierRow(
        name=SIMULATOR,
        kind="http",
        settings=simulator_carrier_settings(url),
        is_simulator=True,
        idempotent_submit=recognises_repeated_ids,
    )
    try:
        old = (await carriers.stored_carrier(connection, SIMULATOR)).row
    except carriers.NoSuchCarrier:
        return await carriers.put_carrier(connection, row, BY, REASON)
    # Only what the simulator itself decides: limits and policies may have been changed since.
    changed = {name: getattr(row, name) for name in ("settings", "idempotent_submit")}
    return await carriers.put_carrier(connection, dataclasses.replace(old, **changed), BY, REASON)


async def _ensure_secret(
    connection: Connection, carrier: carriers.StoredCarrier, keyring: Keyring, secret: str
) -> None:
    """Seal the secret for the carrier, unless what is there opens to it."""
    if not carrier.opens_to(secret, keyring):  # none, another, or sealed with a keyring that is gone
        sealed = keyring.seal(secret.encode(), carriers.carrier_secret_aad(carrier.id))
        await carriers.put_secret(connection, carrier, sealed, BY, REASON)


async def _ensure_route(connection: Connection) -> None:
    """Route everything to the simulator if nothing is routed yet."""
    if not await carriers.list_routes(connection, limit=1):
        await carriers.put_route(connection, carriers.DEFAULT_ROUTE_PREFIX, 1, SIMULATOR, BY, REASON)
