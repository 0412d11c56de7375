"""POST /v1/messages against the real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_a_message_is_accepted_and_its_price_held(rig):
    key = await rig.client("acme")
    answer = await rig.send(key, client_ref="order-1")
    assert answer.status == 202, answer
    assert answer.body["status"] == "QUEUED"
    assert answer.body["price"] == {"amount": "0.0750", "currency": "EUR"}
    assert answer.body["balance"] == {"available": "9.9250", "currency": "EUR"}
    balance = await rig.call("GET", "/v1/balance", key=key)
    assert (balance.body["held"], balance.body["available"]) == ("0.0750", "9.9250")
    assert balance.body["open_holds"] == 1
