"""Who sends and over whom: clients with credit, keys and endpoints, and the two carriers."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import asyncpg
import msgspec

from cli.default_rates import default_rates
from embedded.ports import free_port
from shared.domain.api_keys import RANDOM_BYTES, SCOPES, format_api_key, new_api_key
from shared.runtime.keyring import Keyring
from shared.storage import api_keys, carriers, clients, credit, rates
from shared.storage.audit import Actor
from tests.chaos.instance import CARRIERS, SIMULATOR_SECRET, CarrierKind, Instance
from worker.carriers.simulated import simulator_carrier_settings

BY = Actor("chaos")
REASON = "chaos"
CREDIT_MICROS = 10**12
# The client asks again and again while a part of the instance is down.
REQUESTS_PER_MINUTE = 1_000_000
REQUESTS_BURST = 100_000
# The least that the table allows, so that a lost claim is looked at within seconds.
SUBMIT_DEADLINE_SECONDS = 4
# How long a message of unknown outcome waits for a receipt.
RECEIPT_WAIT_SECONDS = 6


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """A client to make. ``share``: its part of the load; ``is_hostile``: its endpoint takes no callbacks."""

    name: str
    share: float
    charge: str = "delivered"
    events: tuple[str, ...] = ()
    is_hostile: bool = False


ACCOUNTS = (
    AccountPlan("acme", 4),
    AccountPlan("bolt", 3, events=("message.sent", "message.delivered", "message.undelivered",
                                   "message.expired", "message.failed", "message.cancelled",
                                   "message.late_receipt")),
    AccountPlan("corp", 2),
    AccountPlan("dime", 1, charge="submitted"),
)  # fmt: skip


# The names say what their endpoints do (tests/chaos/hostile.py); at "dead" nobody listens.
HOSTILE_ACCOUNTS = tuple(
    AccountPlan(name, 1, is_hostile=True) for name in ("dead", "drip", "endless", "bomb", "redirect")
)


class Account(msgspec.Struct, frozen=True):
    """A client as the load and the endpoint know it."""

    name: str
    key: str
    share: float
    charge: str
    secret: str
    is_hostile: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """The clients, and where their endpoints listen."""

    accounts: list[Account]
    sink_port: int
    hostile_port: int

    @property
    def hostile(self) -> list[str]:
        """The clients whose endpoint takes no callbacks."""
        return [account.name for account in self.accounts if account.is_hostile]


def carrier_rules(mix: Mapping[str, float], seed: int, kind: CarrierKind) -> dict[str, object]:
    """What a carrier is told at its start."""
    return {
        "seed": seed,
        "rules": [{"mix": mix}],
        "magic_numbers": False,
        "latency_seconds": 0.02,
        "jitter_seconds": 0.1,
        "receipt_delay_seconds": 0.1,
        "receipt_jitter_seconds": 0.5,
        "recognise_repeated_id": kind.recognises,
        "echo_message_id": kind.echoes,
    }


def write_rules(instance: Instance, mix: Mapping[str, float], seed: int) -> dict[str, dict[str, object]]:
    """Write what the carriers read at each of their starts; return it by the carrier's name."""
    rules = {kind.name: carrier_rules(mix, seed, kind) for kind in CARRIERS}
    for name, told in rules.items():
        (instance.folder / f"{name}.rules.json").write_text(json.dumps(told))
    return rules


async def make_rows(
    instance: Instance, plans: Sequence[AccountPlan], no_receipt_seconds: int
) -> list[tuple[AccountPlan, str]]:
    """Clients, credit, keys, prices, carriers and routes, written by the API's own role."""
    connection = await asyncpg.connect(instance.dsn("tollwire_api"))
    try:
        await rates.set_rates(connection, None, default_rates(), BY, REASON)
        for kind in CARRIERS:
            await _make_carrier(connection, instance, kind, no_receipt_seconds)
        return [(plan, await _make_client(connection, plan)) for plan in plans]
    finally:
        await connection.close()


async def _make_carrier(
    connection: "asyncpg.Connection[asyncpg.Record]",
    instance: Instance,
    kind: CarrierKind,
    no_receipt_seconds: int,
) -> None:
    row = carriers.CarrierRow(
        name=kind.name,
        kind="http",
        settings=simulator_carrier_settings(instance.carrier_url(kind.name)),
        is_simulator=True,
        idempotent_submit=kind.recognises,
        submit_deadline_seconds=SUBMIT_DEADLINE_SECONDS,
        receipt_wait_seconds=RECEIPT_WAIT_SECONDS,
        no_receipt_seconds=no_receipt_seconds,
    )
    stored = await carriers.put_carrier(connection, row, BY, REASON)
    sealed = Keyring.load(instance.keyring_file).seal(
        SIMULATOR_SECRET.encode(), carriers.carrier_secret_aad(stored.id)
    )
    await carriers.put_secret(connection, stored, sealed, BY, REASON)
    await carriers.put_route(connection, kind.prefix, 1, kind.name, BY, REASON)


async def _make_client(connection: "asyncpg.Connection[asyncpg.Record]", plan: AccountPlan) -> str:
    settings = clients.ClientSettings(
        requests_per_minute=REQUESTS_PER_MINUTE,
        requests_burst=REQUESTS_BURST,
        charge="submitted" if plan.charge == "submitted" else "delivered",
    )
    await clients.create_client(connection, plan.name, "EUR", settings, BY, REASON)
    await credit.post_credit(connection, plan.name, "top_up", CREDIT_MICROS, "opening", BY, REASON)
    key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)
    scopes = [scope for scope in SCOPES if scope != "admin"]
    await api_keys.create_key(connection, key, api_keys.NewKey(plan.name, "chaos", scopes), BY, REASON)
    return format_api_key(key)


async def set_endpoints(instance: Instance, made: list[tuple[AccountPlan, str]]) -> Scene:
    """Name each client's endpoint, over the API."""
    sink_port = instance.ports["sink"] = free_port(instance.ports.values())
    hostile_port = instance.ports["hostile"] = free_port(instance.ports.values())
    dead_port = free_port(instance.ports.values())
    accounts = []
    async with aiohttp.ClientSession(instance.api_urls[0]) as session:
        for plan, key in made:
            port = sink_port if not plan.is_hostile else dead_port if plan.name == "dead" else hostile_port
            body: dict[str, object] = {"url": f"http://127.0.0.1:{port}/{plan.name}"}
            if plan.events:
                body["events"] = list(plan.events)
            async with session.put("/v1/callback", json=body, headers={"X-API-Key": key}) as answer:
                shown = await answer.json()
                if answer.status != 201:
                    raise RuntimeError(f"the endpoint was not set: {shown}")
            accounts.append(
                Account(plan.name, key, plan.share, plan.charge, shown["secret"], plan.is_hostile)
            )
    return Scene(accounts, sink_port, hostile_port)
