"""What comes in at its extremes: each is taken or refused with the field's name, and blinds nothing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.api_rig import ALL_SCOPES, Answer, Rig, open_api, prepare
from tests.support.servers import Database

# The smallest and largest dates of programs: of Python, .NET and Java, also where another zone moves them
# out of the calendar.
STRANGE_TIMES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59.999999-14:00",
)


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


def refused_field(answer: Answer) -> str:
    """The one field that a 422 names."""
    assert (answer.status, answer.code) == (422, "validation_failed"), answer
    [error] = answer.body["errors"]
    return str(error["field"])


async def test_a_time_that_nobody_means_is_refused_wherever_it_comes_in(rig):
    key = await rig.key(None, ["admin"])
    acme = await rig.client("acme")
    for time in STRANGE_TIMES:
        assert refused_field(await rig.send(acme, send_at=time)) == "send_at"
        body = {"messages": [{"to": "+4915112345678", "text": "x", "send_at": time}]}
        [item] = (await rig.call("POST", "/v1/messages/batch", key=acme, body=body)).body["results"]
        assert item["problem"]["errors"][0]["field"] == "send_at"
        replay = await rig.call("POST", "/v1/callback/replay", key=acme, body={"since": time})
        assert refused_field(replay) == "since"
        new_key = {"client": "acme", "scopes": [*ALL_SCOPES], "expires_at": time}
        assert refused_field(await rig.call("POST", "/admin/v1/keys", key=key, body=new_key)) == "expires_at"
        for path in ("/v1/messages", "/v1/ledger"):
            for name in ("since", "until"):
                query = f"{path}?{name}={time.replace('+', '%2B')}"
                assert refused_field(await rig.call("GET", query, key=acme)) == f"query.{name}", query


async def test_a_message_for_a_time_that_has_passed_goes_at_once(rig):
    key = await rig.client("acme")
    passed = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    sent = await rig.send(key, send_at=passed)
    assert (sent.status, sent.body["status"]) == (202, "QUEUED")
    shown = await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)
    assert shown.body["send_at"] is None
    assert shown.body["valid_until"] > shown.body["created_at"]


async def test_a_key_that_would_never_work_is_not_made(rig):
    await rig.client("acme")
    body = {"client": "acme", "scopes": ["messages:send"], "expires_at": "2020-01-01T00:00:00Z"}
    answer = await rig.call("POST", "/admin/v1/keys", key=await rig.operator(), body=body)
    assert refused_field(answer) == "expires_at"


async def test_an_id_can_be_asked_for_of_any_time(rig):
    async with rig.connection() as connection:
        floors = [
            str(await connection.fetchval(f"select tollwire.uuid7_floor_v1('{time}')"))
            for time in ("-infinity", "1969-01-01", "2026-11-21T00:00:00Z", "12000-01-01", "infinity")
        ]
    assert floors == sorted(floors)
    assert floors[:2] == ["00000000-0000-0000-0000-000000000000"] * 2
    assert floors[3:] == ["ffffffff-ffff-0000-0000-000000000000"] * 2


async def test_a_currency_that_is_none_becomes_no_clients_for_ever(rig):
    operator = await rig.operator()
    for currency in ("EUO", "XXX", "XTS"):
        new = {"name": "acme", "currency": currency}
        assert (
            refused_field(await rig.call("POST", "/admin/v1/clients", key=operator, body=new)) == "currency"
        )
        line = {"prefix": "49", "price": "0.07"}
        rates = {"currency": currency, "rates": [line]}
        assert refused_field(await rig.call("PUT", "/admin/v1/rates", key=operator, body=rates)) == "currency"
        ended = {"currency": currency, "rates": [{**line, "price": None}]}
        assert (await rig.call("PUT", "/admin/v1/rates", key=operator, body=ended)).body == {"changed": 0}


async def test_a_country_that_no_number_is_of_is_refused_with_the_one_that_is_meant(rig):
    await rig.client("acme")
    key = await rig.operator()
    wrong = {"allowed_countries": ["DE", "UK", "XX"]}
    for method, path, named in (
        ("POST", "/admin/v1/clients", {"name": "beta"}),
        ("PATCH", "/admin/v1/clients/acme", {}),
    ):
        answer = await rig.call(method, path, key=key, body={**named, **wrong})
        assert (answer.status, answer.code) == (422, "validation_failed")
        right = "must be a country of ISO 3166-1 with numbers of its own, which {} is not"
        assert answer.body["errors"] == [
            {
                "field": "allowed_countries[1]",
                "detail": right.format("UK") + "; did you mean GB?",
            },
            {"field": "allowed_countries[2]", "detail": right.format("XX")},
        ]
    meant = {"allowed_countries": ["GB", "GR", "US"]}
    assert (await rig.call("PATCH", "/admin/v1/clients/acme", key=key, body=meant)).status == 200
