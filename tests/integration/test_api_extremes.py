"""Each field of each request at its extremes: taken or refused by its name, and the lists stay readable."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from yarl import URL

from api import callers
from api.operations import OPERATIONS
from api.routing import Operation
from api.schemas import MessageRequest
from tests.support.api_rig import ALL_SCOPES, PLENTY, PLENTY_FOR_OPERATORS, Rig, open_api, prepare
from tests.support.servers import Database

ID = "01939d2e-0000-7000-8000-000000000000"
MESSAGE = {"to": "+4915112345678", "text": "x"}
# Bodies that are taken; each field of theirs is then replaced.
BODIES: dict[str, Any] = {
    "send_message": MESSAGE,
    "preview_message": MESSAGE,
    "send_batch": {"messages": [MESSAGE]},
    "put_callback": {"url": "https://hooks.example.org/x"},
    "create_client": {"name": "n"},
    "create_key": {"client": "acme", "scopes": ["messages:send"]},
    "post_credit": {"amount": "1", "reference": "r"},
    "set_rates": {"currency": "EUR", "rates": [{"prefix": "49", "price": "0.1"}]},
    "put_carrier": {"settings": {"url": "https://carrier.example.org/", "body": {"to": "$msisdn"}}},
    "put_route": {"prefix": "49", "carrier": "simulator"},
}
# As JSON, since some of it no library would write.
EXTREMES = (
    '""', r'"\u0000"', r'"x\n"', r'"EUR\n"', r'"\ud800"', '"аcme"', '"٣"', '" "', f'"{"9" * 400}"', '"NaN"',
    '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999Z"', '"2026-11-21T23:59:60Z"',
    '"0001-01-01T00:00:00+14:00"', '"-0"', '"999999999999"', '"https://a.b:99999/"', '"https://[::1"',
    "0", "-1", "1.5", "1e400", "32768", "2147483648", "9223372036854775808", "-9223372036854775809",
    "null", "true", "[]", "{}", "[null]", r'["x\n"]', r'["\u0000"]', '["1.2.3.4/33"]', '["DE\\n"]',
    f'"{ID}"', '"ffffffff-ffff-ffff-ffff-ffffffffffff"', r'{"a": {"b": "\u0000"}}',
)  # fmt: skip
LISTS = (
    "/v1/messages", "/v1/ledger", "/v1/callback/attempts", "/admin/v1/clients", "/admin/v1/rates",
    "/admin/v1/clients/acme/keys", "/admin/v1/keys", "/admin/v1/carriers", "/admin/v1/routes",
    "/admin/v1/audit",
)  # fmt: skip


def bodies(one: Operation) -> Iterator[tuple[str, bytes]]:
    """The operation's body with each of its fields at each extreme, and what was done to it."""
    fields = [field.encode_name for field in msgspec.structs.fields(one.body)]
    if one.name == "send_batch":
        fields += [f"messages.{field.encode_name}" for field in msgspec.structs.fields(MessageRequest)]
    if one.name == "set_rates":
        fields += ["rates.prefix", "rates.price"]
    for field in fields:
        for nth, extreme in enumerate(EXTREMES):
            body = json.loads(json.dumps(BODIES.get(one.name, {})))
            if one.name == "create_client":
                body["name"] = f"{field}-{nth}".replace("_", "-")
            if one.name == "post_credit":
                body["reference"] = f"{field}-{nth}"
            outer, _, inner = field.partition(".")
            holder = body[outer][0] if inner else body
            holder[inner or outer] = "@"
            yield f"{field}: {extreme}", json.dumps(body).replace('"@"', extreme).encode()


def queries(one: Operation) -> Iterator[str]:
    for field in msgspec.structs.fields(one.query):
        texts = [json.loads(extreme) if extreme[0] == '"' else extreme for extreme in EXTREMES]
        for text in texts:
            yield f"{field.encode_name}={quote(text.encode('utf-8', 'surrogatepass'))}"
        yield from (f"{field.encode_name}={text}" for text in ("%ff", "%zz", "+"))


def requests(one: Operation) -> Iterator[tuple[str, str, bytes | None]]:
    """What to ask: a word on it, the path with its query, the body."""
    name = "acme" if "/clients/" in one.path else "simulator"
    path = one.path.replace("{name}", name).replace("{key_id}", "abcdefghijkl").replace("{id}", ID)
    for what, body in bodies(one) if one.body is not None else ():
        yield what, path, body
    for query in queries(one) if one.query is not None else ():
        yield query, f"{path}?{query}", None
    plain = None if one.body is None else json.dumps(BODIES.get(one.name, {})).encode()
    for text in (
        ("%00", "%ff", "%0a", "x" * 3_000, f"{ID}%0a", "acme%0a", "9" * 300) if path != one.path else ()
    ):
        replaced = path.replace(ID, text).replace(f"/{name}", f"/{text}").replace("abcdefghijkl", text)
        yield f"path {text}", replaced, plain


async def faults(rig: Rig, key: str, one: Operation) -> list[str]:
    found = []
    for what, path, body in requests(one):
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        url = URL(rig.url + path, encoded=True)
        async with rig.session.request(one.method, url, data=body, headers=headers) as answer:
            said = await answer.read()
        if answer.status >= 500 or answer.status == 429 or b'"field":"request"' in said:
            found.append(f"{one.name}, {what[:80]}: {answer.status} {said[:200]!r}")
    return found


@pytest.mark.timeout(240)
async def test_no_extreme_is_an_error_of_ours_or_blinds_a_list(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "OPERATOR_QUOTA", PLENTY_FOR_OPERATORS)
    await prepare(database)
    async with open_api(database, tmp_path, **PLENTY) as rig:
        many = {"requests_per_minute": 10_000_000, "requests_burst": 1_000_000}
        await rig.client("acme", **many, allowed_callback_hosts=["hooks.example.org"])
        keys = {False: await rig.key("acme", ALL_SCOPES), True: await rig.operator()}
        found = []
        for one in OPERATIONS:
            if one.tag != "service" and one.name != "change_client":  # it would shut the client out
                found += await faults(rig, keys[one.path.startswith("/admin/")], one)
        for path in LISTS:
            listed = await rig.call("GET", path, key=keys[path.startswith("/admin/")])
            found += [f"{path}: {listed}"] if listed.status != 200 else []
    assert found == []
