"""Batches take turns, and nobody's single message stands behind them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from api.large_bodies import LargeBodies
from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.locks import ACCOUNT, BLOCKED, held
from tests.support.servers import Database

# For a busy machine. Whoever waits behind the campaign is refused after 12 s and does not come so far.
PATIENCE_SECONDS = 60.0
NUMBERS = [f"+4915112{n:06}" for n in range(1_000)]


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def send_batch(rig: Rig, key: str, count: int, **headers: str) -> Answer:
    body = {"to": NUMBERS[:count], "text": "sale", "lane": "bulk"}
    return await rig.call("POST", "/v1/messages/batch", key=key, body=body, **headers)


async def test_one_clients_batches_keep_nobody_elses_messages_waiting(rig):
    campaign = await rig.client("campaign", credit_micros=1_000_000_000)
    bank = await rig.client("bank", credit_micros=1_000_000_000)
    async with held(rig.database, ACCOUNT, "campaign") as holder:
        batches = [asyncio.create_task(send_batch(rig, campaign, 1_000)) for _ in range(6)]
        while await holder.fetchval(BLOCKED) == 0:
            await holder.execute("select pg_sleep(0.01)")
        async with asyncio.timeout(PATIENCE_SECONDS):
            single = await rig.send(bank, lane="express")
            few = await send_batch(rig, bank, 20)
            many = await send_batch(rig, bank, 1_000)
        # The account is held all the while, so all of them went past it.
        assert holder.is_in_transaction()
    assert (single.status, few.body["accepted"], many.body["accepted"]) == (202, 20, 1_000)
    # What became of the campaign depends on how long its account was held; it has its answers.
    assert {answer.status for answer in await asyncio.gather(*batches)} <= {202, 503}


async def test_the_messages_of_batches_have_a_limit_and_repeats_count(rig):
    few = await rig.client("few", credit_micros=1_000_000_000, requests_per_minute=1, requests_burst=40)
    for _ in range(2):
        answer = await send_batch(rig, few, 600, Idempotency_Key="sale")
        assert answer.status == 202
    refused = await send_batch(rig, few, 600, Idempotency_Key="sale")
    assert (refused.status, refused.code) == (429, "too_many_requests")
    # 1,200 may come at once, and then 30 a minute.
    assert 1_100 <= int(refused.headers["Retry-After"]) <= 1_200
    assert refused.body["detail"].startswith("The limit of messages in batches is used up")
    # 40 requests at once; the repeat of the batch gave its own back.
    assert refused.requests_left == 38
    assert (await rig.send(few)).status == 202


@asynccontextmanager
async def half_sent(rig: Rig, key: str, body: bytes, sent: int) -> AsyncIterator[asyncio.StreamReader]:
    """A batch whose body stops in the middle; at the end of the block the rest comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
    head = (
        f"POST /v1/messages/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:sent])
    try:
        yield reader
        writer.write(body[sent:])
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202")
    finally:
        writer.close()


async def test_large_bodies_in_hand_are_bounded_for_each_client(database, tmp_path, monkeypatch):
    monkeypatch.setattr("api.app.LargeBodies", partial(LargeBodies, 400_000))
    await prepare(database)
    batch = json.dumps({"to": NUMBERS[:1], "text": "sale"}).encode()

    async with open_api(database, tmp_path) as rig:

        async def post(key: str, size: int) -> Answer:
            body = batch + b" " * (size - len(batch))
            return await rig.call("POST", "/v1/messages/batch", key=key, body=body)

        greedy, other = await rig.client("greedy"), await rig.client("other")
        async with half_sent(rig, greedy, batch + b" " * 180_000, 170_000):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (refused := await post(greedy, 100_000)).status == 202:
                    pass  # the half was not read yet
            assert (refused.status, refused.code) == (503, "busy")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await post(greedy, 60_000)).status == 202
            assert (await post(other, 100_000)).status == 202
        assert (await post(greedy, 180_000)).status == 202
