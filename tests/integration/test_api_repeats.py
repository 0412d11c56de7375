"""A repeat under an idempotency key gets its first answer, whatever has become of the configuration."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.domain.rates import Rate
from shared.storage import carriers, clients, rates
from tests.support.api_rig import BY, PRICE_MICROS, Answer, Rig, open_api, prepare
from tests.support.servers import Database

HOOK = "https://hooks.example.org/sms"
# A change is in force within a second (RULES 32); this much more is for a machine that is busy.
IN_FORCE_SECONDS = 20.0


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def refused(rig: Rig, key: str, code: str, **fields: Any) -> None:
    """Wait until such a message is refused so."""
    async with asyncio.timeout(IN_FORCE_SECONDS):
        while (await rig.send(key, **fields)).body.get("code") != code:  # noqa: ASYNC110 - the poll tells nobody
            await asyncio.sleep(0.05)


async def send_batch(rig: Rig, key: str, idempotency_key: str, *numbers: str) -> Answer:
    body = {"to": list(numbers), "text": "sale"}
    return await rig.call("POST", "/v1/messages/batch", key=key, body=body, Idempotency_Key=idempotency_key)


async def test_a_repeat_gets_its_first_answer_when_the_message_could_not_be_sent_now(rig):
    first = await rig.client("acme", allowed_callback_hosts=["hooks.example.org"])
    await rig.call("PUT", "/v1/callback", key=first, body={"url": "https://acme.example.org/sms"})
    key = await rig.key("acme")  # which is not known yet, without the endpoint
    one = await rig.send(key, Idempotency_Key="one")
    hooked = await rig.send(key, callback_url=HOOK, Idempotency_Key="hooked")
    many = await send_batch(rig, key, "many", "+4915112345678", "+4915112345679")
    assert (one.status, hooked.status, many.body["accepted"]) == (202, 202, 2)

    async def repeats_are_answered() -> None:
        for again, first in (
            (await rig.send(key, Idempotency_Key="one"), one),
            (await rig.send(key, callback_url=HOOK, Idempotency_Key="hooked"), hooked),
        ):
            assert (again.status, again.body) == (202, first.body), again
            assert again.headers["Idempotency-Replayed"] == "true"
        again = await send_batch(rig, key, "many", "+4915112345678", "+4915112345679")
        assert [result["id"] for result in again.body["results"]] == [
            result["id"] for result in many.body["results"]
        ]
        assert again.headers["Idempotency-Replayed"] == "true"

    async with rig.connection() as conn:
        await clients.set_client(conn, "acme", {"allowed_callback_hosts": []}, BY)
        await refused(rig, key, "callback_not_allowed", callback_url=HOOK)
        await repeats_are_answered()
        await rates.remove_rates(conn, None, "EUR", ["4"], BY)
        await refused(rig, key, "no_rate")
        await repeats_are_answered()
        await carriers.remove_route(conn, "", 1, BY)
        await refused(rig, key, "no_route")
        await repeats_are_answered()


async def test_a_key_that_is_refused_for_the_configuration_is_free_for_what_it_says_later(rig):
    key = await rig.client("acme")
    await rig.send(key, Idempotency_Key="one")
    await send_batch(rig, key, "many", "+4915112345678")
    async with rig.connection() as conn:
        await rates.remove_rates(conn, None, "EUR", ["4"], BY)
        await refused(rig, key, "no_rate")
        assert (await rig.send(key, text="other", Idempotency_Key="one")).code == "idempotency_mismatch"
        assert (await rig.send(key, Idempotency_Key="two")).code == "no_rate"
        mixed = await send_batch(rig, key, "many", "+4915112345678", "+4915112345679", "+15005550006")
        codes = [result.get("problem", {}).get("code") for result in mixed.body["results"]]
        assert codes == [None, "no_rate", None]
        await rates.set_rates(conn, None, [Rate("4", PRICE_MICROS, "EUR")], BY)
    async with asyncio.timeout(IN_FORCE_SECONDS):
        while (later := await rig.send(key, Idempotency_Key="two")).status != 202:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    assert "Idempotency-Replayed" not in later.headers


async def test_a_repeat_may_spell_defaults_out_or_leave_them_away(rig):
    key = await rig.client("acme")
    spelled = {"lane": "normal", "delivery": "at_most_once", "valid_for_seconds": 172_800, "client_ref": None}
    first = await rig.send(key, Idempotency_Key="one")
    again = await rig.send(key, Idempotency_Key="one", **spelled)
    assert (again.status, again.body) == (202, first.body), again
    express = await rig.send(key, lane="express", delivery="at_least_once", Idempotency_Key="otp")
    assert (await rig.send(key, lane="express", Idempotency_Key="otp")).body == express.body
    default = {"from": first.body["from"]}  # which may be another one by then
    for other in ({"lane": "bulk"}, {"delivery": "at_least_once"}, {"valid_for_seconds": 600}, default):
        assert (await rig.send(key, Idempotency_Key="one", **other)).code == "idempotency_mismatch"
