"""The API as a process runs it, inside the test's own loop: real PostgreSQL, a free port, real HTTP."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import asyncpg

from api.service import api
from embedded.ports import free_port
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from shared.domain.rates import Rate
from shared.runtime.gcra import Quota
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.storage import api_keys, carriers, clients, credit, rates
from shared.storage.api_keys import NewKey
from shared.storage.audit import Actor
from shared.storage.carriers import CarrierRow
from shared.storage.clients import ClientSettings
from tests.support.servers import Database

BY = Actor("tests")
ALL_SCOPES = ("messages:send", "messages:read", "balance:read", "callbacks:manage")
PRICE_MICROS = 75_000
# Where nobody listens: NATS is away, and messages are accepted all the same.
NO_NATS = "nats://127.0.0.1:9"
START_SECONDS = 20.0
# Settings, and the quota of operators' keys, for tests that ask more than anybody may.
PLENTY = {
    "total_requests_per_minute": "10000000",
    "total_requests_burst": "1000000",
    "address_requests_per_minute": "10000000",
    "address_requests_burst": "1000000",
}
PLENTY_FOR_OPERATORS = Quota(requests_per_minute=10_000_000, burst=1_000_000)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    """Found in whatever case."""
    body: Any

    @property
    def code(self) -> str:
        """The problem's code."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.body["status"] == self.status
        return str(self.body["code"])

    @property
    def requests_left(self) -> int:
        """How many requests its headers say that the client may send at once."""
        burst, _, left = self.headers["RateLimit"].partition(";r=")
        assert burst == '"burst"', self
        return int(left.partition(";")[0])


class Rig:
    """A running API, and a way past it to the database."""

    def __init__(self, url: str, session: aiohttp.ClientSession, database: Database) -> None:
        self.url = url
        self.session = session
        self.database = database

    async def call(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, **headers: str
    ) -> Answer:
        """Send a request; bytes go as they are, everything else as JSON. ``_`` in a header is ``-``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["X-API-Key"] = key
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {}
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        if body is not None and not isinstance(body, bytes):
            content = {"json": body}
        async with self.session.request(method, self.url + path, headers=sent, **content) as answer:
            raw = await answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return Answer(
                answer.status,
                answer.headers,
                await answer.json(content_type=None) if is_json and raw else raw,
            )

    async def send(self, key: str, to: str = "+4915112345678", text: str = "hello", **fields: Any) -> Answer:
        """POST /v1/messages."""
        headers = {name: fields.pop(name) for name in list(fields) if name[0].isupper()}
        return await self.call(
            "POST", "/v1/messages", key=key, body={"to": to, "text": text, **fields}, **headers
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as the API's role."""
        connection = await asyncpg.connect(self.database.dsn("api"))
        try:
            yield connection
        finally:
            await connection.close()

    async def client(self, name: str, credit_micros: int = 10_000_000, **settings: Any) -> str:
        """Make a client with credit, and return a key of it with every scope but admin."""
        async with self.connection() as conn:
            await clients.create_client(conn, name, "EUR", ClientSettings(**settings), BY)
            if credit_micros:
                await credit.post_credit(conn, name, "top_up", credit_micros, "first", BY, None)
        return await self.key(name)

    async def key(
        self, client: str | None, scopes: Sequence[str] = ALL_SCOPES, *, is_test: bool = False, **fields: Any
    ) -> str:
        """Make a key and return its text."""
        key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test)
        async with self.connection() as conn:
            await api_keys.create_key(conn, key, NewKey(client, "", list(scopes), **fields), BY)
        return format_api_key(key)

    async def operator(self) -> str:
        """Make an operator's key."""
        return await self.key(None, ["admin"])


async def prepare(database: Database) -> None:
    """Prices for everywhere but +7, and a carrier for all of it."""
    connection = await asyncpg.connect(database.dsn("api"))
    everywhere = [Rate(digit, PRICE_MICROS, "EUR") for digit in "12345689"]
    await rates.set_rates(connection, None, everywhere, BY)
    row = CarrierRow(name="simulator", kind="http", settings={}, is_simulator=True)
    await carriers.put_carrier(connection, row, BY)
    await carriers.put_route(connection, "", 1, "simulator", BY)
    await connection.close()


@asynccontextmanager
async def open_api(database: Database, folder: Path, **settings: str) -> AsyncIterator[Rig]:
    """Run the API's service with these TOLLWIRE_* settings (by their lower-case names)."""
    keyring = folder / "keyring.json"
    if not keyring.exists():
        Keyring.generate(keyring)
    port = free_port()
    told = {
        "postgres_dsn": database.dsn("api"),
        "nats_url": NO_NATS,
        "keyring_file": str(keyring),
        "port": str(port),
        "health_port": "0",
        "callback_allow_private": "true",
        **settings,
    }
    environ = {f"TOLLWIRE_{name.upper()}": value for name, value in told.items()}
    stop = Stop()
    with mock.patch.dict(os.environ, environ):
        async with api() as loops, aiohttp.ClientSession() as session:
            running = asyncio.gather(*(loop(stop) for loop in loops))
            await _answers(port, running)
            yield Rig(f"http://127.0.0.1:{port}", session, database)
            await session.close()  # else the API would wait a second for its next request
            stop.request("the test is over")
            await running


async def _answers(port: int, running: "asyncio.Future[Any]") -> None:
    """Wait until the port takes connections; a loop that failed is raised."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            if running.done():
                running.result()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                # Another task of this loop is about to listen; it tells nobody.
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
