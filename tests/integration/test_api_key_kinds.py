"""What a key is for: clients' keys administer nothing, test keys see and touch only test messages."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

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


async def test_operators_keys_are_listed_page_by_page_and_revoked_with_a_reason(rig):
    await rig.client("acme")
    operator = await rig.operator()
    kept, gone, lost = [(await made(rig, scopes=["admin"])).body["key_id"] for _ in range(3)]
    for key_id, why in ((gone, "left us"), (lost, "stolen laptop")):
        revoked = await rig.call("DELETE", f"/admin/v1/keys/{key_id}?reason={why}", key=operator)
        assert revoked.body["revoked_at"] is not None
    again = await rig.call("DELETE", f"/admin/v1/keys/{lost}?reason=again", key=operator)
    assert again.body["revoked_at"] is not None
    seen, cursor = [], ""
    while True:
        page = (await rig.call("GET", f"/admin/v1/keys?limit=2{cursor}", key=operator)).body
        seen += page["keys"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert all((one["client"], one["scopes"]) == (None, ["admin"]) for one in seen)
    ids = [one["key_id"] for one in seen]
    assert len(ids) == len(set(ids)) == 7
    assert ids[-2:] == [lost, gone]
    assert ids.index(kept) < ids.index(operator[3:15]) < ids.index(gone)
    trail = (await rig.call("GET", f"/admin/v1/audit?target=key/{lost}", key=operator)).body["lines"]
    assert [(line["action"], line["reason"]) for line in trail] == [
        ("key.revoke", "stolen laptop"),
        ("key.create", None),
    ]
    forged = await rig.call("GET", "/admin/v1/keys?cursor=MS4A", key=operator)
    assert (forged.status, forged.body["errors"][0]["field"]) == (422, "query.cursor")


async def test_a_key_for_an_ipv4_address_written_as_ipv6_may_be_used_from_it(rig):
    await rig.client("acme")
    key = await made(rig, client="acme", scopes=["balance:read"], allowed_ips=["::ffff:127.0.0.1"])
    assert key.body["allowed_ips"] == ["127.0.0.1/32"]
    assert (await rig.call("GET", "/v1/balance", key=key.body["key"])).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "10.1",
        "10/8",
        "198.51.100",
        "198.51.100.7/24",
        "198.51.100.0/33",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        "::ffff:1.2.3.4%eth0",
        "",
        " 198.51.100.7",
        "nonsense",
    ],
)
async def test_what_is_no_network_in_full_makes_no_key(rig, text):
    """PostgreSQL reads 10 as 10.0.0.0/8: a shortened address would let 16 million addresses in."""
    await rig.client("acme")
    refused = await made(rig, client="acme", scopes=["balance:read"], allowed_ips=["192.0.2.1", text])
    assert (refused.status, refused.code) == (422, "validation_failed")
    [error] = refused.body["errors"]
    assert error["field"] == "allowed_ips[1]"
    assert error["detail"] == (
        "must be an address or a network in full, without a zone and with host bits of 0, "
        "as in 198.51.100.7 or 198.51.100.0/24"
    )


async def test_networks_are_shown_as_they_are_checked(rig):
    await rig.client("acme")
    written = ["198.51.100.7", "198.51.100.0/24", "2001:DB8::/32", "::ffff:10.0.0.0/104", "::/0"]
    key = await made(rig, client="acme", scopes=["balance:read"], allowed_ips=written)
    shown = ["198.51.100.7/32", "198.51.100.0/24", "2001:db8::/32", "10.0.0.0/8", "::/0"]
    assert (key.status, key.body["allowed_ips"]) == (201, shown)


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
    for path in ("/v1/messages", "/v1/messages?to=%2B4915112345678"):
        seen = await rig.call("GET", path, key=test)
        assert real not in str(seen.body), path
    unknown = UUID(int=UUID(real).int + 1)
    words = [(await rig.call("GET", f"/v1/messages/{id_}", key=test)).body for id_ in (real, unknown)]
    assert words[0]["code"] == "not_found"
    assert words[0]["detail"] == words[1]["detail"].replace(str(unknown), real), "no word tells them apart"
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


async def test_an_idempotency_key_of_a_test_key_and_of_a_live_one_are_two(rig):
    live = await rig.client("acme")
    test = await rig.key("acme", is_test=True)
    longest = "k" * 255
    ids = [(await rig.send(key, Idempotency_Key=longest)).body["id"] for key in (test, live, test, live)]
    assert (ids[:2], len({*ids})) == (ids[2:], 2), "each has its own, and each repeat its first answer"
    for key, sent in ((test, ids[0]), (live, ids[1])):
        assert (await rig.send(key, text="other", Idempotency_Key=longest)).code == "idempotency_mismatch"
        shown = await rig.call("GET", f"/v1/messages/{sent}", key=live)
        assert shown.body["is_test"] is (key is test)
    batch = {"to": ["+4915112345678", "+4915112345679"], "text": "hello"}
    for key in (test, live):
        answer = await rig.call("POST", "/v1/messages/batch", key=key, body=batch, Idempotency_Key="many")
        assert (answer.body["accepted"], answer.headers.get("Idempotency-Replayed")) == (2, None)


async def test_what_test_keys_ask_uses_up_nothing_of_the_live_ones_limits(rig):
    live = await rig.client("acme", requests_per_minute=1, requests_burst=2)
    test = await rig.key("acme", is_test=True)
    more = await rig.key("acme", is_test=True)
    asked = [(await rig.call("GET", "/v1/balance", key=key)).status for key in (test, more, test, live)]
    assert asked == [200, 200, 429, 200]
    assert (await rig.send(live)).status == 202


async def test_the_batches_of_test_keys_use_up_nothing_of_the_live_ones_limit(rig):
    live = await rig.client("acme", requests_per_minute=1, requests_burst=3)
    test = await rig.key("acme", is_test=True)
    batch = {"to": ["+4915112345678"] * 1_000, "text": "hello"}
    for key, status in ((test, 202), (test, 429), (live, 202)):
        assert (await rig.call("POST", "/v1/messages/batch", key=key, body=batch)).status == status
