"""A client's senders: the default one is among those that it may use, whoever changes which."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from shared.storage import clients
from tests.support.api_rig import BY, Answer, Rig, open_api, prepare
from tests.support.servers import Database

# A change is in force within a second (RULES 32); this much more is for a machine that is busy.
IN_FORCE_SECONDS = 20.0
WAITING = "select exists (select from pg_locks where not granted)"


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_a_client_sends_by_default_as_one_of_its_allowed_senders(rig: Rig) -> None:
    operator = await rig.operator()

    async def made(**settings: object) -> Answer:
        body = {"name": f"c{secrets.token_hex(4)}", **settings}
        return await rig.call("POST", "/admin/v1/clients", key=operator, body=body)

    assert (await made(allowed_senders=["CB", "CC"])).body["default_sender"] == "CB"
    assert (await made(allowed_senders=["CB", "CC"], default_sender="CC")).body["default_sender"] == "CC"
    assert (await made(default_sender="CB")).body["default_sender"] == "CB"
    assert (await made()).body["default_sender"] == "Tollwire"
    refused = await made(allowed_senders=["CB"], default_sender="CC")
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "default_sender")


async def test_an_allowed_sender_that_is_the_default_one_is_not_taken_back_alone(rig: Rig) -> None:
    operator, path = await rig.operator(), "/admin/v1/clients/acme"
    key = await rig.client("acme", default_sender="ONE", allowed_senders=["ONE"])

    async def changed(**settings: object) -> Answer:
        return await rig.call("PATCH", path, key=operator, body=settings)

    for settings in ({"allowed_senders": ["TWO"]}, {"default_sender": "TWO"}):
        refused = await changed(**settings)
        assert (refused.status, refused.body["errors"][0]["field"]) == (422, "default_sender"), refused
    assert (await changed(allowed_senders=["TWO"], default_sender="TWO")).status == 200
    one = {"from": "ONE"}
    assert (await changed(allowed_senders=["TWO", "THREE"])).body["default_sender"] == "TWO"
    async with asyncio.timeout(IN_FORCE_SECONDS):
        while (await rig.send(key, **one)).body.get("code") != "sender_not_allowed":  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.05)
    assert (await rig.send(key)).body["from"] == "TWO"
    assert (await changed(allowed_senders=None)).status == (await changed(default_sender="ANY")).status == 200


async def test_a_list_is_held_against_the_default_sender_that_is_set_meanwhile(
    rig: Rig,
) -> None:
    operator, path = await rig.operator(), "/admin/v1/clients/acme"
    await rig.client("acme", default_sender="ONE", allowed_senders=["ONE", "TWO"])
    async with rig.connection() as conn, conn.transaction():
        await clients.set_client(conn, "acme", {"default_sender": "TWO"}, BY)
        listing = rig.call("PATCH", path, key=operator, body={"allowed_senders": ["ONE"]})
        changing = asyncio.create_task(listing)
        async with asyncio.timeout(IN_FORCE_SECONDS):
            while not await conn.fetchval(WAITING):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)
    refused = await changing
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "default_sender")


async def test_a_default_sender_that_was_never_in_the_list_does_not_stand_in_the_way_of_other_changes(
    rig: Rig,
) -> None:
    operator, path = await rig.operator(), "/admin/v1/clients/acme"
    key = await rig.client("acme", default_sender="OLD", allowed_senders=["ONE"])
    for body in ({"messages_per_second": 5}, {"default_sender": "OLD", "allowed_senders": ["ONE"]}):
        assert (await rig.call("PATCH", path, key=operator, body=body)).status == 200
    assert (await rig.send(key)).body["from"] == "OLD"
    refused = await rig.call("PATCH", path, key=operator, body={"allowed_senders": ["ONE", "TWO"]})
    assert refused.body["errors"][0]["field"] == "default_sender"


async def test_the_command_moves_the_default_sender_out_of_what_is_taken_back_and_no_further(
    rig: Rig,
) -> None:
    operator = await rig.operator()

    async def told(*words: str) -> tuple[list[str] | None, str]:
        words = ("client", *words, "--api-url", rig.url, "--api-key", operator, "--json")
        done = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
        assert done.exit_code == 0, done.output
        shown = json.loads(done.stdout)
        return shown["allowed_senders"], shown["default_sender"]

    assert await told("create", "acme", "--allow-sender", "ONE") == (["ONE"], "ONE")
    assert await told("set", "acme", "--allow-sender", "TWO") == (["TWO"], "TWO")
    both = ("--allow-sender", "ONE", "--allow-sender", "TWO")
    assert await told("set", "acme", *both) == (["ONE", "TWO"], "TWO")
    assert await told("set", "acme", *both, "--default-sender", "ONE") == (["ONE", "TWO"], "ONE")
    assert await told("set", "acme", "--allow-sender", "any") == (None, "ONE")
