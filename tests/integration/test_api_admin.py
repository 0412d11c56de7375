"""Operators over HTTP: clients, keys, credit, rates, and the trail that all of it leaves."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.runtime.keyring import Keyring
from shared.storage.carriers import carrier_secret_aad
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

SETTINGS = {"url": "https://carrier.example.org/submit", "body": {"to": "$msisdn", "text": "$text"}}
MOST = "must leave the balance between -1,000,000,000,000 and 1,000,000,000,000, and a limit no higher"


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_an_operator_makes_a_client_a_key_and_credit_and_it_sends(rig):
    operator = await rig.operator()
    made = await rig.call(
        "POST",
        "/admin/v1/clients",
        key=operator,
        body={"name": "acme", "default_sender": "ACME", "reason": "new"},
    )
    assert (made.status, made.body["name"], made.body["balance"]["available"]) == (201, "acme", "0.0000")
    key = await rig.call(
        "POST", "/admin/v1/keys", key=operator, body={"client": "acme", "scopes": ["messages:send"]}
    )
    await rig.call(
        "POST", "/admin/v1/clients/acme/credit", key=operator, body={"amount": "1", "reference": "invoice-1"}
    )
    sent = await rig.send(key.body["key"])
    assert (sent.status, sent.body["from"], sent.body["balance"]["available"]) == (202, "ACME", "0.9250")


async def test_an_operator_sees_what_of_a_client_waits_and_nobody_elses(rig):
    operator, acme, other = await rig.operator(), await rig.client("acme"), await rig.client("other")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for key, body in ((acme, {}), (acme, {"send_at": later}), (other, {})):
        assert (await rig.send(key, **body)).status == 202
    shown = (await rig.call("GET", "/admin/v1/clients/acme", key=operator)).body["backlog"]
    assert (shown["dispatchable"], shown["scheduled"], shown["callbacks"]) == (1, 1, 0)
    assert 0 <= shown["oldest_seconds"] < 60
    listed = (await rig.call("GET", "/admin/v1/clients", key=operator)).body["clients"]
    assert [one["backlog"] for one in listed] == [None, None]


async def test_a_name_is_given_once(rig):
    operator = await rig.operator()
    body = {"name": "acme"}
    first = await rig.call("POST", "/admin/v1/clients", key=operator, body=body)
    second = await rig.call("POST", "/admin/v1/clients", key=operator, body=body)
    assert (first.status, second.status, second.code) == (201, 409, "already_exists")


async def test_a_change_keeps_what_it_leaves_out(rig):
    operator = await rig.operator()
    await rig.client("acme", requests_per_minute=500)
    changed = await rig.call(
        "PATCH",
        "/admin/v1/clients/acme",
        key=operator,
        body={"allowed_countries": ["DE"], "messages_per_second": 5},
    )
    assert changed.status == 200, changed
    found = (await rig.call("GET", "/admin/v1/clients/acme", key=operator)).body
    assert (found["requests_per_minute"], found["allowed_countries"], found["messages_per_second"]) == (
        500,
        ["DE"],
        5,
    )
    cleared = await rig.call(
        "PATCH", "/admin/v1/clients/acme", key=operator, body={"allowed_countries": None}
    )
    assert cleared.body["allowed_countries"] is None
    missing = await rig.call("PATCH", "/admin/v1/clients/nobody", key=operator, body={"suspended": True})
    assert missing.code == "not_found"


async def test_a_change_may_repeat_the_senders_that_the_client_has_already(rig):
    """A list is sent whole, and a tool writes back what it read: only what is new must be right."""
    operator, path = await rig.operator(), "/admin/v1/clients/acme"
    await rig.client("acme", default_sender="tollwire-bench", allowed_senders=["ACME", "tollwire-test"])
    body = {"suspended": True, "default_sender": "tollwire-bench"}
    changed = await rig.call("PATCH", path, key=operator, body=body)
    assert (changed.status, changed.body["suspended"]) == (200, True), changed
    body = {"allowed_senders": ["ACME", "tollwire-test", "tollwire-bench", "NEW"]}
    changed = await rig.call("PATCH", path, key=operator, body=body)
    assert (changed.status, changed.body["allowed_senders"]) == (200, body["allowed_senders"]), changed
    body = {"default_sender": "tollwire-next", "allowed_senders": ["tollwire-test", "tollwire-last"]}
    refused = await rig.call("PATCH", path, key=operator, body={**body, "suspended": False})
    assert [error["field"] for error in refused.body["errors"]] == ["default_sender", "allowed_senders[1]"]
    assert (await rig.call("GET", path, key=operator)).body["suspended"] is True


async def test_credit_is_posted_once_for_each_reference(rig):
    operator = await rig.operator()
    await rig.client("acme", credit_micros=0)
    path, body = "/admin/v1/clients/acme/credit", {"amount": "5.00", "reference": "invoice-1"}
    answers = [await rig.call("POST", path, key=operator, body=body) for _ in range(2)]
    assert [answer.body["replayed"] for answer in answers] == [False, True]
    assert [answer.body["available"] for answer in answers] == ["5.0000", "5.0000"]
    other = await rig.call("POST", path, key=operator, body={**body, "amount": "6.00"})
    assert (other.status, other.code) == (409, "reference_conflict")
    limit = {"kind": "credit_limit", "amount": "10", "reference": "limit-1"}
    assert (await rig.call("POST", path, key=operator, body=limit)).body["available"] == "15.0000"
    nothing = await rig.call("POST", path, key=operator, body={"amount": "0", "reference": "r"})
    assert nothing.body["errors"][0]["field"] == "amount"


@pytest.mark.parametrize(
    ("kind", "amount", "right"),
    [
        ("top_up", "-5", "must be above 0; to take credit away is an adjustment"),
        ("top_up", "0", "must be above 0; to take credit away is an adjustment"),
        ("top_up", "2", MOST),
        ("adjustment", "0", "must be above or below 0"),
        ("adjustment", "1.000001", MOST),
        ("credit_limit", "-1", "must be 0 or above"),
    ],
)
async def test_an_amount_that_cannot_be_posted_is_told_what_would_be_right(rig, kind, amount, right):
    operator = await rig.operator()
    await rig.client("acme", credit_micros=999_999_999_999_000_000)
    path, body = "/admin/v1/clients/acme/credit", {"kind": kind, "amount": amount, "reference": "r"}
    refused = await rig.call("POST", path, key=operator, body=body)
    assert (refused.status, refused.code) == (422, "validation_failed")
    assert refused.body["errors"] == [{"field": "amount", "detail": right}]


async def test_a_balance_is_not_taken_further_below_nothing_than_above_it(rig):
    operator = await rig.operator()
    await rig.client("acme", credit_micros=0)
    path, least = "/admin/v1/clients/acme/credit", {"kind": "adjustment", "amount": "-999999999999.999999"}
    taken = await rig.call("POST", path, key=operator, body={**least, "reference": "all"})
    assert (taken.status, taken.body["posted"]) == (200, "-999999999999.999999")
    refused = await rig.call("POST", path, key=operator, body={**least, "reference": "more"})
    assert refused.body["errors"] == [{"field": "amount", "detail": MOST}]


async def test_rates_are_set_listed_and_ended(rig):
    operator = await rig.operator()
    lines = [
        {"prefix": "49", "price": "0.08"},
        {"prefix": "491", "price": "0.09"},
        {"prefix": "7", "price": "0.20"},
    ]
    put = await rig.call("PUT", "/admin/v1/rates", key=operator, body={"currency": "USD", "rates": lines})
    assert put.body == {"changed": 3}
    again = await rig.call("PUT", "/admin/v1/rates", key=operator, body={"currency": "USD", "rates": lines})
    assert again.body == {"changed": 0}
    ended = await rig.call(
        "PUT",
        "/admin/v1/rates",
        key=operator,
        body={"currency": "USD", "rates": [{"prefix": "7", "price": None}]},
    )
    assert ended.body == {"changed": 1}
    first = (await rig.call("GET", "/admin/v1/rates?limit=8", key=operator)).body
    rest = (await rig.call("GET", f"/admin/v1/rates?cursor={first['next_cursor']}", key=operator)).body
    found = [(one["currency"], one["prefix"], one["price"]) for one in [*first["rates"], *rest["rates"]]]
    assert found[8:] == [("USD", "49", "0.0800"), ("USD", "491", "0.0900")]
    twice = {"currency": "USD", "rates": [lines[0], lines[0]]}
    assert (await rig.call("PUT", "/admin/v1/rates", key=operator, body=twice)).code == "validation_failed"


async def test_rates_of_a_client_that_is_none_are_not_found(rig):
    operator = await rig.operator()
    await rig.client("acme")
    none = await rig.call("GET", "/admin/v1/rates?client=acme", key=operator)
    assert (none.status, none.body["rates"]) == (200, [])
    assert (await rig.call("GET", "/admin/v1/rates?client=nobody", key=operator)).code == "not_found"


async def test_every_change_stands_in_the_trail_with_who_and_where(rig):
    operator = await rig.operator()
    await rig.call("POST", "/admin/v1/clients", key=operator, body={"name": "acme", "reason": "signed"})
    await rig.call(
        "PATCH", "/admin/v1/clients/acme", key=operator, body={"suspended": True, "reason": "fraud"}
    )
    lines = (await rig.call("GET", "/admin/v1/audit?target=client/acme", key=operator)).body["lines"]
    assert [(line["action"], line["reason"]) for line in lines] == [
        ("client.set", "fraud"),
        ("client.create", "signed"),
    ]
    assert lines[0]["actor"] == f"key/{operator[3:15]}"
    assert lines[0]["address"] == "127.0.0.1"
    assert (lines[0]["before"], lines[0]["after"]) == ({"suspended": False}, {"suspended": True})


async def test_lists_go_on_where_they_stopped(rig):
    operator = await rig.operator()
    for name in ("a", "b", "c"):
        await rig.client(name)
    first = (await rig.call("GET", "/admin/v1/clients?limit=2", key=operator)).body
    rest = (
        await rig.call("GET", f"/admin/v1/clients?limit=2&cursor={first['next_cursor']}", key=operator)
    ).body
    assert [one["name"] for one in [*first["clients"], *rest["clients"]]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None
    trail = (await rig.call("GET", "/admin/v1/audit?limit=1", key=operator)).body
    assert (await rig.call("GET", f"/admin/v1/audit?cursor={trail['next_cursor']}", key=operator)).body[
        "lines"
    ]


async def test_no_dead_letters_is_an_empty_page(rig):
    operator = await rig.operator()
    page = await rig.call("GET", "/admin/v1/dead-letters?client=acme", key=operator)
    assert (page.status, page.body) == (200, {"dead_letters": [], "next_cursor": None})


async def test_a_carrier_is_set_with_a_secret_that_is_never_shown(rig, tmp_path):
    operator = await rig.operator()
    body = {
        "settings": SETTINGS,
        "rate_per_second": 50,
        "secret": "hush-hush",
    }
    made = await rig.call("PUT", "/admin/v1/carriers/telco", key=operator, body=body)
    assert (made.status, made.body["has_secret"], made.body["rate_per_second"]) == (200, True, 50)
    changed = await rig.call(
        "PUT", "/admin/v1/carriers/telco", key=operator, body={"settings": SETTINGS, "enabled": False}
    )
    assert (changed.body["has_secret"], changed.body["enabled"], changed.body["rate_per_second"]) == (
        True,
        False,
        0,
    )
    listed = await rig.call("GET", "/admin/v1/carriers", key=operator)
    assert [one["name"] for one in listed.body["carriers"]] == ["simulator", "telco"]
    async with rig.connection() as conn:
        row = await conn.fetchrow("select id, secret_sealed from tollwire.carriers where name = 'telco'")
        trail = await conn.fetch(
            "select after::text from tollwire.audit_trail where target = 'carrier/telco'"
        )
    keyring = Keyring.load(tmp_path / "keyring.json")
    assert keyring.unseal(row["secret_sealed"], carrier_secret_aad(row["id"])) == b"hush-hush"
    assert "hush-hush" not in str([*listed.body["carriers"], *trail])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"settings": {**SETTINGS, "urll": 5}}, "settings.urll"),
        ({"settings": {"url": "https://carrier.example.org"}}, "settings.body"),
        ({"settings": {**SETTINGS, "receipts": {"auth": {"kind": "hmacc"}}}}, "settings.receipts.auth.kind"),
        (
            {"settings": {**SETTINGS, "receipts": {"auth": {"kind": "bearer", "head": "X"}}}},
            "settings.receipts.auth.head",
        ),
        ({"settings": {**SETTINGS, "url": "carrier.example.org"}}, "settings"),
        ({"settings": {**SETTINGS, "headers": {"Host ": "x"}}}, "settings"),
        ({"settings": {**SETTINGS, "headers": {"Authorization": "Bearer $secret"}}}, "secret"),
        ({"settings": {**SETTINGS, "body": {"password": "$secret"}}}, "secret"),
        ({"settings": {**SETTINGS, "receipts": {"auth": {"kind": "hmac"}}}}, "secret"),
        ({"settings": SETTINGS, "splits_parts": True}, "splits_parts"),
        ({"settings": SETTINGS, "can_query": True}, "can_query"),
    ],
)
async def test_a_carrier_that_could_not_be_opened_is_refused_and_stays_as_it_was(rig, body, field):
    operator = await rig.operator()
    before = await rig.call(
        "PUT", "/admin/v1/carriers/telco", key=operator, body={"settings": SETTINGS, "window_max": 5}
    )
    assert before.status == 200
    refused = await rig.call("PUT", "/admin/v1/carriers/telco", key=operator, body=body)
    assert (refused.status, refused.code) == (422, "validation_failed")
    assert [error["field"] for error in refused.body["errors"]] == [field]
    listed = await rig.call("GET", "/admin/v1/carriers", key=operator)
    assert listed.body["carriers"][-1] == before.body


async def test_a_name_that_no_carrier_can_have_is_named(rig):
    operator = await rig.operator()
    body = {"settings": SETTINGS}
    refused = await rig.call("PUT", "/admin/v1/carriers/Acme", key=operator, body=body)
    assert (refused.status, refused.code) == (422, "validation_failed")
    assert refused.body["errors"][0]["field"] == "path.name"


async def test_a_callback_host_with_a_port_is_told_so(rig):
    await rig.client("acme")
    body = {"allowed_callback_hosts": ["a.example:443"]}
    refused = await rig.call("PATCH", "/admin/v1/clients/acme", key=await rig.operator(), body=body)
    [error] = refused.body["errors"]
    assert error["field"] == "allowed_callback_hosts[0]"
    assert "without a port" in error["detail"]


async def test_a_carrier_keeps_the_secret_that_its_new_settings_ask_for(rig):
    operator = await rig.operator()
    first = {"settings": SETTINGS, "secret": '{"submit": "s", "receipts": "r"}'}
    await rig.call("PUT", "/admin/v1/carriers/telco", key=operator, body=first)
    settings = {
        **SETTINGS,
        "headers": {"Authorization": "Bearer $secret"},
        "receipts": {"auth": {"kind": "hmac"}},
    }
    changed = await rig.call("PUT", "/admin/v1/carriers/telco", key=operator, body={"settings": settings})
    assert changed.status == 200
    less = {"settings": settings, "secret": '{"submit": "s"}'}
    refused = await rig.call("PUT", "/admin/v1/carriers/telco", key=operator, body=less)
    assert refused.body["errors"][0]["field"] == "secret"


async def test_a_carrier_whose_stored_settings_are_wrong_can_be_stopped(rig):
    """The rig's has none at all, as an older version may have stored them."""
    operator = await rig.operator()
    stopped = await rig.call(
        "PUT", "/admin/v1/carriers/simulator", key=operator, body={"settings": {}, "enabled": False}
    )
    assert (stopped.status, stopped.body["enabled"]) == (200, False)


async def test_what_has_no_effect_is_no_setting_of_a_client(rig):
    operator = await rig.operator()
    body = {"name": "acme", "partial_charge": True}
    made = await rig.call("POST", "/admin/v1/clients", key=operator, body=body)
    assert (made.status, made.body["errors"][0]["field"]) == (422, "partial_charge")
    await rig.client("acme")
    changed = await rig.call("PATCH", "/admin/v1/clients/acme", key=operator, body={"partial_charge": True})
    assert (changed.status, changed.body["errors"][0]["field"]) == (422, "partial_charge")


async def test_routes_go_on_page_by_page_to_the_last(rig):
    operator = await rig.operator()
    wanted = [("", 1), ("1", 2), ("1", 10), ("49", 1), ("9", 1)]
    for prefix, priority in wanted[:0:-1]:
        body = {"prefix": prefix, "priority": priority, "carrier": "simulator"}
        assert (await rig.call("PUT", "/admin/v1/routes", key=operator, body=body)).status == 200
    seen, cursor = [], ""
    while True:
        page = (await rig.call("GET", f"/admin/v1/routes?limit=2{cursor}", key=operator)).body
        seen += [(one["prefix"], one["priority"]) for one in page["routes"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == wanted
    for path in ("/admin/v1/routes?cursor=NDk", "/admin/v1/rates?cursor=RVVSLgA"):
        forged = await rig.call("GET", path, key=operator)
        assert (forged.status, forged.body["errors"][0]["field"]) == (422, "query.cursor"), path


async def test_a_route_is_set_listed_and_removed(rig):
    operator = await rig.operator()
    route = {"prefix": "49", "priority": 2, "carrier": "simulator"}
    made = await rig.call("PUT", "/admin/v1/routes", key=operator, body=route)
    assert made.body == {"route": route, "removed": False}
    listed = await rig.call("GET", "/admin/v1/routes", key=operator)
    assert [one["prefix"] for one in listed.body["routes"]] == ["", "49"]
    removed = [
        (await rig.call("PUT", "/admin/v1/routes", key=operator, body={**route, "carrier": None})).body[
            "removed"
        ]
        for _ in range(2)
    ]
    assert removed == [True, False]
    nobody = await rig.call("PUT", "/admin/v1/routes", key=operator, body={**route, "carrier": "nobody"})
    assert nobody.code == "not_found"
