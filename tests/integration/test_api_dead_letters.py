"""Operators send dead letters again: a new message, a hold of its own, once for each number (RULES 21)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from api import admin_reads
from cli.__main__ import tollwire
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

CLAIM = "select o_refusal, o_attempt from tollwire.claim_batch_v1($1, $2, 1::smallint, 60, gen_random_uuid())"
REFUSE = """
    select o_state::text from tollwire.record_batch_v1(
        $1, array[1]::smallint[], array[1]::smallint[], array['refused_perm']::tollwire.attempt_outcome[],
        array[null]::text[], array['blocked'], array['no such subscriber'], array[0.0]::float8[],
        array[null]::smallint[], 1::smallint, false, 10::smallint, 3600)
"""

POST = """
    select ledger.post_credit_v1(id, $1, $2, $1, 'test', null) from ledger.accounts where kind = 'client'
"""


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def bury(rig: Rig, message_id: str) -> None:
    """Let a carrier refuse the message for good, as the worker records it."""
    connection = await asyncpg.connect(rig.database.dsn("worker"))
    assert await connection.fetchval(CLAIM, [UUID(message_id)], [1]) is None
    assert await connection.fetchval(REFUSE, [UUID(message_id)]) == "FAILED_PERM"
    await connection.close()


async def buried(rig: Rig) -> tuple[str, str, str]:
    """A client's key, an operator's key, and the id of a dead letter."""
    key, operator = await rig.client("acme"), await rig.operator()
    sent = await rig.send(key, client_ref="order-1", lane="express")
    await bury(rig, sent.body["id"])
    return key, operator, sent.body["id"]


async def replay(rig: Rig, operator: str, message_id: str, number: int = 1):
    return await rig.call(
        "POST", f"/admin/v1/dead-letters/{message_id}/replay", key=operator, body={"number": number}
    )


async def test_a_dead_letter_is_listed_with_its_reason_and_its_replays(rig):
    key, operator, message_id = await buried(rig)
    replayed = await replay(rig, operator, message_id)
    listed = await rig.call("GET", "/admin/v1/dead-letters", key=operator)
    (letter,) = listed.body["dead_letters"]
    assert (letter["message_id"], letter["client"], letter["reason"]) == (message_id, "acme", "blocked")
    assert letter["replays"] == [replayed.body["id"]]
    assert (await rig.call("GET", "/admin/v1/dead-letters", key=key)).code == "forbidden"


async def test_a_test_messages_letter_is_told_from_a_live_one_and_not_replayed_with_all_of_them(rig):
    _, operator, live = await buried(rig)
    test = (await rig.send(await rig.key("acme", is_test=True))).body["id"]
    await bury(rig, test)
    listed = await rig.call("GET", "/admin/v1/dead-letters", key=operator)
    shown = {letter["message_id"]: letter["is_test"] for letter in listed.body["dead_letters"]}
    assert shown == {live: False, test: True}
    words = ["dlq", "replay", "--all", "--json", "--api-url", rig.url, "--api-key", operator]
    for expected in ([live], []):
        done = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
        assert [one["replay_of"] for one in json.loads(done.output)["replayed"]] == expected
    assert (await replay(rig, operator, test)).status == 202, "by its name it is"


async def test_a_replay_is_a_new_message_with_a_hold_of_its_own(rig):
    key, operator, message_id = await buried(rig)
    assert (await rig.call("GET", "/v1/balance", key=key)).body["held"] == "0.0000"
    replayed = await replay(rig, operator, message_id)
    assert replayed.status == 202, replayed
    found = (await rig.call("GET", f"/v1/messages/{replayed.body['id']}", key=key)).body
    assert (found["text"], found["client_ref"], found["lane"]) == ("hello", "order-1", "express")
    assert found["hold"]["state"] == "HELD"
    assert (await rig.call("GET", f"/v1/messages/{message_id}", key=key)).body["status"] == "FAILED_PERM"


async def test_a_sender_that_was_taken_once_is_no_reason_to_refuse_a_replay(rig):
    """No request names it, so nobody could mend it."""
    key, operator, message_id = await buried(rig)
    connection = await asyncpg.connect(rig.database.dsn())
    named = (UUID(message_id), "tollwire-bench")
    await connection.execute("update tollwire.messages set sender = $2 where id = $1", *named)
    await connection.close()
    replayed = await replay(rig, operator, message_id)
    assert replayed.status == 202, replayed
    found = await rig.call("GET", f"/v1/messages/{replayed.body['id']}", key=key)
    assert found.body["from"] == "tollwire-bench"


async def test_a_second_click_gets_the_first_ones_answer(rig):
    key, operator, message_id = await buried(rig)
    first, second = await replay(rig, operator, message_id), await replay(rig, operator, message_id)
    assert (second.status, second.body["id"]) == (202, first.body["id"])
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 1
    third = await replay(rig, operator, message_id, number=2)
    assert third.body["id"] != first.body["id"]


async def test_a_replay_that_was_carried_out_has_its_line_though_nobody_lived_to_hear_of_it(rig):
    _, operator, message_id = await buried(rig)
    connection = await asyncpg.connect(rig.database.dsn())
    # Whatever the accept comes to, the line is there before it: here nobody hears of it.
    await connection.execute("alter function tollwire.accept_batch_v1 rename to accept_batch_away")
    assert (await replay(rig, operator, message_id)).status >= 500
    await connection.close()
    trail = await rig.call("GET", f"/admin/v1/audit?target=message/{message_id}", key=operator)
    (line,) = trail.body["lines"]
    assert (line["action"], line["after"]) == ("dead_letter.replay", {"number": 1})


async def test_a_filtered_page_looks_at_some_and_says_where_to_go_on(rig, monkeypatch):
    monkeypatch.setattr(admin_reads, "SCAN_MAX", 2)
    key, operator = await rig.client("acme"), await rig.operator()
    other = await rig.client("other")
    sent = [(await rig.send(sender)).body["id"] for sender in (other, key, key, key)]
    for message_id in sent:
        await bury(rig, message_id)
    query, found, cursors = "client=other", [], []
    for _ in range(3):
        page = (await rig.call("GET", f"/admin/v1/dead-letters?{query}", key=operator)).body
        found.append([letter["message_id"] for letter in page["dead_letters"]])
        cursors.append(page["next_cursor"])
        query = f"client=other&cursor={page['next_cursor']}"
    assert found == [[], [sent[0]], []]
    assert [cursor is None for cursor in cursors] == [False, False, True]


async def test_a_replay_that_was_refused_may_be_asked_for_again(rig):
    key, operator, message_id = await buried(rig)
    connection = await asyncpg.connect(rig.database.dsn("api"))
    posted = await connection.fetchval("select posted_micros from ledger.accounts where kind = 'client'")
    await connection.execute(POST, "adjustment", -posted)
    refused = [(await replay(rig, operator, message_id)).code for _ in range(2)]
    await connection.execute(POST, "top_up", posted)
    await connection.close()
    first, second = await replay(rig, operator, message_id), await replay(rig, operator, message_id)
    assert refused == ["insufficient_credit"] * 2
    assert (first.status, second.body["id"]) == (202, first.body["id"])
    assert (await rig.call("GET", "/v1/balance", key=key)).body["open_holds"] == 1


async def test_a_text_that_does_not_open_is_replayed_when_the_keyring_is_mended(rig, database, tmp_path):
    key, operator, message_id = await buried(rig)
    (tmp_path / "other").mkdir()
    with capture_logs() as logs:
        async with open_api(database, tmp_path / "other") as other:
            refused = await replay(other, operator, message_id)
    assert (refused.status, refused.code) == (503, "unavailable")
    assert refused.body["detail"] == (
        "The message's text is kept, but does not open: the key that sealed this is not in the keyring. "
        "Nothing was accepted. Mend that, then replay the message again."
    )
    assert refused.headers["Retry-After"] == "60"
    said = [line for line in logs if line["event"] == "text cannot be opened"]
    assert [(line["log_level"], line["message_id"]) for line in said] == [("error", message_id)]
    trail = await rig.call("GET", f"/admin/v1/audit?target=message/{message_id}", key=operator)
    assert trail.body["lines"] == []
    replayed = await replay(rig, operator, message_id)
    assert replayed.status == 202
    found = await rig.call("GET", f"/v1/messages/{replayed.body['id']}", key=key)
    assert found.body["text"] == "hello"


async def test_a_command_does_not_wait_for_a_text_that_does_not_open(rig, database, tmp_path):
    """Else each letter of `--all` would be asked for again until patience ends."""
    _, operator, message_id = await buried(rig)
    (tmp_path / "other").mkdir()
    async with open_api(database, tmp_path / "other") as other:
        words = ["dlq", "replay", "--all", "--json", "--api-url", other.url, "--api-key", operator]
        with capture_logs() as logs:
            done = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    [one] = json.loads(done.output)["refused"]
    assert (one["replay_of"], one["problem"]["code"]) == (message_id, "unavailable")
    assert [line["event"] for line in logs].count("text cannot be opened") == 1


async def test_a_letter_whose_text_is_gone_is_not_replayed(rig):
    _, operator, message_id = await buried(rig)
    connection = await asyncpg.connect(rig.database.dsn())
    await connection.execute("delete from tollwire.message_texts where message_id = $1", UUID(message_id))
    await connection.close()
    refused = await replay(rig, operator, message_id)
    assert (refused.status, refused.code) == (404, "not_found")
    assert "its retention has ended, or it was erased" in refused.body["detail"]


async def test_what_is_no_dead_letter_is_not_found(rig):
    key, operator = await rig.client("acme"), await rig.operator()
    sent = await rig.send(key)
    assert (await replay(rig, operator, sent.body["id"])).code == "not_found"
