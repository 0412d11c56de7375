"""The callback endpoint over HTTP: set, rotated, tested, looked at, replayed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from api import callback_reads
from api.callback import CHANGE_MINUTES, CHANGES_BURST
from api.callback_reads import TRIES_MAX
from shared.domain.signatures import parse_secret
from shared.runtime.keyring import Keyring
from shared.storage.callback_endpoints import callback_secret_aad
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.own_time import within_own
from tests.support.servers import Database

URL = "https://hooks.example.org/sms"
ID = "0193a5b1-0000-7000-8000-00000000000a"


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_an_endpoint_is_set_and_its_secret_shown_once(rig):
    key = await rig.client("acme")
    assert (await rig.call("GET", "/v1/callback", key=key)).code == "not_found"
    made = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    assert made.status == 201, made
    assert len(parse_secret(made.body["secret"])) == 32
    assert "message.delivered" in made.body["events"]
    assert "message.sent" not in made.body["events"]
    again = await rig.call(
        "PUT", "/v1/callback", key=key, body={"url": URL + "/2", "events": ["message.failed"]}
    )
    assert (again.status, again.body["secret"]) == (200, None)
    found = await rig.call("GET", "/v1/callback", key=key)
    assert (found.body["url"], found.body["events"]) == (URL + "/2", ["message.failed"])
    assert len(found.body["secrets"]) == 1
    assert made.body["secret"] not in str(found.body)


async def test_an_event_that_is_never_sent_is_refused_by_name_and_left_out_of_what_was_stored(rig):
    key = await rig.client("acme")
    words = {"url": URL, "events": ["message.queued", "message.sent"]}
    refused = await rig.call("PUT", "/v1/callback", key=key, body=words)
    assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (422, ["events[0]"])
    assert "message.sent" in refused.body["errors"][0]["detail"]
    assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
    stored = ["message.queued", "message.sent", "message.delivered"]  # as an earlier version took it
    async with rig.connection() as conn:
        await conn.execute("update tollwire.callback_endpoints set events = $1", stored)
    read = (await rig.call("GET", "/v1/callback", key=key)).body
    assert read["events"] == stored[1:]
    back = {name: read[name] for name in ("url", "events", "keep_answers")}
    put = await rig.call("PUT", "/v1/callback", key=key, body=back)
    assert (put.status, sorted(put.body["events"])) == (200, sorted(stored[1:]))


async def test_an_endpoint_that_is_set_to_what_it_is_changes_nothing(rig):
    key = await rig.client("acme")
    assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
    found = await rig.call("GET", "/v1/callback", key=key)
    before = await _config_version_and_trail(rig)
    again = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    assert (again.status, again.body) == (200, found.body)
    assert await _config_version_and_trail(rig) == before
    other = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL + "/2"})
    assert other.body["url"] == URL + "/2"
    after = await _config_version_and_trail(rig)
    assert after[0] > before[0]
    assert after[1] == before[1] + 1


async def test_a_changed_endpoint_makes_nobody_load_prices_and_routes_anew(rig):
    key = await rig.client("acme")
    async with rig.connection() as conn:
        before = await conn.fetchval("select version from tollwire.config_version")
        assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
        assert (await rig.call("POST", "/v1/callback/rotate", key=key, body={})).status == 200
        assert await conn.fetchval("select version from tollwire.config_version") == before
    # And yet its host is known for messages of their own within a poll.
    own = {"callback_url": "https://hooks.example.org/own"}
    async with asyncio.timeout(10):
        while (answer := await rig.send(key, **own)).status != 202:
            assert answer.code == "callback_not_allowed"
            await asyncio.sleep(0.02)


async def test_a_client_changes_its_endpoint_so_often_and_no_more(rig):
    key, other = await rig.client("acme"), await rig.client("other")
    body = {"url": URL + "/last"}
    for change in [{"url": f"{URL}/{number}"} for number in range(CHANGES_BURST - 2)] + [body]:
        assert (await rig.call("PUT", "/v1/callback", key=key, body=change)).status in (200, 201)
    assert (await rig.call("POST", "/v1/callback/rotate", key=key, body={})).status == 200
    before = await _config_version_and_trail(rig)
    for method, path, changed in (("PUT", "", {"url": URL}), ("POST", "/rotate", {})):
        refused = await rig.call(method, f"/v1/callback{path}", key=key, body=changed)
        assert (refused.status, refused.code) == (429, "too_many_requests")
        assert int(refused.headers["Retry-After"]) <= CHANGE_MINUTES * 60
        assert refused.requests_left > CHANGES_BURST, "the limit of requests is another one"
        assert refused.body["detail"].startswith("The limit of changes of the callback endpoint is used up")
    assert await _config_version_and_trail(rig) == before
    assert (await rig.call("PUT", "/v1/callback", key=key, body=body)).status == 200
    assert (await rig.call("PUT", "/v1/callback", key=other, body=body)).status == 201


async def test_an_endpoint_that_was_switched_off_is_on_again_when_it_is_set_to_what_it_is(rig):
    key = await rig.client("acme")
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    async with rig.connection() as conn:
        await conn.execute(
            "update tollwire.callback_health set disabled_at = now(), disabled_reason = 'gone'"
        )
    assert (await rig.call("GET", "/v1/callback", key=key)).body["disabled_reason"] == "gone"
    again = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    assert (again.status, again.body["disabled_at"], again.body["disabled_reason"]) == (200, None, None)


async def _config_version_and_trail(rig) -> tuple[int, int]:
    """The configuration's version, and how many lines the audit trail has."""
    async with rig.connection() as conn:
        version = await conn.fetchval("select version + callbacks from tollwire.config_version")
        return version, await conn.fetchval("select count(*) from tollwire.audit_trail")


async def test_the_secret_is_stored_sealed_to_its_endpoint(rig, tmp_path):
    key = await rig.client("acme")
    made = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    async with rig.connection() as conn:
        row = await conn.fetchrow("select endpoint_id, sealed from tollwire.callback_secrets")
    assert made.body["secret"].encode() not in row["sealed"]
    keyring = Keyring.load(tmp_path / "keyring.json")
    opened = keyring.unseal(row["sealed"], callback_secret_aad(row["endpoint_id"]))
    assert opened.decode() == made.body["secret"]


async def test_a_rotation_lets_the_old_secret_sign_for_a_while(rig):
    key = await rig.client("acme")
    first = await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    rotated = await rig.call("POST", "/v1/callback/rotate", key=key, body={"grace_seconds": 3600})
    assert rotated.status == 200, rotated
    assert rotated.body["secret"] != first.body["secret"]
    secrets = (await rig.call("GET", "/v1/callback", key=key)).body["secrets"]
    assert [one["expires_at"] is None for one in secrets] == [True, False]
    await rig.call("POST", "/v1/callback/rotate", key=key, body={"grace_seconds": 0})
    assert len((await rig.call("GET", "/v1/callback", key=key)).body["secrets"]) == 1


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "https://example.org/#x", "http://169.254.169.254/", "https://2130706433/"]
)
async def test_an_endpoint_that_may_not_be_called_is_named(rig, url):
    key = await rig.client("acme")
    answer = await rig.call("PUT", "/v1/callback", key=key, body={"url": url})
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert answer.body["errors"][0]["field"] == "url"


async def test_a_test_event_waits_to_be_sent_and_shows_in_the_log(rig):
    key = await rig.client("acme")
    assert (await rig.call("POST", "/v1/callback/test", key=key)).code == "not_found"
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    asked = await rig.call("POST", "/v1/callback/test", key=key)
    assert asked.status == 202, asked
    assert asked.body["webhook_id"] == "msg_" + asked.body["id"].replace("-", "")
    log = (await rig.call("GET", "/v1/callback/attempts", key=key)).body
    [entry] = log["callbacks"]
    assert (entry["id"], entry["event"], entry["outcome"]) == (asked.body["id"], "callback.test", "waiting")
    assert entry["message_id"] is None
    other = await rig.client("globex")
    assert (await rig.call("GET", "/v1/callback/attempts", key=other)).body["callbacks"] == []


async def _gave_up(rig: Rig, id_: str) -> None:
    """Write down that a callback was given up, as dlr does."""
    connection = await asyncpg.connect(rig.database.dsn("dlr"))
    for attempt, outcome in ((1, None), (2, "gave_up")):
        await connection.execute(
            "select tollwire.record_callbacks_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [id_], [attempt], [outcome], [500], [None], [12], ["192.0.2.1"], [b"oh no"], [1.0],
        )  # fmt: skip
    await connection.close()


async def test_what_was_given_up_is_replayed_under_its_own_id(rig):
    key = await rig.client("acme")
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    ids = [(await rig.call("POST", "/v1/callback/test", key=key)).body["id"] for _ in range(3)]
    for id_ in ids[:2]:
        await _gave_up(rig, id_)
    failed = (await rig.call("GET", "/v1/callback/attempts?outcome=gave_up", key=key)).body["callbacks"]
    assert [entry["id"] for entry in failed] == [ids[1], ids[0]]
    assert [one["attempt"] for one in failed[0]["tries"]] == [1, 2]
    assert failed[0]["tries"][0]["answer"] == "oh no"
    one = await rig.call("POST", "/v1/callback/replay", key=key, body={"ids": [ids[0]]})
    assert one.body == {"replayed": 1, "complete": True, "next_cursor": None}
    rest = await rig.call("POST", "/v1/callback/replay", key=key, body={"since": "2020-01-01T00:00:00Z"})
    assert rest.body == {"replayed": 1, "complete": True, "next_cursor": None}
    waiting = await rig.call("GET", "/v1/callback/attempts?outcome=waiting", key=key)
    assert len(waiting.body["callbacks"]) == 3


async def test_of_each_callback_the_log_shows_its_last_tries(rig):
    key = await rig.client("acme")
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    ids = [(await rig.call("POST", "/v1/callback/test", key=key)).body["id"] for _ in range(3)]
    connection = await asyncpg.connect(rig.database.dsn())
    for id_, tries in zip(ids, (TRIES_MAX + 5, 2, 0), strict=True):  # as an earlier version stored them
        await connection.execute(
            "insert into tollwire.callback_attempts (callback_id, attempt_no, at, answer_head)"
            " select $1::uuid, n, now(), n::text::bytea from generate_series(1, $2::integer) n",
            id_, tries,
        )  # fmt: skip
    await connection.close()
    log = (await rig.call("GET", "/v1/callback/attempts", key=key)).body["callbacks"]
    shown = {entry["id"]: [(one["attempt"], one["answer"]) for one in entry["tries"]] for entry in log}
    last = [(number, str(number)) for number in range(6, TRIES_MAX + 6)]
    assert shown == dict(zip(ids, (last, [(1, "1"), (2, "2")], []), strict=True))


@pytest.mark.parametrize(("scan_max", "replay_max"), [(2, 100), (100, 2)])
async def test_a_replay_goes_on_after_what_it_has_looked_at(rig, monkeypatch, scan_max, replay_max):
    monkeypatch.setattr(callback_reads, "REPLAY_SCAN_MAX", scan_max)
    monkeypatch.setattr(callback_reads, "REPLAY_MAX", replay_max)
    key = await rig.client("acme")
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    ids = [(await rig.call("POST", "/v1/callback/test", key=key)).body["id"] for _ in range(7)]
    for id_ in ids[3:]:
        await _gave_up(rig, id_)
    body, replayed = {"since": "2020-01-01T00:00:00Z"}, []
    while True:
        answer = (await rig.call("POST", "/v1/callback/replay", key=key, body=body)).body
        replayed.append(answer["replayed"])
        assert answer["complete"] == (answer["next_cursor"] is None)
        if answer["complete"]:
            break
        body["cursor"] = answer["next_cursor"]
    assert sum(replayed) == 4
    assert max(replayed) <= min(scan_max, replay_max)
    async with rig.connection() as conn:
        assert await conn.fetchval("select count(*) from tollwire.callbacks where done_at is not null") == 0


async def test_a_replays_cursor_stands_beside_since(rig):
    key = await rig.client("acme")
    for body in ({"ids": [ID], "cursor": "no"}, {"since": "2020-01-01T00:00:00Z", "cursor": "no"}):
        answer = await rig.call("POST", "/v1/callback/replay", key=key, body=body)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, "cursor")


async def test_nobody_replays_anothers_callbacks(rig):
    mine, theirs = await rig.client("acme"), await rig.client("globex")
    for key in (mine, theirs):
        await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    id_ = (await rig.call("POST", "/v1/callback/test", key=mine)).body["id"]
    await _gave_up(rig, id_)
    answer = await rig.call("POST", "/v1/callback/replay", key=theirs, body={"ids": [id_]})
    assert answer.body["replayed"] == 0
    both = await rig.call("POST", "/v1/callback/replay", key=mine, body={})
    assert both.code == "validation_failed"


async def test_a_messages_own_url_is_of_no_use_without_an_endpoint_whose_secret_signs(rig):
    key = await rig.client("acme", allowed_callback_hosts=["hooks.example.org"])
    answer = await rig.send(key, callback_url="https://hooks.example.org/for-this-message")
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, "callback_url")
    assert "PUT /v1/callback" in answer.body["errors"][0]["detail"]


async def test_the_host_of_the_endpoint_is_registered_for_messages_within_a_second(rig):
    key = await rig.client("acme")
    other = "https://hooks.example.org/for-this-message"
    assert (await rig.send(key, callback_url=other)).code == "callback_not_allowed"
    await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})
    async with within_own(1):
        while (await rig.send(key, callback_url=other)).status != 202:
            pass
