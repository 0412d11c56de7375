"""A number and what was said to it go for good; the books and everybody else's messages stay."""

import asyncio
import json
from datetime import datetime
from uuid import UUID

import pytest
from click.testing import CliRunner

from cli.pii import pii
from ledger import erase as erasing
from ledger.erase import StillOpen, erase, find
from shared.storage.audit import Actor
from tests.support.flow import Flow, outcome
from tests.support.old_days import accepted_on, days_ago, delivered_on, told

NUMBER, OTHER = "+4915112345678", "+4915112345679"
DAY = days_ago(12)
BY = Actor("tests")


def quiet(_doing: str, _at: datetime) -> None:
    """Nobody watches."""


async def conversation(flow: Flow) -> None:
    """Messages to two numbers, with texts, receipts that name them, and answers of the client's endpoint."""
    client, carrier = await flow.client(), await flow.carrier()
    await flow.endpoint(client)
    ids = await delivered_on(flow, DAY, client, carrier, 3, msisdn=NUMBER)
    ids += await delivered_on(flow, DAY, client, carrier, 2, msisdn=OTHER)
    await told(flow, ids)
    await flow.pool.execute(
        "update tollwire.receipts k set msisdn = m.msisdn from tollwire.messages m where m.id = k.message_id"
    )
    await flow.pool.execute("update tollwire.attempts set error_detail = 'as the carrier says'")
    await flow.pool.execute(
        """insert into tollwire.callback_attempts (callback_id, attempt_no, at, status, answer_head)
           select c.id, n, clock_timestamp(), 200, 'to ' || m.msisdn::bytea
           from tollwire.callbacks c join tollwire.messages m on m.id = c.message_id cross join
                generate_series(1, 2) n"""
    )


async def count(flow: Flow, sql: str) -> int:
    return int(await flow.pool.fetchval(sql))


async def test_nothing_of_the_number_is_left_and_nothing_else_is_touched(flow, pool, monkeypatch):
    monkeypatch.setattr(erasing, "CHUNK_ROWS", 2)
    await conversation(flow)
    found = await find(pool, NUMBER, quiet)
    assert (found.messages, found.open_count) == (3, 0)
    erased = await erase(pool, NUMBER, found, BY, "ticket 7", quiet)
    assert (erased.messages, erased.texts, erased.receipts, erased.answers) == (3, 3, 3, 6)
    numbers = await flow.pool.fetch("select msisdn, count(*) from tollwire.messages group by 1 order by 1")
    assert [tuple(row) for row in numbers] == [(OTHER, 2), (erased.pseudonym, 3)]
    assert await count(flow, "select count(*) from tollwire.receipts where msisdn is null") == 3
    assert await count(flow, "select count(*) from tollwire.message_texts") == 2
    assert await count(flow, "select count(*) from tollwire.attempts where error_detail is not null") == 2
    assert (
        await count(flow, "select count(*) from tollwire.callback_attempts where answer_head is not null")
        == 4
    )
    assert (await find(pool, NUMBER, quiet)).messages == 0


async def test_the_audit_trail_tells_of_it_without_the_number(flow, pool):
    await conversation(flow)
    await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, "ticket 7", quiet)
    rows = await flow.pool.fetch(
        "select actor, action, target, after, reason from tollwire.audit_trail order by id"
    )
    assert [row["action"] for row in rows] == ["pii.erase", "pii.erased"]
    assert {(row["actor"], row["target"], row["reason"]) for row in rows} == {
        ("tests", "msisdn/+***********78", "ticket 7")
    }
    assert rows[1]["after"] == {"messages": 3, "texts": 3, "receipts": 3, "answers": 6}


async def test_a_message_that_has_not_ended_keeps_the_number(flow, pool):
    await conversation(flow)
    (waiting,) = await accepted_on(flow, DAY, await flow.client(), msisdn=NUMBER)
    with pytest.raises(StillOpen) as refusal:
        await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    assert refusal.value.open_messages == (waiting,)
    assert await count(flow, "select count(*) from tollwire.messages where msisdn like '+999%'") == 0


async def test_a_message_that_comes_up_meanwhile_is_left_and_named(flow, pool):
    await conversation(flow)
    found = await find(pool, NUMBER, quiet)
    (late,) = await accepted_on(flow, DAY, await flow.client(), msisdn=NUMBER)
    with pytest.raises(StillOpen) as refusal:
        await erase(pool, NUMBER, found, BY, None, quiet)
    assert refusal.value.open_messages == (late,)
    assert (await find(pool, NUMBER, quiet)).messages == 1


async def test_a_receipt_that_waits_for_its_message_keeps_the_number_and_is_counted(flow, pool):
    await flow.receive(await flow.carrier(), "not yet", "delivered", msisdn=NUMBER)
    erased = await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    assert (erased.receipts, erased.waiting_receipts) == (0, 1)


async def silent(flow: Flow, carrier: int) -> tuple[UUID, str]:
    """A message to the number that ended without a receipt, and its reference."""
    (message,) = await flow.accepted(await flow.client(), msisdn=NUMBER)
    (reference,) = await flow.submitted([message], carrier)
    await flow.later([message], 4 * 86_400)
    await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [message])
    return message, reference


async def test_a_late_receipt_finds_its_message_and_brings_no_number_back(flow, pool):
    carrier = await flow.carrier()
    for echoes in (False, True):
        message, reference = await silent(flow, carrier)
        await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
        echo = message if echoes else None
        receipt = await flow.receive(carrier, reference, "delivered", msisdn=NUMBER, echo_message_id=echo)
        if not echoes:
            # The number is no proof any more: it waits until no other message can get this reference.
            assert [s.outcome for s in await flow.settle([receipt])] == ["waiting"]
            sql = (
                "update tollwire.receipts set received_at = received_at - interval '5 minutes' where id = $1"
            )
            await flow.pool.execute(sql, receipt)
        assert [s.outcome for s in await flow.settle([receipt])] == ["late_capture"]
        assert (await flow.lock(message))["late_captured_at"] is not None
        assert await count(flow, "select count(*) from tollwire.receipts where msisdn is not null") == 0


async def test_a_message_that_has_the_number_comes_before_an_erased_one_of_that_reference(flow, pool):
    carrier = await flow.carrier()
    _, reference = await silent(flow, carrier)
    await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    (message,) = await flow.accepted(await flow.client(), msisdn=OTHER)
    await flow.claim([message], carrier)
    await flow.record([outcome(message, 1, "submitted", reference=reference)], carrier)
    settled = await flow.receipt(carrier, reference, "delivered", msisdn=OTHER)
    assert (settled.message_id, settled.state) == (message, "DELIVERED")
    assert (await flow.receipt(carrier, reference, "delivered", msisdn=OTHER)).message_id == message


def test_pseudonyms_are_nobodys_number_and_differ() -> None:
    made = {erasing.new_pseudonym() for _ in range(100)}
    assert len(made) == 100
    assert all(len(pseudonym) == 16 and pseudonym.startswith("+999") for pseudonym in made)


async def run(*args: str) -> tuple[int, str, str]:
    """Run `tollwire pii`; its loop is its own, so it has a thread of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, pii, ["erase", *args])
    return result.exit_code, result.stdout, result.stderr


async def test_the_command_erases_and_says_what(database, flow):
    await conversation(flow)
    dsn = database.dsn("ledger")
    code, out, _ = await run(NUMBER, "--yes", "--json", "--dsn", dsn)
    document = json.loads(out)
    assert (code, document["number"], document["messages"]) == (0, "+***********78", 3)
    code, out, _ = await run(OTHER, "--yes", "--dsn", dsn)
    assert (code, "is erased" in out, OTHER in out) == (0, True, False)


async def test_the_command_refuses_with_a_code_that_means_something(database, flow):
    (waiting,) = await accepted_on(flow, DAY, await flow.client(), msisdn=NUMBER)
    dsn = database.dsn("ledger")
    code, _, err = await run(NUMBER, "--yes", "--dsn", dsn)
    assert (code, str(waiting) in err) == (1, True)
    assert (await run("0151 1234", "--yes", "--dsn", dsn))[0] == 2
    assert (await run(NUMBER, "--dsn", dsn))[0] == 2
    assert (await run(NUMBER, "--yes", "--dsn", database.dsn("readonly")))[0] == 4
