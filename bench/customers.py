"""Clients with keys and more credit than a bench can spend, the carrier's row, and the callback's address."""

import http.client
import json
import secrets
from collections.abc import Sequence
from typing import Any, Final

from bench.instance import Instance
from shared.domain.api_keys import RANDOM_BYTES, SCOPES, format_api_key, new_api_key
from shared.runtime.postgres import Connection
from shared.storage import api_keys, carriers, clients, credit
from shared.storage.audit import Actor
from worker.carriers.simulated import simulator_carrier_settings

BY: Final = Actor("bench")
CARRIER: Final = "bench"
CREDIT_MICROS: Final = 10**15
# As many as the columns hold: what one client may ask is no question here.
SETTINGS: Final = clients.ClientSettings(requests_per_minute=10_000_000, requests_burst=1_000_000)
# Clients made in one transaction: a commit for each would be most of the work.
CLIENTS_PER_COMMIT: Final = 500
ASK_SECONDS: Final = 30.0


async def add_clients(instance: Instance, names: Sequence[str]) -> list[str]:
    """Make a client of each name and return its key."""
    keys: list[str] = []
    async with instance.database("api") as connection:
        for begin in range(0, len(names), CLIENTS_PER_COMMIT):
            async with connection.transaction():
                keys += [await _add(connection, name) for name in names[begin:][:CLIENTS_PER_COMMIT]]
    return keys


async def _add(connection: Connection, name: str) -> str:
    key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)
    scopes = [scope for scope in SCOPES if scope != "admin"]
    await clients.create_client(connection, name, "EUR", SETTINGS, BY)
    await credit.post_credit(connection, name, "top_up", CREDIT_MICROS, "bench", BY, None)
    await api_keys.create_key(connection, key, api_keys.NewKey(name, "bench", scopes), BY)
    return format_api_key(key)


async def add_carrier(instance: Instance, url: str) -> None:
    """Route everything to the carrier at ``url``, as a carrier that speaks for itself by its address."""
    settings: dict[str, Any] = simulator_carrier_settings(url)
    settings["headers"] = {}
    settings["receipts"] |= {"auth": {"kind": "address", "networks": ["127.0.0.1/32"]}}
    row = carriers.CarrierRow(name=CARRIER, kind="http", settings=settings)
    async with instance.database("api") as connection:
        await carriers.put_carrier(connection, row, BY)
        await carriers.put_route(connection, carriers.DEFAULT_ROUTE_PREFIX, 1, CARRIER, BY, None)


def set_callback(instance: Instance, key: str, url: str) -> None:
    """Point the callbacks of a key's client at the sink."""
    status, said = ask(instance.api_port, "PUT", "/v1/callback", key, {"url": f"{url}/callbacks"})
    if status not in (200, 201):
        raise RuntimeError(f"the callback was not set: {status} {said}")


def ask(port: int, method: str, path: str, key: str, body: object = None) -> tuple[int, Any]:
    """Ask the API one thing; return status and decoded JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"X-API-Key": key})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()
