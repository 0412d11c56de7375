"""What the HTTP carrier makes of everything that a server can do, byte by byte."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from tests.support.faulty_http import Reply, Request, faulty_server, http
from tests.support.held_http import held_server
from tests.support.submissions import submission, submissions
from worker.carriers.base import Outcome, Refused, Submitted, Throttled, Uncertain
from worker.carriers.http import HttpCarrier
from worker.carriers.http_exchange import SUBMIT_SECONDS

OK = b'{"reference":"r-1"}'
BODY = {"to": "$msisdn", "text": "$text", "id": "$message_id"}


async def outcomes_of(
    reply: Reply | Callable[[Request], Reply], count: int = 1, **changed
) -> tuple[list[Outcome], list[Request]]:
    """Submit to a server that answers so; return the outcomes and the requests that it saw."""
    answer = reply if callable(reply) else lambda _: reply
    async with faulty_server(answer) as server:
        settings = {"url": f"{server.url}/sms", "body": BODY, **changed}
        if "bulk" in changed:
            settings["bulk"] = {"url": f"{server.url}/bulk", **changed["bulk"]}
        async with HttpCarrier.from_settings("c", settings, b"s3cret") as carrier:
            return await carrier.submit_many(submissions(count)), server.requests


async def outcome_of(reply: Reply, **changed) -> Outcome:
    ((outcome,), _) = await outcomes_of(reply, **changed)
    return outcome


TEMPORARY = (307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 425, 426, 501, 503, 505, 511)
PERMANENT = (400, 411, 412, 413, 414, 416, 417, 418, 422, 424, 428, 431, 451, 499)
UNCERTAIN = (300, 301, 302, 303, 304, 399, 408, 409, 500, 502, 504, 507, 520, 599)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_a_2xx_with_a_reference_is_submitted(status):
    assert await outcome_of(http(status, OK)) == Submitted("r-1")


@pytest.mark.parametrize("status", TEMPORARY)
async def test_a_status_that_speaks_of_us_is_temporary(status):
    assert await outcome_of(http(status)) == Refused(f"http_{status}", f"status {status}", permanent=False)


@pytest.mark.parametrize("status", PERMANENT)
async def test_a_status_that_speaks_of_the_message_is_permanent(status):
    assert await outcome_of(http(status)) == Refused(f"http_{status}", f"status {status}", permanent=True)


@pytest.mark.parametrize("status", UNCERTAIN)
async def test_a_status_that_settles_nothing_is_uncertain(status):
    assert await outcome_of(http(status, b"" if status == 304 else b"{}")) == Uncertain(f"status {status}")


@pytest.mark.parametrize(
    ("status", "header", "outcome"),
    [
        (429, None, Throttled(None)),
        (429, "12", Throttled(12.0)),
        (429, "soon", Throttled(None)),
        (429, "-5", Throttled(0.0)),
        (429, "999999999", Throttled(3600.0)),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", Throttled(0.0)),
        (429, "Fri, 31 Dec 2100 23:59:59 GMT", Throttled(3600.0)),
        (503, "3", Throttled(3.0)),
        (503, "soon", Refused("http_503", "status 503", permanent=False)),
        (500, "3", Uncertain("status 500")),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(status, header, outcome):
    assert await outcome_of(http(status, headers={"Retry-After": header} if header else {})) == outcome


async def test_a_redirect_is_never_followed():
    def answer(request: Request) -> Reply:
        return http(302, headers={"Location": "/elsewhere"}) if request.path == "/sms" else http(200, OK)

    (outcome,), requests = await outcomes_of(answer)
    assert outcome == Uncertain("status 302")
    assert [request.path for request in requests] == ["/sms"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"reference":null}',
        b'{"reference":""}',
        b'{"reference":true}',
        b'{"reference":1.5}',
        b'{"reference":{"id":"r"}}',
        b'{"reference":"' + b"r" * 256 + b'"}',
        b'{"reference":"r\\u0000"}',
        b'{"reference":"r"} and more',
    ],
)
async def test_a_2xx_without_a_usable_reference_is_uncertain(body):
    assert isinstance(await outcome_of(http(200, body)), Uncertain)


@pytest.mark.parametrize(
    ("raw", "then"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", "close"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"re', "close"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "keep"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "keep"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "close"),
        (b"220 smtp.example ESMTP\r\n", "close"),
        (b"\x16\x03\x01\x00\x00", "close"),
        (b"HTTP/1.1 999999 X\r\n\r\n", "close"),
    ],
)
async def test_an_answer_that_is_not_http_is_uncertain(raw, then):
    assert isinstance(await outcome_of(Reply(raw, then)), Uncertain)


@pytest.mark.parametrize("batch_max", [1, 2])
async def test_the_validity_is_what_is_left_of_it_when_its_turn_has_come(batch_max):
    """The carrier counts from when it is told: what waited for a connection has less by then."""
    settings = {"body": {"ttl": "$valid_for_seconds"}, "connections_max": 1}
    wanted = [submission(number, valid_for_seconds=600.5) for number in range(2 * batch_max)]
    async with held_server() as server:
        settings |= {"url": server.url, "bulk": {"url": server.url, "batch_max": batch_max}}
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            submitting = asyncio.create_task(carrier.submit_many(wanted))
            await server.until_held(1)
            await asyncio.sleep(1.0)
            server.answer_all(http(200, OK))
            await submitting
        sent = [msgspec.json.decode(request.body) for request in server.requests]
    lists = [one if isinstance(one, list) else [one] for one in sent]
    first, last = lists[0][0]["ttl"], lists[-1][-1]["ttl"]
    assert 590 < last < first <= 600


async def test_a_refusal_stands_even_if_its_body_breaks_off():
    reply = Reply(b'HTTP/1.1 422 X\r\nContent-Length: 99\r\n\r\n{"error":', "close")
    assert await outcome_of(reply) == Refused("http_422", "status 422", permanent=True)


async def test_a_body_that_never_ends_is_left_at_the_timeout():
    reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "hang")
    outcome = await outcome_of(reply, total_timeout_seconds=2.0, connect_timeout_seconds=2.0)
    assert isinstance(outcome, Uncertain)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (200, "E1", Refused("E1", "status 200, code E1, No.", permanent=True)),
        (200, "E2", Refused("E2", "status 200, code E2, No.", permanent=False)),
        (500, "E3", Throttled(None)),
        (400, "E4", Uncertain("status 400, code E4, No.")),
        (409, "E5", Submitted("r-1")),
        (400, 17, Refused("17", "status 400, code 17, No.", permanent=False)),
        (200, "other", Submitted("r-1")),
        (418, "other", Throttled(None)),
        (404, None, Uncertain("status 404, No.")),
        (450, None, Refused("http_450", "status 450, No.", permanent=True)),
    ],
)
async def test_the_settings_say_what_codes_and_statuses_mean(status, code, outcome):
    body = msgspec.json.encode({"reference": "r-1", "fault": {"no": code, "says": "No."}})
    mapping = {
        "error_code": "fault.no",
        "error_text": "fault.says",
        "error_codes": {
            "E1": "permanent",
            "E2": "temporary",
            "E3": "throttled",
            "E4": "uncertain",
            "E5": "submitted",
            "17": "temporary",
        },
        "statuses": {"418": "throttled", "4xx": "permanent", "400-409": "uncertain"},
    }
    assert await outcome_of(http(status, body), **mapping) == outcome


async def test_without_references_our_id_is_the_reference():
    assert await outcome_of(http(204), reference=None) == Submitted(str(submission(1).message_id))


async def test_headers_carry_the_secret_and_the_body_is_json():
    headers = {"Authorization": "Bearer $secret", "X-Cost": "$$1"}
    _, (request,) = await outcomes_of(http(200, OK), headers=headers)
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["x-cost"] == "$1"
    assert request.headers["content-type"] == "application/json"
    one = submission(1)
    assert msgspec.json.decode(request.body) == {
        "to": one.msisdn,
        "text": one.text,
        "id": str(one.message_id),
    }


async def test_a_connection_that_closes_after_its_first_answer_sends_nothing_twice():
    seen: list[Request] = []

    def answer(request: Request) -> Reply:
        seen.append(request)
        return http(200, OK) if len(seen) == 1 else Reply(b"", "close")

    async with faulty_server(answer) as server:
        settings = {"url": server.url, "body": BODY}
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            assert await carrier.submit_many([submission(1)]) == [Submitted("r-1")]
            (outcome,) = await carrier.submit_many([submission(2)])
    assert isinstance(outcome, Uncertain)
    assert len(seen) == 2


async def test_connections_are_kept_and_never_more_than_allowed():
    async with faulty_server(lambda _: http(200, OK)) as server:
        settings = {"url": server.url, "body": BODY, "connections_max": 3}
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            for _ in range(4):
                await carrier.submit_many(submissions(25))
            assert server.connections_seen <= 3
        async with asyncio.timeout(10):
            await server.until_connections(0)


async def test_a_submit_lasts_from_its_first_byte_to_its_answer():
    """Not from when it began to wait for a connection: on a single one no two of them overlap."""
    clock = asyncio.get_running_loop().time
    async with held_server() as server:
        settings = {"url": server.url, "body": BODY, "connections_max": 1}
        async with HttpCarrier.from_settings("timed", settings, None) as carrier:
            began_at = clock()
            submitting = asyncio.create_task(carrier.submit_many(submissions(3)))
            for _ in range(3):
                await server.until_held(1)
                await asyncio.sleep(0.05)
                server.answer(http(200, OK))
            await submitting
            gone_seconds = clock() - began_at
    (metric,) = SUBMIT_SECONDS.collect()
    samples = [one for one in metric.samples if one.labels["carrier"] == "timed"]
    seen = {one.name.removeprefix("tollwire_submit_seconds_"): one.value for one in samples}
    assert seen["count"] == 3
    assert 3 * 0.05 <= seen["sum"] <= gone_seconds


def bulk_answers(answers: object, status: int = 200) -> Reply:
    return http(status, msgspec.json.encode(answers))


GOOD = {"reference": "r"}


@pytest.mark.parametrize(
    ("answers", "outcomes"),
    [
        (
            [GOOD, {"status": 422, "error": {"code": "E"}}, {"status": 429, "retry_after": 2}],
            [Submitted("r"), Refused("E", "status 422, code E", permanent=True), Throttled(2.0)],
        ),
        (
            [None, {"status": "503"}, {"status": 500}],
            [None, Refused("http_503", "status 503", permanent=False), None],
        ),
        ([GOOD, {"status": "fine", "reference": "r"}, "r"], [Submitted("r"), None, None]),
        ([GOOD, GOOD], [None, None, None]),
        ([GOOD] * 4, [None, None, None]),
        ({"reference": "r"}, [None, None, None]),
        ([], [None, None, None]),
    ],
)
async def test_a_bulk_is_answered_position_by_position_or_not_at_all(answers, outcomes):
    found, requests = await outcomes_of(bulk_answers(answers), 3, bulk={})
    assert [None if isinstance(outcome, Uncertain) else outcome for outcome in found] == outcomes
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (http(429, headers={"Retry-After": "4"}), Throttled(4.0)),
        (http(503), Refused("http_503", "status 503", permanent=False)),
        (http(500), Uncertain("status 500")),
    ],
)
async def test_a_bulk_that_is_refused_as_a_whole_means_each(reply, outcome):
    found, requests = await outcomes_of(reply, 3, bulk={})
    assert found == [outcome] * 3
    assert len(requests) == 1


async def test_of_a_bulk_refused_for_good_each_is_asked_alone():
    guilty = str(submission(2).message_id)

    def answer(request: Request) -> Reply:
        item = msgspec.json.decode(request.body)
        if request.path == "/bulk" or item["id"] == guilty:
            return http(400)
        return http(200, OK)

    found, requests = await outcomes_of(answer, 3, bulk={})
    assert found == [Submitted("r-1"), Refused("http_400", "status 400", permanent=True), Submitted("r-1")]
    assert len(requests) == 4


async def test_bulks_have_the_shape_and_the_size_that_the_settings_say():
    def answer(request: Request) -> Reply:
        items = msgspec.json.decode(request.body)["batch"]
        return bulk_answers({"data": {"list": [{"reference": item["id"]} for item in items]}})

    bulk = {"items": "batch", "answers": "data.list", "batch_max": 4, "status": None}
    found, requests = await outcomes_of(answer, 10, bulk=bulk)
    assert found == [Submitted(str(one.message_id)) for one in submissions(10)]
    assert sorted(len(msgspec.json.decode(request.body)["batch"]) for request in requests) == [2, 4, 4]
