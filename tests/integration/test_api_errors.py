"""Every code of the dictionary is produced, as it is documented."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from api.problems import STATUS, TYPE_BASE, WITH_RETRY_AFTER
from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode
from tests.integration import test_api_auth, test_api_late_letters, test_api_limits, test_api_messages
from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.postgres_proxy import open_proxy
from tests.support.servers import Database
from tests.unit import test_api_authenticate, test_api_server

C = ProblemCode
SEND = "/v1/messages"

# Produced elsewhere, where it takes more than a request; the tests are named by what they are.
ELSEWHERE = {
    C.MALFORMED_REQUEST: test_api_server.test_what_is_not_http_is_answered_with_a_problem,
    C.INTERNAL_ERROR: test_api_server.test_a_bug_is_answered_with_the_id_of_its_log_line_and_no_detail,
    C.BUSY: test_api_authenticate.test_more_new_keys_than_can_be_verified_in_time_are_told_to_come_back,
    C.TOO_MANY_REQUESTS: test_api_limits.test_a_client_sees_its_limit_and_when_to_come_back,
    C.ADDRESS_NOT_ALLOWED: test_api_auth.test_a_key_works_only_from_its_addresses,
    C.CLIENT_SUSPENDED: test_api_auth.test_a_suspended_client_reads_but_does_not_send_within_a_second,
    C.ALREADY_DELIVERED: test_api_late_letters.test_a_letter_that_was_delivered_late_is_not_sent_again,
    C.INSUFFICIENT_CREDIT: test_api_messages.test_a_refusal_for_lack_of_credit_stays_after_a_top_up,
}

Scenario = Callable[[Rig], Awaitable[Answer]]
SCENARIOS: dict[ProblemCode, Scenario] = {}


def produces(code: ProblemCode) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[code] = scenario
        return scenario

    return note


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


def test_every_code_of_the_dictionary_is_produced_by_a_test():
    apart = {C.IDEMPOTENCY_CONFLICT, C.OUTCOME_UNKNOWN, C.UNAVAILABLE, C.ALREADY_FINAL, C.ALREADY_SENDING}
    assert set(SCENARIOS) | set(ELSEWHERE) | apart == set(PROBLEMS) == set(STATUS) == set(ProblemCode)


def is_documented(answer: Answer, code: ProblemCode) -> None:
    assert (answer.status, answer.code) == (STATUS[code], code), answer
    assert answer.body["type"] == TYPE_BASE + code
    assert answer.body["title"] == PROBLEMS[code].title
    assert "{" not in answer.body["detail"]
    assert "?" not in answer.body["detail"]
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]
    assert ("Retry-After" in answer.headers) == (code in WITH_RETRY_AFTER)


@produces(C.INVALID_JSON)
async def invalid_json(rig: Rig) -> Answer:
    key = await rig.client("acme")
    for body in (b"", b"{", b'{"to": NaN}', b'{"to": "\xff"}'):
        assert (await rig.call("POST", SEND, key=key, body=body)).code == "invalid_json", body
    return await rig.call("POST", SEND, key=key, body=b"[" * 2_000)


@produces(C.INVALID_IDEMPOTENCY_KEY)
async def invalid_idempotency_key(rig: Rig) -> Answer:
    key = await rig.client("acme")
    for header in ("with space", '"open'):
        assert (await rig.send(key, Idempotency_Key=header)).code == "invalid_idempotency_key", header
    return await rig.send(key, Idempotency_Key="x" * 256)


@produces(C.UNAUTHORIZED)
async def unauthorized(rig: Rig) -> Answer:
    return await rig.call("POST", SEND)


@produces(C.MAX_PRICE_EXCEEDED)
async def max_price_exceeded(rig: Rig) -> Answer:
    answer = await rig.send(await rig.client("acme"), max_price="0.0749")
    assert (answer.body["price"], answer.body["max_price"]) == ("0.0750", "0.0749")
    return answer


@produces(C.FORBIDDEN)
async def forbidden(rig: Rig) -> Answer:
    return await rig.call("GET", "/admin/v1/clients", key=await rig.client("acme"))


@produces(C.SENDER_NOT_ALLOWED)
async def sender_not_allowed(rig: Rig) -> Answer:
    key = await rig.client("acme", allowed_senders=["ACME"])
    assert (await rig.send(key, **{"from": "ACME"})).status == 202
    return await rig.send(key, **{"from": "BANK"})


@produces(C.DESTINATION_NOT_ALLOWED)
async def destination_not_allowed(rig: Rig) -> Answer:
    return await rig.send(await rig.client("acme", allowed_countries=["FR"]))


@produces(C.CALLBACK_NOT_ALLOWED)
async def callback_not_allowed(rig: Rig) -> Answer:
    first = await rig.client("acme", allowed_callback_hosts=["hooks.example.org"])
    await rig.call("PUT", "/v1/callback", key=first, body={"url": "https://acme.example.org/sms"})
    key = await rig.key("acme")  # which is not known yet, without the endpoint
    assert (await rig.send(key, callback_url="https://hooks.example.org/x")).status == 202
    return await rig.send(key, callback_url="https://elsewhere.example.org/x")


@produces(C.NOT_FOUND)
async def not_found(rig: Rig) -> Answer:
    for path in ("/", "/v1", "/v1/messages/x/y", "/%2e%2e/etc/passwd", "/docs/../x"):
        assert (await rig.call("GET", path + "nothing")).code == "not_found"
    operator = await rig.operator()
    for method, path, what in (
        ("GET", "/admin/v1/clients/nobody", "client nobody"),
        ("DELETE", "/admin/v1/keys/nokey", "key nokey"),
        ("GET", f"/v1/messages/{UUID(int=7)}", f"message {UUID(int=7)}"),
    ):
        asked_by = operator if "admin" in path else await rig.client("asker")
        answer = await rig.call(method, path, key=asked_by)
        assert answer.body["detail"] == f"There is no {what}, or none that this key may see."
    return await rig.call("GET", "/v2/messages")


@produces(C.METHOD_NOT_ALLOWED)
async def method_not_allowed(rig: Rig) -> Answer:
    answer = await rig.call("PUT", SEND)
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    return answer


@produces(C.NOT_ACCEPTABLE)
async def not_acceptable(rig: Rig) -> Answer:
    return await rig.call("GET", SEND, key=await rig.client("acme"), Accept="text/html")


@produces(C.ALREADY_EXISTS)
async def already_exists(rig: Rig) -> Answer:
    await rig.client("acme")
    return await rig.call("POST", "/admin/v1/clients", key=await rig.operator(), body={"name": "acme"})


@produces(C.REFERENCE_CONFLICT)
async def reference_conflict(rig: Rig) -> Answer:
    await rig.client("acme")
    body = {"amount": "1.00", "reference": "first"}
    return await rig.call("POST", "/admin/v1/clients/acme/credit", key=await rig.operator(), body=body)


@produces(C.CHANGED_MEANWHILE)
async def changed_meanwhile(rig: Rig) -> Answer:
    settings = {"url": "https://carrier.example.org", "body": {"to": "$msisdn", "text": "$text"}}
    body = {"settings": settings, "version": "0"}
    return await rig.call("PUT", "/admin/v1/carriers/telco", key=await rig.operator(), body=body)


@produces(C.PAYLOAD_TOO_LARGE)
async def payload_too_large(rig: Rig) -> Answer:
    key = await rig.client("acme")
    body = json.dumps({"to": "+4915112345678", "text": "x" * 70_000}).encode()
    return await rig.call("POST", SEND, key=key, body=body)


@produces(C.UNSUPPORTED_MEDIA_TYPE)
async def unsupported_media_type(rig: Rig) -> Answer:
    key = await rig.client("acme")
    packed = await rig.call("POST", SEND, key=key, body=b"{}", Content_Encoding="gzip")
    assert packed.code == "unsupported_media_type"
    return await rig.call(
        "POST", SEND, key=key, body=b"to=1", Content_Type="application/x-www-form-urlencoded"
    )


@produces(C.VALIDATION_FAILED)
async def validation_failed(rig: Rig) -> Answer:
    return await rig.send(await rig.client("acme"), text="")


@produces(C.INVALID_NUMBER)
async def invalid_number(rig: Rig) -> Answer:
    answer = await rig.send(await rig.client("acme"), to="015112345678")
    assert answer.body["errors"] == [{"field": "to", "detail": answer.body["detail"]}]
    return answer


@produces(C.TEXT_TOO_LONG)
async def text_too_long(rig: Rig) -> Answer:
    answer = await rig.send(await rig.client("acme"), text="x" * 50_000)
    assert answer.body["errors"] == [{"field": "text", "detail": answer.body["detail"]}]
    return answer


@produces(C.TEXT_NOT_STORABLE)
async def text_not_storable(rig: Rig) -> Answer:
    answer = await rig.send(await rig.client("acme"), text="a\0b")
    assert answer.body["errors"] == [{"field": "text", "detail": answer.body["detail"]}]
    return answer


@produces(C.NO_RATE)
async def no_rate(rig: Rig) -> Answer:
    return await rig.send(await rig.client("acme"), to="+79161234567")


@produces(C.NO_ROUTE)
async def no_route(rig: Rig) -> Answer:
    key = await rig.client("acme", requests_per_minute=1_000_000, requests_burst=100_000)
    async with rig.connection() as conn:
        await conn.execute("delete from tollwire.routes")
    body = {"to": "+4915112345678", "text": "x"}
    async with asyncio.timeout(5):
        while (await rig.call("POST", f"{SEND}/preview", key=key, body=body)).status == 200:
            pass
    return await rig.send(key)


@produces(C.IDEMPOTENCY_MISMATCH)
async def idempotency_mismatch(rig: Rig) -> Answer:
    key = await rig.client("acme")
    await rig.send(key, text="one", Idempotency_Key="k")
    return await rig.send(key, text="two", Idempotency_Key="k")


@pytest.mark.parametrize("code", sorted(SCENARIOS))
async def test_a_refusal_is_answered_as_the_dictionary_says(rig, code):
    is_documented(await SCENARIOS[code](rig), code)


@pytest.mark.parametrize(
    ("state", "code"),
    [("SENDING", C.ALREADY_SENDING), ("SENT", C.ALREADY_SENDING), ("DELIVERED", C.ALREADY_FINAL)],
)
async def test_a_message_that_is_on_its_way_is_not_cancelled(rig, state, code):
    key = await rig.client("acme")
    sent = await rig.send(key)
    way = ["QUEUED", "SENDING", "SENT", "DELIVERED"]
    connection = await asyncpg.connect(rig.database.dsn())
    for step in way[1 : way.index(state) + 1]:
        await connection.execute(
            "update tollwire.message_states set state = $1::tollwire.message_state,"
            " final_at = case when $1 = 'DELIVERED' then clock_timestamp() end",
            step,
        )
    await connection.close()
    rig.database.is_corrupted_on_purpose()
    answer = await rig.call("DELETE", f"{SEND}/{sent.body['id']}", key=key)
    is_documented(answer, code)
    assert state in answer.body["detail"]


async def test_a_second_request_is_told_to_come_back_while_the_first_is_stuck(rig):
    key = await rig.client("acme")
    async with rig.connection() as conn, conn.transaction():
        await conn.execute("select ledger.set_pacing_v1((select id from tollwire.clients), 0)")
        both = [asyncio.create_task(rig.send(key, Idempotency_Key="k")) for _ in range(2)]
        [second], [first] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    is_documented(second.result(), C.IDEMPOTENCY_CONFLICT)
    assert (await first).status == 202
    assert (await rig.send(key, Idempotency_Key="k")).headers["Idempotency-Replayed"] == "true"


async def test_without_postgresql_nothing_is_accepted_and_it_comes_back_by_itself(database, tmp_path):
    await prepare(database)
    async with (
        open_proxy(database.dsn("api")) as (proxy, dsn),
        open_api(database, tmp_path, postgres_dsn=dsn) as rig,
    ):
        key = await rig.client("acme")
        assert (await rig.send(key)).status == 202
        proxy.cut()
        is_documented(await rig.call("GET", "/v1/balance", key=key), C.UNAVAILABLE)
        ready = await rig.call("GET", "/readyz")
        assert (ready.status, ready.body["parts"]["postgres"]["ok"]) == (503, False)
        assert (await rig.call("GET", "/healthz")).status == 200
        proxy.heal()
        assert (await rig.send(key)).status == 202


async def test_an_answer_that_never_comes_is_an_unknown_outcome_with_the_messages_id(database, tmp_path):
    await prepare(database)
    async with (
        open_proxy(database.dsn("api")) as (proxy, dsn),
        open_api(database, tmp_path, postgres_dsn=dsn) as rig,
    ):
        key = await rig.client("acme")
        assert (await rig.send(key, text="before")).status == 202
        proxy.swallow_answers()
        unknown = await rig.send(key, Idempotency_Key="k")
        proxy.heal()
        is_documented(unknown, C.OUTCOME_UNKNOWN)
        async with asyncio.timeout(20):
            while (again := await rig.send(key, Idempotency_Key="k")).status != 202:
                pass
        assert again.body["id"] == unknown.body["message_id"]
        assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 2
