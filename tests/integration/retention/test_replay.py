"""`tollwire events replay` tells the present state of what changed in a span, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import nats
import pytest
from click.testing import CliRunner

from cli.events import events
from ledger import replay_facts
from shared.events.facts import Fact, decode
from shared.runtime.streams import STREAMS
from tests.support.flow import Flow, open_flow
from tests.support.old_days import accepted_on, days_ago, delivered_on
from tests.support.servers import Database

HOUR = timedelta(hours=1)


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as opened:
        yield opened


@pytest.fixture
async def told(nats_server, monkeypatch) -> AsyncIterator[Callable[[], Awaitable[list[tuple[str, Fact]]]]]:
    """Every fact that is in the stream."""
    monkeypatch.setenv("TOLLWIRE_NATS_URL", nats_server.url)
    monkeypatch.setenv("TOLLWIRE_NATS_TOKEN", nats_server.token)
    client = await nats.connect(nats_server.url, token=nats_server.token)
    (stream,) = (stream for stream in STREAMS if stream.name == "SMS_EVENT")
    await client.jetstream().add_stream(stream.config(replicas=1, store_bytes=1 << 28))

    async def facts() -> list[tuple[str, Fact]]:
        found = []
        info = await client.jetstream().stream_info("SMS_EVENT")
        for number in range(1, info.state.messages + 1):
            message = await client.jetstream().get_msg("SMS_EVENT", number)
            found += [(str(message.subject), fact) for fact in decode(message.data or b"").facts]
        return found

    yield facts
    await client.close()


async def run(*args: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, events, ["replay", *args])
    return result.exit_code, result.stdout, result.stderr


async def changed_at(flow: Flow, ids, at: datetime) -> None:
    await flow.pool.execute(
        "update tollwire.message_states set updated_at = $2 where message_id = any ($1)", ids, at
    )


async def test_each_message_that_changed_in_the_span_is_told_once(database, flow, told, monkeypatch):
    monkeypatch.setattr(replay_facts, "CHUNK_ROWS", 2)
    client, carrier = await flow.client(), await flow.carrier()
    now = datetime.now(UTC)
    early = await delivered_on(flow, days_ago(10), client, carrier, 2)
    inside = await delivered_on(flow, days_ago(9), client, carrier, 3)
    waiting = await accepted_on(flow, days_ago(9), client)
    await changed_at(flow, early, now - 3 * HOUR)
    await changed_at(flow, inside + waiting, now - HOUR)
    since, until = (now - 2 * HOUR).isoformat(), now.isoformat()
    code, out, _ = await run("--since", since, "--until", until, "--json", "--dsn", database.dsn("ledger"))
    assert (code, json.loads(out)["messages"]) == (0, 4)
    facts = await told()
    assert sorted(fact.message_id for _, fact in facts) == sorted(id_.hex for id_ in inside + waiting)
    assert {(subject, fact.status, fact.amount_micros) for subject, fact in facts} == {
        ("sms.event.delivered", "DELIVERED", 7_900),
        ("sms.event.queued", "QUEUED", 7_900),
    }


async def test_a_day_that_was_closed_before_the_span_is_not_walked(database, flow, told):
    ids = await delivered_on(flow, days_ago(20), await flow.client(), await flow.carrier())
    await flow.pool.execute(
        "insert into tollwire.day_inspections (day, closed_at, last_submit_at) values ($1, $2, $2)",
        days_ago(20),
        datetime.now(UTC) - timedelta(days=15),
    )
    since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    code, out, _ = await run("--since", since, "--dsn", database.dsn("ledger"))
    assert (code, "0 facts told" in out, len(ids)) == (0, True, 1)
    assert await told() == []


async def test_a_day_that_is_half_inspected_is_walked(database, flow, told):
    (late,) = await delivered_on(flow, days_ago(20), await flow.client(), await flow.carrier())
    await flow.pool.execute(
        "insert into tollwire.day_inspections (day, states, last_submit_at) values ($1, 1, $2)",
        days_ago(20),
        datetime.now(UTC) - timedelta(days=20),
    )
    await changed_at(flow, [late], datetime.now(UTC) - HOUR)
    since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    assert (await run("--since", since, "--dsn", database.dsn("ledger")))[0] == 0
    assert [fact.message_id for _, fact in await told()] == [late.hex]


async def test_what_cannot_be_done_is_said_with_its_code(database, told, monkeypatch):
    dsn = database.dsn("ledger")
    assert (await run("--since", "yesterday", "--dsn", dsn))[0] == 2
    assert (await run("--since", "2026-01-02", "--until", "2026-01-01", "--dsn", dsn))[0] == 2
    assert (await run("--since", "2026-01-02", "--dsn", "postgresql://nobody@127.0.0.1:1/none"))[0] == 3
    monkeypatch.setenv("TOLLWIRE_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setattr("cli.events.CONNECT_SECONDS", 0.2)
    assert (await run("--since", "2026-01-02", "--dsn", dsn))[0] == 3
