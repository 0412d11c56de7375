"""What a client is told when the database did as asked and its answer was lost (RULES 4)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.postgres_proxy import Proxy, open_proxy
from tests.support.servers import Database

URL = "https://hooks.example.org/sms"
CHANGES: tuple[tuple[str, str, Any, str], ...] = (
    ("PUT", "/v1/callback", {"url": URL}, "client"),
    ("POST", "/v1/callback/rotate", {}, "client"),
    ("POST", "/v1/callback/test", None, "client"),
    ("POST", "/v1/callback/replay", {"since": "2026-11-21T10:00:00Z"}, "client"),
    ("POST", "/admin/v1/clients", {"name": "other"}, "operator"),
    ("PATCH", "/admin/v1/clients/acme", {"suspended": True}, "operator"),
    ("POST", "/admin/v1/clients/acme/credit", {"amount": "5.00", "reference": "r"}, "operator"),
    ("POST", "/admin/v1/keys", {"client": "acme", "scopes": ["messages:read"]}, "operator"),
    ("DELETE", "/admin/v1/keys/none", None, "operator"),
    ("PUT", "/admin/v1/routes", {"prefix": "49", "priority": 1, "carrier": None}, "operator"),
    ("PUT", "/admin/v1/rates", {"currency": "EUR", "rates": [{"prefix": "7", "price": None}]}, "operator"),
    ("PUT", "/admin/v1/carriers/other", {"kind": "http", "settings": {}}, "operator"),
    ("POST", f"/admin/v1/dead-letters/{UUID(int=1)}/replay", {}, "operator"),
)


@asynccontextmanager
async def open_unheard(database: Database, folder: Path) -> AsyncIterator[tuple[Rig, Proxy]]:
    await prepare(database)
    async with (
        open_proxy(database.dsn("api")) as (proxy, dsn),
        open_api(database, folder, postgres_dsn=dsn) as rig,
    ):
        yield rig, proxy


async def unheard(proxy: Proxy, rig: Rig, asked: bytes, *request: str, **options: Any) -> Answer:
    """The answer to a request whose statement with this in it is done and never answered."""
    proxy.break_instead_of_answering(asked)
    answer = await rig.call(*request, **options)
    proxy.heal()
    return answer


async def test_a_rotation_that_was_not_heard_of_is_repeated_and_shows_a_secret_that_signs(database, tmp_path):
    async with open_unheard(database, tmp_path) as (rig, proxy):
        key = await rig.client("acme")
        assert (await rig.call("PUT", "/v1/callback", key=key, body={"url": URL})).status == 201
        rotate = ("POST", "/v1/callback/rotate")
        unknown = await unheard(proxy, rig, b"COMMIT", *rotate, key=key, body={"grace_seconds": 60})
        assert (unknown.status, unknown.code) == (503, "outcome_unknown")
        assert unknown.headers["Retry-After"] == "5"
        again = await rig.call(*rotate, key=key, body={"grace_seconds": 60})
        assert (again.status, again.body["secret"][:6]) == (200, "whsec_")
        shown = (await rig.call("GET", "/v1/callback", key=key)).body["secrets"]
        # The one that is shown, the one that nobody saw, and the client's own, which it verifies by so far.
        assert [one["expires_at"] is None for one in shown] == [True, False, False]


async def test_a_first_secret_that_was_not_heard_of_is_had_by_a_rotation(database, tmp_path):
    async with open_unheard(database, tmp_path) as (rig, proxy):
        key = await rig.client("acme")
        put = ("PUT", "/v1/callback")
        unknown = await unheard(proxy, rig, b"COMMIT", *put, key=key, body={"url": URL})
        assert (unknown.status, unknown.code) == (503, "outcome_unknown")
        again = await rig.call(*put, key=key, body={"url": URL})
        assert (again.status, again.body["secret"]) == (200, None)
        rotated = await rig.call("POST", "/v1/callback/rotate", key=key, body={"grace_seconds": 0})
        assert (rotated.status, rotated.body["secret"][:6]) == (200, "whsec_")


async def test_a_top_up_that_was_not_heard_of_is_answered_when_it_is_asked_for_again(database, tmp_path):
    async with open_unheard(database, tmp_path) as (rig, proxy):
        await rig.client("acme", credit_micros=0)
        operator = await rig.operator()
        post = ("POST", "/admin/v1/clients/acme/credit")
        body = {"amount": "5.00", "reference": "invoice-17"}
        unknown = await unheard(proxy, rig, b"COMMIT", *post, key=operator, body=body)
        assert (unknown.status, unknown.code) == (503, "outcome_unknown")
        again = await rig.call(*post, key=operator, body=body)
        assert (again.body["replayed"], again.body["available"]) == (True, "5.0000")


async def test_nothing_is_accepted_where_no_connection_was_had(database, tmp_path):
    async with open_unheard(database, tmp_path) as (rig, proxy):
        key, operator = await rig.client("acme"), await rig.operator()
        for known in (key, operator):
            await rig.call("GET", "/v1/balance", key=known)
        proxy.cut()
        # Every idle connection hears of its end. What is sent on one that has not may have been done.
        await asyncio.sleep(0.1)
        for method, path, body, who in CHANGES:
            answer = await rig.call(method, path, key=operator if who == "operator" else key, body=body)
            assert (answer.status, answer.code) == (503, "unavailable"), path
        proxy.heal()


async def test_a_repeat_whose_first_answer_cannot_be_read_names_the_message(database, tmp_path):
    async with open_unheard(database, tmp_path) as (rig, proxy):
        key = await rig.client("acme")
        sent = await rig.send(key, Idempotency_Key="k")
        proxy.break_after_answering(b"replayed")
        repeat = asyncio.create_task(rig.send(key, Idempotency_Key="k"))
        await proxy.is_gone.wait()
        # What could not be sent now may have been accepted under its key, when there was a price.
        priceless = await rig.send(key, to="+79161234567", Idempotency_Key="p")
        unknown = await repeat
        proxy.heal()
        for answer in (priceless, unknown):
            assert (answer.status, answer.code) == (503, "outcome_unknown")
        assert unknown.body["message_id"] == sent.body["id"]
        again = await rig.send(key, Idempotency_Key="k")
        assert (again.status, again.body["id"]) == (202, sent.body["id"])
