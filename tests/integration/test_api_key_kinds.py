"""What a key is for: clients' keys administer nothing, test keys see and touch only test messages."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.servers import Database

URL = "https://hooks.example.org/sms"


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def made(rig: Rig, **body: object) -> Answer:
    return await rig.call("POST", "/admin/v1/keys", key=await rig.operator(), body=body)


async def test_an_operators_key_is_of_no_client_and_no_test_key(rig):
    await rig.client("acme")
    for body, field in (
        ({"client": "acme", "scopes": ["admin"]}, "scopes"),
        ({"client": "acme", "scopes": ["messages:send", "admin"]}, "scopes"),
        ({"client": None, "scopes": ["admin"], "test": True}, "test"),
        ({"client": None, "scopes": ["messages:send"]}, "client"),
    ):
        refused = await made(rig, **body)
        assert (refused.status, refused.code) == (422, "validation_failed"), body
        assert [error["field"] for error in refused.body["errors"]] == [field]
    assert (await made(rig, client="acme", scopes=["messages:send"], test=True)).status == 201
    assert (await made(rig, client=None, scopes=["admin"])).status == 201


@pytest.mark.parametrize(
    ("client", "scopes", "is_test"), [("acme", ["admin"], False), (None, ["admin"], True)]
)
async def test_the_database_takes_no_such_key_either(rig, client, scopes, is_test):
    await rig.client("acme")
    with pytest.raises(asyncpg.CheckViolationError):
        await rig.key(client, scopes, is_test=is_test)


async def test_a_test_key_sees_and_cancels_only_test_messages(rig):
    live = await rig.client("acme")
    test = await rig.key("acme", is_test=True)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    real = (await rig.send(live, text="Your code is 1", send_at=later)).body["id"]
    tried = (await rig.send(test, send_at=later)).body["id"]
    for path in (f"/v1/messages/{real}", "/v1/messages", "/v1/messages?to=%2B4915112345678"):
        seen = await rig.call("GET", path, key=test)
        assert real not in str(seen.body), path
    assert (await rig.call("GET", f"/v1/messages/{real}", key=test)).code == "not_found"
    assert (await rig.call("DELETE", f"/v1/messages/{real}", key=test)).code == "not_found"
    listed = await rig.call("GET", "/v1/messages", key=test)
    assert [one["id"] for one in listed.body["messages"]] == [tried]
    assert (await rig.call("DELETE", f"/v1/messages/{tried}", key=test)).status == 200
    assert (await rig.call("GET", f"/v1/messages/{tried}", key=test)).body["status"] == "CANCELLED"
    everything = await rig.call("GET", "/v1/messages", key=live)
    assert [one["id"] for one in everything.body["messages"]] == [tried, real]
    assert (await rig.call("DELETE", f"/v1/messages/{real}", key=live)).status == 200


async def test_a_test_key_reads_the_callback_endpoint_and_changes_nothing_of_it(rig):
    live = await rig.client("acme")
    test = await rig.key("acme", is_test=True)
    assert (await rig.call("PUT", "/v1/callback", key=live, body={"url": URL})).status == 201
    assert (await rig.call("GET", "/v1/callback", key=test)).body["url"] == URL
    for method, path, body in (
        ("PUT", "/v1/callback", {"url": URL + "/mine"}),
        ("POST", "/v1/callback/rotate", {}),
        ("POST", "/v1/callback/test", None),
        ("POST", "/v1/callback/replay", {"since": "2026-01-01T00:00:00Z"}),
    ):
        refused = await rig.call(method, path, key=test, body=body)
        assert (refused.status, refused.code) == (403, "forbidden"), path
        assert "live key" in refused.body["detail"]
    assert (await rig.call("GET", "/v1/callback", key=live)).body["url"] == URL


async def test_a_test_key_reads_of_the_callbacks_only_those_of_test_messages(rig):
    live = await rig.client("acme")
    test = await rig.key("acme", is_test=True)
    events = {"url": URL, "events": ["message.cancelled"]}
    assert (await rig.call("PUT", "/v1/callback", key=live, body=events)).status == 201
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    sent = []
    for key in (live, test):
        sent.append((await rig.send(key, send_at=later)).body["id"])
        assert (await rig.call("DELETE", f"/v1/messages/{sent[-1]}", key=key)).status == 200
    for key, ids in ((live, sent[::-1]), (test, sent[1:])):
        log = await rig.call("GET", "/v1/callback/attempts", key=key)
        assert [one["message_id"] for one in log.body["callbacks"]] == ids
