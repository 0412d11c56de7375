"""Dead letters that turned out delivered, or were charged: shown as such, and none is sent a second time."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from dlr.store import RECEIPT_KEEP_HOURS, SETTLE
from tests.support.api_rig import Answer, Rig, open_api, prepare
from tests.support.flow import LEASE_SECONDS, RECEIPT_WAIT_SECONDS, Flow, open_flow, outcome
from tests.support.locks import BLOCKED, held
from tests.support.servers import Database

CARRIER = 1
PRICE = {"amount": "0.0750", "currency": "EUR"}


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as running:
        yield running


async def lost(rig: Rig, flow: Flow, key: str) -> str:
    """The id of a message whose answer was lost, and that was given up: nobody knows what became of it."""
    return await lose(flow, (await rig.send(key)).body["id"])


async def lose(flow: Flow, message_id: str) -> str:
    """Lose the answer to its submit, and give it up."""
    ids = [UUID(message_id)]
    await flow.claim(ids, CARRIER)
    await flow.record([outcome(ids[0], 1, "uncertain", error="timeout")], CARRIER)
    await flow.later(ids, 2 * RECEIPT_WAIT_SECONDS)
    await flow.expire(ids)
    assert await flow.state(ids[0]) == "FAILED_PERM"
    return message_id


async def deliver(flow: Flow, message_id: str) -> None:
    """Let its receipt come after all."""
    named = {"echo_message_id": UUID(message_id)}
    settled = await flow.receipt(CARRIER, f"of {message_id}", "delivered", **named)
    assert settled.outcome == "late_capture"


async def replay(rig: Rig, operator: str, message_id: str, number: int = 1) -> Answer:
    path = f"/admin/v1/dead-letters/{message_id}/replay"
    return await rig.call("POST", path, key=operator, body={"number": number})


async def shown(rig: Rig, operator: str) -> dict[str, Any]:
    listed = await rig.call("GET", "/admin/v1/dead-letters", key=operator)
    return {letter["message_id"]: letter for letter in listed.body["dead_letters"]}


async def dlq(rig: Rig, operator: str, *words: str) -> Any:
    line = ["dlq", *words, "--api-url", rig.url, "--api-key", operator]
    return await asyncio.to_thread(CliRunner().invoke, tollwire, line)


def document(done: Any) -> Any:
    """What a command said as JSON; the API in the same process may log something before it or after it."""
    return json.JSONDecoder().raw_decode(done.stdout, done.stdout.index('{\n  "replayed"'))[0]


async def test_a_letter_that_was_delivered_late_is_listed_as_such_with_what_it_cost(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    before = (await shown(rig, operator))[message_id]
    await deliver(flow, message_id)
    after = (await shown(rig, operator))[message_id]
    assert (before["delivered_late"], before["charged"]) == (False, False)
    assert (after["delivered_late"], after["charged"], after["price"]) == (True, True, PRICE)
    assert after["reason"] == "outcome_unknown"


async def test_a_letter_that_was_delivered_late_is_not_sent_again(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    await deliver(flow, message_id)
    refused = [await replay(rig, operator, message_id) for _ in range(2)]
    assert [(answer.status, answer.code) for answer in refused] == [(409, "already_delivered")] * 2
    balance = (await rig.call("GET", "/v1/balance", key=key)).body
    assert (balance["open_holds"], balance["held"]) == (0, "0.0000")
    assert await flow.pool.fetchval("select count(*) from tollwire.messages") == 1


async def test_what_was_replayed_before_its_receipt_came_keeps_its_answer_and_is_not_sent_once_more(
    rig, flow
):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    first = await replay(rig, operator, message_id)
    await deliver(flow, message_id)
    again, other = [await replay(rig, operator, message_id, number) for number in (1, 2)]
    assert (first.status, again.status, again.body["id"]) == (202, 202, first.body["id"])
    assert (other.status, other.code) == (409, "already_delivered")


async def test_a_receipt_that_is_being_settled_while_the_replay_waits_for_the_account_is_seen(
    rig, flow, database
):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    receipt = await flow.receive(CARRIER, "late", "delivered", echo_message_id=UUID(message_id))
    async with held(database, SETTLE, [receipt], LEASE_SECONDS, RECEIPT_KEEP_HOURS):
        asked = asyncio.create_task(replay(rig, operator, message_id))
        async with asyncio.timeout(20):
            while await flow.pool.fetchval(BLOCKED) == 0:
                assert not asked.done()
    assert (await asked).code == "already_delivered"
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 0


async def test_all_letters_leave_out_what_was_delivered_late(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    late, open_ = [await lost(rig, flow, key) for _ in range(2)]
    await deliver(flow, late)
    told = await dlq(rig, operator, "list")
    done = await dlq(rig, operator, "replay", "--all", "--reason", "outcome_unknown", "--json")
    assert done.exit_code == 0, done.output
    said = document(done)
    assert [one["replay_of"] for one in said["replayed"]] == [open_]
    assert said["refused"] == []
    (line,) = [line for line in told.stdout.splitlines() if late in line]
    assert "outcome_unknown (delivered late)" in line
    assert "0.0750 EUR" in line
    (line,) = [line for line in told.stdout.splitlines() if open_ in line]
    assert "EUR" not in line
    named = await dlq(rig, operator, "replay", late)
    assert (named.exit_code, "was delivered" in named.stdout) == (1, True)


async def test_nor_is_the_replay_sent_on_of_what_was_delivered_late(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    first = await lost(rig, flow, key)
    second = await lose(flow, (await replay(rig, operator, first)).body["id"])
    assert not (await shown(rig, operator))[second]["delivered_late"]
    await deliver(flow, first)
    assert (await replay(rig, operator, second)).code == "already_delivered"
    letters = await shown(rig, operator)
    told = {id_: (letter["delivered_late"], letter["charged"]) for id_, letter in letters.items()}
    assert told == {first: (True, True), second: (True, False)}
    done = await dlq(rig, operator, "replay", "--all", "--json")
    assert (done.exit_code, document(done)) == (0, {"replayed": [], "refused": []})


async def test_nor_is_what_another_replay_brought_to_the_phone(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    other, first = [await lost(rig, flow, key) for _ in range(2)]
    second = await lose(flow, (await replay(rig, operator, first)).body["id"])
    third = (await replay(rig, operator, first, 2)).body["id"]
    (reference,) = await flow.submitted([UUID(third)], CARRIER)
    before = await shown(rig, operator)
    await flow.receipt(CARRIER, reference, "delivered")
    assert await flow.state(UUID(third)) == "DELIVERED"
    after = await shown(rig, operator)
    assert {id_ for id_, letter in before.items() if letter["delivered_late"]} == set()
    assert {id_ for id_, letter in after.items() if letter["delivered_late"]} == {first, second}
    refused = [await replay(rig, operator, id_, 3) for id_ in (first, second)]
    assert [answer.code for answer in refused] == ["already_delivered"] * 2
    # Others may have been sent, as here.
    assert all(answer.body["detail"].endswith("This replay was not sent.") for answer in refused)
    done = document(await dlq(rig, operator, "replay", "--all", "--json"))
    assert [one["replay_of"] for one in done["replayed"]] == [other]


async def test_all_letters_leave_out_what_the_carrier_has_until_it_says_that_it_will_not_arrive(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    named = {"echo_message_id": UUID(message_id)}
    seen = []
    for state in (None, "enroute", "undelivered"):
        if state is not None:
            await flow.receipt(CARRIER, "late", state, **named)
        told = await dlq(rig, operator, "list")
        letter = (await shown(rig, operator))[message_id]
        seen.append((letter["with_carrier"], "outcome_unknown (with the carrier)" in told.stdout))
        if state == "enroute":
            done = await dlq(rig, operator, "replay", "--all", "--json")
            assert document(done) == {"replayed": [], "refused": []}
    assert seen == [(False, False), (True, True), (False, False)]
    done = document(await dlq(rig, operator, "replay", "--all", "--json"))
    assert [one["replay_of"] for one in done["replayed"]] == [message_id]


async def test_what_the_carrier_has_is_sent_again_by_its_id(rig, flow):
    key, operator = await rig.client("acme"), await rig.operator()
    message_id = await lost(rig, flow, key)
    await flow.receipt(CARRIER, "late", "enroute", echo_message_id=UUID(message_id))
    assert (await replay(rig, operator, message_id)).status == 202


async def test_a_letter_that_was_charged_at_the_submit_says_so_and_may_be_sent_again(rig, flow):
    key, operator = await rig.client("acme", charge="submitted"), await rig.operator()
    message_id = (await rig.send(key, delivery="at_least_once")).body["id"]
    ids = [UUID(message_id)]
    await flow.claim(ids, CARRIER)
    await flow.record([outcome(ids[0], 1, "uncertain", error="timeout", retry_seconds=0.0)], CARRIER)
    await flow.receipt(CARRIER, "lost", "undelivered", echo_message_id=ids[0])
    await flow.claim(ids, CARRIER)
    await flow.record([outcome(ids[0], 2, "refused_perm", error="blocked")], CARRIER)
    assert await flow.state(ids[0]) == "FAILED_PERM"
    letter = (await shown(rig, operator))[message_id]
    assert (letter["delivered_late"], letter["charged"]) == (False, True)
    assert (await replay(rig, operator, message_id)).status == 202
