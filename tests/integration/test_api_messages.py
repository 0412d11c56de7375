"""Sending over HTTP against the real database: what is accepted, refused, replayed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.runtime.metrics import BATCH_ERRORS, CALL_SECONDS
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_a_message_is_accepted_and_its_price_held(rig):
    key = await rig.client("acme")
    answer = await rig.send(key, client_ref="order-1", lane="express", **{"from": "ACME"})
    assert answer.status == 202, answer
    members = "id status to from lane encoding segments price balance client_ref created_at"
    assert list(answer.body) == members.split()
    assert answer.body["status"] == "QUEUED"
    assert (answer.body["from"], answer.body["lane"], answer.body["client_ref"]) == (
        "ACME",
        "express",
        "order-1",
    )
    assert answer.body["price"] == {"amount": "0.0750", "currency": "EUR"}
    assert answer.body["balance"] == {"available": "9.9250", "currency": "EUR"}
    assert answer.body["created_at"].endswith("Z")
    assert len(answer.body["created_at"]) == len("2026-11-21T10:00:00.123Z")
    balance = await rig.call("GET", "/v1/balance", key=key)
    assert (balance.body["held"], balance.body["available"]) == ("0.0750", "9.9250")
    assert balance.body["open_holds"] == 1


async def test_the_same_key_and_request_get_the_first_answer_again(rig):
    key = await rig.client("acme")
    first = await rig.send(key, Idempotency_Key='"order-1"')
    again = await rig.send(key, Idempotency_Key="order-1")
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 1


async def test_the_same_key_with_another_request_is_a_mismatch(rig):
    key = await rig.client("acme")
    await rig.send(key, text="one", Idempotency_Key="order-1")
    other = await rig.send(key, text="two", Idempotency_Key="order-1")
    assert (other.status, other.code) == (422, "idempotency_mismatch")


async def test_a_key_belongs_to_one_client(rig):
    first, second = await rig.client("acme"), await rig.client("globex")
    one = await rig.send(first, Idempotency_Key="order-1")
    two = await rig.send(second, text="other", Idempotency_Key="order-1")
    assert (one.status, two.status) == (202, 202)
    assert one.body["id"] != two.body["id"]


async def test_fifty_requests_at_once_under_one_key_make_one_message(rig):
    key = await rig.client("acme")
    answers = await asyncio.gather(*(rig.send(key, Idempotency_Key="order-1") for _ in range(50)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 1


async def test_a_refusal_for_lack_of_credit_stays_after_a_top_up(rig):
    key = await rig.client("poor", credit_micros=0)
    refused = await rig.send(key, Idempotency_Key="otp-1")
    assert (refused.status, refused.code) == (402, "insufficient_credit")
    assert (refused.body["price"], refused.body["available"]) == ("0.0750", "0.0000")
    operator = await rig.operator()
    posted = await rig.call(
        "POST", "/admin/v1/clients/poor/credit", key=operator, body={"amount": "5.00", "reference": "r1"}
    )
    assert posted.body["available"] == "5.0000"
    again = await rig.send(key, Idempotency_Key="otp-1")
    assert again.code == "insufficient_credit"
    assert [answer.headers.get("Idempotency-Replayed") for answer in (refused, again)] == [None, "true"]
    assert (await rig.send(key, Idempotency_Key="otp-2")).status == 202


async def test_only_a_refusal_that_stands_under_a_key_is_said_to_be_an_earlier_one(rig):
    key = await rig.client("acme", allowed_senders=["Tollwire"])
    sent = [await rig.send(key, Idempotency_Key="otp", **{"from": "BANK"}) for _ in range(2)]
    sent += [await rig.send(key, Idempotency_Key="otp"), await rig.send(key, **{"from": "BANK"})]
    seen = [(answer.code, answer.headers.get("Idempotency-Replayed")) for answer in sent]
    refused = "sender_not_allowed"
    assert seen == [(refused, None), (refused, "true"), ("idempotency_mismatch", None), (refused, None)]


async def test_two_hundred_senders_share_credit_for_ten_messages(rig):
    key = await rig.client("acme", credit_micros=750_000)
    answers = await asyncio.gather(*(rig.send(key, text=f"message {n}") for n in range(200)))
    assert sorted({answer.status for answer in answers}) == [202, 402]
    assert sum(answer.status == 202 for answer in answers) == 10
    assert (await rig.call("GET", "/v1/balance", key=key)).body["available"] == "0.0000"


async def test_a_scheduled_message_waits(rig):
    key = await rig.client("acme")
    later = datetime.now(UTC) + timedelta(days=1)
    answer = await rig.send(key, send_at=later.isoformat())
    assert (answer.status, answer.body["status"]) == (202, "SCHEDULED")
    found = await rig.call("GET", f"/v1/messages/{answer.body['id']}", key=key)
    assert found.body["send_at"].startswith(later.isoformat()[:19])


async def test_a_test_key_costs_nothing_and_goes_to_the_simulator(rig):
    await rig.client("acme", credit_micros=0)
    key = await rig.key("acme", is_test=True)
    assert key.startswith("tw_test_")
    answer = await rig.send(key)
    assert (answer.status, answer.body["price"]["amount"]) == (202, "0.0000")
    assert (await rig.call("GET", f"/v1/messages/{answer.body['id']}", key=key)).body["is_test"] is True


async def test_the_preview_is_what_is_billed(rig):
    key = await rig.client("acme")
    body = {"to": "+4915112345678", "text": "Grüße 🎉 " * 30}
    preview = await rig.call("POST", "/v1/messages/preview", key=key, body=body)
    sent = await rig.call("POST", "/v1/messages", key=key, body=body)
    assert preview.status == 200, preview
    assert "".join(preview.body["parts"]) == body["text"]
    assert preview.body["region"] == "DE"
    for field in ("price", "segments", "encoding", "from", "to"):
        assert preview.body[field] == sent.body[field]
    assert preview.body["segments"] == len(preview.body["parts"]) > 1
    stored = await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)
    assert stored.body["rate_version"] == preview.body["rate_version"]


async def test_a_batch_answers_for_each_item(rig):
    key = await rig.client("acme")
    messages = [
        {"to": "+4915112345678", "text": "one", "client_ref": "a"},
        {"to": "+49", "text": "two"},
        {"to": "+4915112345679", "text": "three"},
    ]
    answer = await rig.call("POST", "/v1/messages/batch", key=key, body={"messages": messages})
    assert answer.status == 202, answer
    assert (answer.body["accepted"], answer.body["rejected"]) == (2, 1)
    assert [result["index"] for result in answer.body["results"]] == [0, 1, 2]
    assert answer.body["results"][0]["message"]["client_ref"] == "a"
    assert answer.body["results"][1]["problem"]["code"] == "invalid_number"
    assert answer.body["results"][2]["id"] == answer.body["results"][2]["message"]["id"]


async def test_a_batch_of_one_text_to_many_is_completed_by_a_retry(rig):
    key = await rig.client("acme", credit_micros=150_000)
    body = {"to": [f"+49151123456{n:02}" for n in range(3)], "text": "sale", "lane": "bulk"}
    first = await rig.call("POST", "/v1/messages/batch", key=key, body=body, Idempotency_Key="sale-1")
    assert (first.body["accepted"], first.body["rejected"]) == (2, 1)
    assert first.body["results"][2]["problem"]["code"] == "insufficient_credit"
    again = await rig.call("POST", "/v1/messages/batch", key=key, body=body, Idempotency_Key="sale-1")
    ids = [result.get("id") for result in first.body["results"]]
    assert [result.get("id") for result in again.body["results"]] == ids
    assert again.headers["Idempotency-Replayed"] == "true"
    assert all(result["replayed"] for result in again.body["results"][:2])


async def test_a_thousand_messages_go_in_one_batch_and_no_more(rig):
    key = await rig.client("acme", credit_micros=100_000_000)
    numbers = [f"+4915112{n:06}" for n in range(1_001)]
    whole = await rig.call("POST", "/v1/messages/batch", key=key, body={"to": numbers[:1_000], "text": "x"})
    assert (whole.status, whole.body["accepted"]) == (202, 1_000)
    more = await rig.call("POST", "/v1/messages/batch", key=key, body={"to": numbers, "text": "x"})
    assert (more.status, more.code) == (422, "validation_failed")
    assert more.body["errors"][0]["field"] == "to"


def calls_made() -> float:
    """How many calls of PostgreSQL this process has made."""
    samples = (sample for metric in CALL_SECONDS.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_count"))


async def test_a_batch_that_is_repeated_costs_no_query_for_each_message(rig):
    key = await rig.client("acme", credit_micros=100_000_000)
    body = {"to": [f"+4915112{n:06}" for n in range(1_000)], "text": "x"}
    first = await rig.call("POST", "/v1/messages/batch", key=key, body=body, Idempotency_Key="sale")
    before = calls_made()
    again = await rig.call("POST", "/v1/messages/batch", key=key, body=body, Idempotency_Key="sale")
    # Two or three flushes, one look at what was accepted.
    assert calls_made() - before < 10
    assert [result["message"] for result in again.body["results"]] == [
        result["message"] for result in first.body["results"]
    ]
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_the_shape_of_a_batch_is_checked_before_anything_is_sent(rig):
    key = await rig.client("acme")
    messages = [{"to": "+4915112345678", "text": "one"}, {"to": 5, "text": "x", "txet": 1}]
    answer = await rig.call("POST", "/v1/messages/batch", key=key, body={"messages": messages})
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["field"] for error in answer.body["errors"]] == ["messages[1].to", "messages[1].txet"]
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 0
    mixed = await rig.call(
        "POST", "/v1/messages/batch", key=key, body={"messages": messages[:1], "text": "x"}
    )
    assert mixed.body["errors"][0]["field"] == "text"


async def test_a_sender_that_no_message_can_carry_is_refused_unless_an_operator_set_it_before(rig):
    named = {"from": "ACME`S MARKET"}
    refused = await rig.send(await rig.client("any"), **named)
    assert [error["field"] for error in refused.body["errors"]] == ["from"]
    listed = await rig.client("listed", allowed_senders=[named["from"]])
    default = await rig.client("default", default_sender=named["from"])
    assert [(await rig.send(key, **named)).status for key in (listed, default)] == [202, 202]
    assert (await rig.send(default)).body["from"] == named["from"]
    body = {"name": "new", "default_sender": named["from"], "allowed_senders": ["ACME", named["from"]]}
    refused = await rig.call("POST", "/admin/v1/clients", key=await rig.operator(), body=body)
    assert refused.status == 422
    assert {error["field"] for error in refused.body["errors"]} == {"default_sender", "allowed_senders[1]"}


def flushes_that_failed() -> float:
    """How many flushes of accepts raised an error in this process."""
    samples = (sample for metric in BATCH_ERRORS.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.labels.get("batcher") == "accept")


async def test_what_cannot_be_stored_is_refused_alone_and_before_the_flush(rig):
    key = await rig.client("acme", allowed_callback_hosts=["hooks.example.org"])
    chosen = await rig.client("choosy", allowed_senders=["ACME"])
    bad = [
        ("from", {"from": "A\0B"}),
        ("from", {"from": "A\nB"}),
        ("client_ref", {"client_ref": "A\0B"}),
        ("callback_url", {"callback_url": "https://hooks.example.org/\0"}),
        ("callback_url", {"callback_url": "https://hooks.example.org\\@elsewhere.example.org/"}),
        ("send_at", {"send_at": "0001-01-01T00:00:00+05:00"}),
        ("send_at", {"send_at": "9999-12-31T23:59:59-05:00"}),
    ]
    to = {"to": "+4915112345678", "text": "x"}
    failed = flushes_that_failed()
    messages = [to, *(to | fields for _, fields in bad), to]
    for headers in ({}, {"Idempotency_Key": "batch"}):
        answer = await rig.call("POST", "/v1/messages/batch", key=key, body={"messages": messages}, **headers)
        assert answer.body["accepted"] == 2
        problems = [result["problem"] for result in answer.body["results"][1:-1]]
        assert [problem["code"] for problem in problems] == ["validation_failed"] * len(bad)
        assert [problem["errors"][0]["field"] for problem in problems] == [field for field, _ in bad]
    for field, fields in bad:
        for who in (key, chosen):
            alone = await rig.send(who, **fields, Idempotency_Key="one")
            assert (alone.status, alone.body["errors"][0]["field"]) == (422, field)
    preview = await rig.call("POST", "/v1/messages/preview", key=key, body=to | {"from": "A\0B"})
    assert (preview.status, preview.code) == (422, "validation_failed")
    assert flushes_that_failed() == failed


async def test_every_bad_field_is_named_with_what_would_be_right(rig):
    key = await rig.client("acme")
    body = {"to": 5, "lane": "fast", "valid_for_seconds": 1, "send_at": "tomorrow", "colour": "red"}
    answer = await rig.call("POST", "/v1/messages", key=key, body=body)
    errors = {error["field"]: error["detail"] for error in answer.body["errors"]}
    assert set(errors) == {"to", "text", "lane", "valid_for_seconds", "send_at", "colour"}
    assert errors["text"] == "is required"
    assert "RFC 3339" in errors["send_at"]
    assert ">= 60" in errors["valid_for_seconds"]
    assert "the fields are to, text, from" in errors["colour"]
