"""Who is shut out while its request waits is refused as at the door: for its body, or for a turn."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.api_rig import Rig, open_api, prepare
from tests.support.locks import ACCOUNT, BLOCKED, held
from tests.support.servers import Database

NUMBERS = [f"+4915112{n:06}" for n in range(1_000)]
SINGLE = {"to": NUMBERS[0], "text": "hello"}
BATCH = {"to": NUMBERS, "text": "sale"}


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


class Late:
    """A request whose head and half of whose body has come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = rest

    async def answer(self) -> tuple[int, Any]:
        """Send the rest; return the status and the JSON of the answer."""
        self._writer.write(self._rest)
        async with asyncio.timeout(30):
            whole = await self._reader.read()
        self._writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


@asynccontextmanager
async def begun(rig: Rig, key: str, path: str, body: Any) -> AsyncIterator[Late]:
    """Ask for something, with half of its body."""
    at, raw = urlsplit(rig.url), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + raw[: len(raw) // 2])
    # Whoever is let in has its key in memory by then: it was used before, by the same process.
    await writer.drain()
    assert (await rig.call("GET", "/v1/balance", key=key)).status == 200
    yield Late(reader, writer, raw[len(raw) // 2 :])


async def told(rig: Rig, key: str, code: str) -> None:
    """Return when the process refuses a message so; else it has no price."""
    async with asyncio.timeout(10):
        while (await rig.send(key, to="+79161234567")).code != code:
            pass


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", SINGLE), ("/v1/messages/batch", BATCH)])
async def test_a_body_that_comes_after_its_key_was_revoked_is_refused(rig, path, body):
    key, operator = await rig.client("acme", credit_micros=1_000_000_000), await rig.operator()
    async with begun(rig, key, path, body) as late:
        await rig.call("DELETE", f"/admin/v1/keys/{key[3:15]}", key=operator)
        await told(rig, key, "unauthorized")
        status, problem = await late.answer()
    assert (status, problem["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", SINGLE), ("/v1/messages/batch", BATCH)])
async def test_a_body_that_comes_after_its_client_was_suspended_is_refused(rig, path, body):
    key, operator = await rig.client("acme", credit_micros=1_000_000_000), await rig.operator()
    async with begun(rig, key, path, body) as late:
        await rig.call("PATCH", "/admin/v1/clients/acme", key=operator, body={"suspended": True})
        await told(rig, key, "client_suspended")
        status, problem = await late.answer()
    assert (status, problem["code"]) == (403, "client_suspended")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/preview"])
async def test_a_body_that_comes_late_is_taken_from_who_is_still_let_in(rig, path):
    key = await rig.client("acme")
    async with begun(rig, key, path, SINGLE) as late:
        status, _ = await late.answer()
    assert status in (200, 202)


async def test_what_of_a_batch_has_had_no_turn_when_its_client_is_suspended_is_refused(rig, database):
    key, operator = await rig.client("acme", credit_micros=1_000_000_000), await rig.operator()
    assert (await rig.send(key)).status == 202
    async with held(database, ACCOUNT, "acme") as holder:
        sending = asyncio.create_task(rig.call("POST", "/v1/messages/batch", key=key, body=BATCH))
        async with asyncio.timeout(10):
            while await holder.fetchval(BLOCKED) == 0:
                await holder.execute("select pg_sleep(0.01)")
        await rig.call("PATCH", "/admin/v1/clients/acme", key=operator, body={"suspended": True})
        await told(rig, key, "client_suspended")
    answer = await sending
    codes = [result["problem"]["code"] for result in answer.body["results"] if "problem" in result]
    assert (answer.status, answer.body["accepted"]) == (202, 500)
    assert codes == ["client_suspended"] * 500
