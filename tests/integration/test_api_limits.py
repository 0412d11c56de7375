"""Limits against the real Valkey, without it, and as clients see them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from api.large_bodies import LargeBodies
from api.limits import Limits
from api.routing import BODY_MAX_BYTES
from api.valkey_script import open_script
from embedded.valkey import ValkeyServer
from shared.runtime.gcra import MICROSECONDS, LocalLimiter, Quota, decide
from shared.runtime.server_settings import ValkeyAccess
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.own_time import within_own
from tests.support.servers import Database

# One a minute: none comes back while a test runs, or while its machine stands still.
TEN = Quota(requests_per_minute=1, burst=10)
A_LITTLE_US = TEN.interval_us / 5
NOBODY = "redis://127.0.0.1:9/0"


def at(url: str) -> ValkeyAccess:
    return ValkeyAccess(valkey_url=url)


def calls_by_valkey() -> float:
    return REGISTRY.get_sample_value("tollwire_api_limit_answers_total", {"by": "valkey"}) or 0.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer that is late would let the process limit alone for a second; a machine may stand still."""
    monkeypatch.setattr("api.limits.DEADLINE_SECONDS", 10.0)
    monkeypatch.setattr("api.valkey_client.ANSWER_SECONDS", 10.0)
    monkeypatch.setattr("api.valkey_client.CONNECT_SECONDS", 10.0)


@pytest.fixture
async def limits(valkey_server: ValkeyServer, patient: None) -> AsyncIterator[Limits]:
    async with open_script(at(valkey_server.url)) as script, Limits(script) as opened:
        yield opened


@pytest.fixture
async def rig(
    database: Database, valkey_server: ValkeyServer, tmp_path: Path, patient: None
) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path, valkey_url=valkey_server.url) as running:
        known = calls_by_valkey()
        await running.call("GET", "/v1/balance", key=await running.client("first"))
        assert calls_by_valkey() > known
        yield running


async def test_valkey_and_the_process_count_alike(limits):
    local = LocalLimiter()
    for _ in range(12):
        shared = await limits.take("acme", TEN)
        own = local.take("acme", TEN, time.monotonic() * MICROSECONDS)
        assert (shared.is_allowed, shared.remaining) == (own.is_allowed, own.remaining)
        assert shared.retry_us == pytest.approx(own.retry_us, abs=A_LITTLE_US)
        assert shared.reset_us == pytest.approx(own.reset_us, abs=A_LITTLE_US)


async def test_two_processes_share_one_limit(limits, valkey_server):
    async with open_script(at(valkey_server.url)) as script, Limits(script) as second:
        both = await asyncio.gather(*(one.take("acme", TEN) for one in (limits, second) for _ in range(10)))
    assert sum(taken.is_allowed for taken in both) == 10


async def test_a_slot_that_is_given_back_can_be_taken_again(limits):
    for _ in range(10):
        assert (await limits.take("acme", TEN)).is_allowed
    assert not (await limits.take("acme", TEN)).is_allowed
    await limits.give_back("acme", TEN)
    assert (await limits.take("acme", TEN)).is_allowed


async def test_many_are_taken_all_or_none(limits):
    slow = Quota(requests_per_minute=1, burst=10)
    local = LocalLimiter()
    for count in (7, 4, 3, 1):
        shared = await limits.take_many("acme", slow, count)
        own = local.take("acme", slow, time.monotonic() * MICROSECONDS, count)
        assert (shared.is_allowed, own.is_allowed) == (count in (7, 3),) * 2
        assert shared.retry_us == pytest.approx(own.retry_us, rel=0.1)


async def test_a_busy_client_asks_valkey_seldom(limits, valkey_server):
    quota = Quota(requests_per_minute=1, burst=100_000)
    before = calls_by_valkey()
    for _ in range(20):
        await asyncio.gather(*(limits.take("acme", quota) for _ in range(100)))
    async with open_script(at(valkey_server.url)) as script, Limits(script) as second:
        seen = await second.take("acme", quota)
    # All 2,000 are known to the other process, and a stock of unused ones beyond them.
    assert quota.burst - seen.remaining >= 2_000
    assert calls_by_valkey() - before < 400


async def test_unused_slots_go_back(limits):
    quota = Quota(requests_per_minute=1, burst=1_000)
    first = await asyncio.gather(*(limits.take("acme", quota) for _ in range(100)))
    assert all(taken.is_allowed for taken in first)
    while (await limits.take("acme", quota)).remaining > 0:
        pass
    assert not (await limits.take("acme", quota)).is_allowed


async def test_a_refusal_that_still_stands_comes_nearer_to_its_end(limits):
    slow = Quota(requests_per_minute=1, burst=2)
    assert (await limits.take_many("acme", slow, slow.burst)).is_allowed
    first = await limits.take("acme", slow)
    await asyncio.sleep(0.2)
    later = await limits.take("acme", slow)
    assert later.retry_us <= first.retry_us - 200_000
    assert later.reset_us - first.reset_us == pytest.approx(later.retry_us - first.retry_us, abs=1)


async def test_a_raised_limit_ends_a_refusal(limits):
    for _ in range(10):
        assert (await limits.take("acme", TEN)).is_allowed
    assert not (await limits.take("acme", TEN)).is_allowed
    assert (await limits.take("acme", Quota(requests_per_minute=1, burst=20))).is_allowed


async def test_a_raised_limit_is_in_force_though_a_long_burst_is_used_up(limits):
    slow, raised = Quota(requests_per_minute=1, burst=1_000), Quota(requests_per_minute=10_000, burst=1_000)
    assert (await limits.take_many("acme", slow, slow.burst)).is_allowed
    taken = await limits.take("acme", raised)
    assert taken.is_allowed or taken.retry_us <= raised.interval_us


@pytest.mark.parametrize("ahead_seconds", [300, 600, 3600])
async def test_valkey_and_the_process_take_what_they_find_alike(limits, valkey_server, ahead_seconds):
    """Also where Valkey's clock has gone back, so that what it kept is further ahead than any burst."""
    async with Redis.from_url(valkey_server.url) as client:
        seconds, micros = await client.time()
        await client.set("tw:l:acme", (seconds + ahead_seconds) * MICROSECONDS + micros)
    own, _ = decide(ahead_seconds * MICROSECONDS, 0, TEN.interval_us, TEN.burst)
    shared = await limits.take("acme", TEN)
    assert (shared.is_allowed, shared.remaining) == (own.is_allowed, own.remaining)
    assert shared.reset_us <= TEN.burst * TEN.interval_us
    assert shared.retry_us == pytest.approx(own.retry_us, abs=A_LITTLE_US)
    assert shared.reset_us == pytest.approx(own.reset_us, abs=A_LITTLE_US)


async def test_without_valkey_each_process_limits_by_itself():
    async with open_script(at("")) as script, Limits(script) as limits:
        taken = [await limits.take("acme", TEN) for _ in range(11)]
        assert [one.is_allowed for one in taken] == [True] * 10 + [False]
        assert limits.is_shared is None


async def test_a_valkey_that_is_away_costs_one_deadline_and_then_nothing(monkeypatch):
    monkeypatch.setattr("api.limits.PAUSE_SECONDS", 60.0)
    async with open_script(at(NOBODY)) as script, Limits(script) as limits:
        async with within_own(0.5):
            taken = [await limits.take("acme", TEN) for _ in range(11)]
        assert [one.is_allowed for one in taken] == [True] * 10 + [False]
        assert limits.is_shared is False


async def test_a_client_sees_its_limit_and_when_to_come_back(rig):
    key = await rig.client("acme", requests_per_minute=1, requests_burst=3)
    begun = time.monotonic()
    answers = [await rig.call("GET", "/v1/balance", key=key) for _ in range(4)]
    passed_seconds = int(time.monotonic() - begun)
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=1;w=60, "burst";q=3;w=180'
    assert [answer.requests_left for answer in answers] == [2, 1, 0, 0]
    told = [int(answer.headers["RateLimit"].partition(";t=")[2]) for answer in answers]
    refused = answers[3]
    assert refused.code == "too_many_requests"
    assert refused.headers["Retry-After"] == str(refused.body["retry_after_seconds"])
    # t is when all is back, Retry-After when one is.
    told.append(int(refused.headers["Retry-After"]))
    for seconds, minutes in zip(told, (1, 2, 3, 3, 1), strict=True):
        assert 60 * minutes - passed_seconds <= seconds <= 60 * minutes


async def test_replays_and_refusals_use_nothing_up(rig):
    key = await rig.client("acme", requests_per_minute=1, requests_burst=2)
    first = await rig.send(key, Idempotency_Key="k")
    assert first.status == 202
    for _ in range(10):
        again = await rig.send(key, Idempotency_Key="k")
        assert (again.status, again.body["id"]) == (202, first.body["id"])
    assert (await rig.send(key, to="+49")).code == "invalid_number"
    assert (await rig.call("POST", "/v1/messages", key=key, body=b"{")).code == "invalid_json"
    assert (await rig.send(key, text="new")).status == 202


async def test_all_keys_of_a_client_share_its_limit(rig):
    first = await rig.client("acme", requests_per_minute=1, requests_burst=2)
    second = await rig.key("acme")
    statuses = [(await rig.call("GET", "/v1/balance", key=key)).status for key in (first, second, first)]
    assert statuses == [200, 200, 429]


async def test_an_address_is_limited_before_its_key_is_looked_at(database, tmp_path):
    await prepare(database)
    settings = {"address_requests_per_minute": "1", "address_requests_burst": "3"}
    async with open_api(database, tmp_path, **settings) as rig:
        answers = [await rig.call("GET", "/v1/balance", key="tw_wrong") for _ in range(4)]
        assert [answer.code for answer in answers] == ["unauthorized"] * 3 + ["too_many_requests"]
        assert 30 < int(answers[3].headers["Retry-After"]) <= 60
        assert "RateLimit" not in answers[3].headers, "it is not the client's"
        assert (await rig.call("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.js", "/nowhere", "/v1/rates/new"])
async def test_pages_and_what_is_not_there_count_as_other_requests_do(database, tmp_path, monkeypatch, path):
    monkeypatch.setattr("api.health.PROBE_TIMEOUT_SECONDS", 10.0)
    settings = {"address_requests_per_minute": "1", "address_requests_burst": "3"}
    await prepare(database)
    async with open_api(database, tmp_path, **settings) as rig:
        # Counted once each: three are what the address may ask at once.
        for known in (path, path, "/v1/errors"):
            assert (await rig.call("GET", known)).status in {200, 302, 404, 405}
        for known in (path, "/v1/errors"):
            refused = await rig.call("GET", known)
            assert (refused.status, refused.code) == (429, "too_many_requests")
            assert 30 < int(refused.headers["Retry-After"]) <= 60
        assert (await rig.call("GET", "/readyz")).status == 200


async def test_one_process_is_limited_over_all(database, tmp_path):
    await prepare(database)
    settings = {
        "total_requests_per_minute": "1",
        "total_requests_burst": "2",
        "trusted_proxies": "127.0.0.1",
    }
    async with open_api(database, tmp_path, **settings) as rig:
        answers = [await rig.call("GET", "/v1/errors", X_Forwarded_For=f"192.0.2.{n}") for n in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].body["detail"].startswith("The limit of requests of all clients is used up")


BATCH = "/v1/messages/batch"
ONE = {"to": ["+4915112345678"], "text": "hello"}


@pytest.mark.parametrize(
    ("path", "body", "refused"), [("/v1/messages", {**ONE, "to": ONE["to"][0]}, 402), (BATCH, ONE, 202)]
)
async def test_refused_sends_are_not_counted_as_long_as_they_are_no_more_than_the_limit(
    rig, path, body, refused
):
    key = await rig.client("acme", credit_micros=0, requests_per_minute=1, requests_burst=5)
    names = [f"order-{number}" for number in range(12)]
    answers = [await rig.call("POST", path, key=key, body=body, Idempotency_Key=name) for name in names]
    # Five that count for nothing, and five that use the limit up.
    assert [answer.status for answer in answers] == [refused] * 10 + [429] * 2
    async with rig.connection() as conn:
        assert await conn.fetchval("select count(*) from tollwire.idempotency_keys") == 10


async def test_a_batch_that_was_accepted_before_uses_nothing_up(rig):
    key = await rig.client("acme", requests_per_minute=1, requests_burst=2)
    for _ in range(6):
        answer = await rig.call("POST", BATCH, key=key, body=ONE, Idempotency_Key="k")
        assert (answer.status, answer.body["accepted"]) == (202, 1)
    # Also where something beside it is refused; that alone is counted, twice for nothing.
    again = {"messages": [{"to": "+4915112345678", "text": "hello"}, {"to": "+49", "text": "hello"}]}
    answers = [await rig.call("POST", BATCH, key=key, body=again, Idempotency_Key="k") for _ in range(4)]
    assert [answer.status for answer in answers] == [202, 202, 202, 429]
    assert (answers[0].body["accepted"], answers[0].body["rejected"]) == (1, 1)


async def test_busy_counts_as_a_refusal_since_it_may_be_a_share_of_the_clients_own(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr("api.app.LargeBodies", partial(LargeBodies, 0))
    await prepare(database)
    large = json.dumps(ONE).encode() + b" " * BODY_MAX_BYTES
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("acme", requests_per_minute=1, requests_burst=2)
        answers = [await rig.call("POST", BATCH, key=key, body=large) for _ in range(6)]
        # Two of the burst, and two that are given back.
        assert [answer.code for answer in answers] == ["busy"] * 4 + ["too_many_requests"] * 2
