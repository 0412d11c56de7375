"""`tollwire recover` as it is typed: what it says, what it lists, and what it reads from NATS."""

import asyncio
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import AsyncMock
from uuid import UUID

import nats
import pytest
from click.testing import CliRunner, Result
from nats.js import JetStreamContext

from cli.home import Home
from cli.recover import recover as command
from embedded.nats import NatsServer
from ledger import recover_facts
from ledger.recover_store import read_mark
from shared.events.facts import Fact, FactBundle, encode
from shared.runtime.postgres import open_pool
from shared.runtime.streams import STREAMS
from tests.support.flow import PoolSettings, new_id, open_flow
from tests.support.servers import Database

STORE_BYTES = 64 * 2**20


async def test_the_command_says_what_it_did_and_lists_it(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLWIRE_NATS_URL", nats_server.url)
    monkeypatch.setenv("TOLLWIRE_NATS_TOKEN", nats_server.token)
    async with open_flow(database) as flow:
        (waits,) = await flow.accepted(await flow.client(), carrier_id=await flow.carrier())
    options = ["--restored-to", datetime.now(UTC).isoformat(), "--dsn", database.dsn("ledger")]
    said = await asyncio.to_thread(
        CliRunner().invoke, command, [*options, "--json", "--list", str(tmp_path / "list.csv")]
    )
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert (document["held_back"], document["open_holds"]) == (1, 1)
    lines = list(csv.DictReader((tmp_path / "list.csv").read_text().splitlines()))
    assert [(line["message_id"], line["done"]) for line in lines] == [(str(waits), "held_back")]
    again = await asyncio.to_thread(
        CliRunner().invoke, command, ["--restored-to", "2026-01-01", "--without-nats", *options[2:]]
    )
    assert (again.exit_code, "Nothing was done" in again.stderr) == (1, True)


async def test_cut_off_before_the_streams_are_emptied_it_goes_on_and_is_done_once(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLWIRE_NATS_URL", nats_server.url)
    monkeypatch.setenv("TOLLWIRE_NATS_TOKEN", nats_server.token)
    gone, listed = new_id(), tmp_path / "list.csv"
    await tell(nats_server, fact(gone, "DELIVERED", datetime.now(UTC)))
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (urgent,) = await flow.accepted(await flow.client(), carrier_id=carrier, delivery="at_least_once")
        options = ["--restored-to", datetime.now(UTC).isoformat(), "--dsn", database.dsn("ledger"), "--json"]
        options += ["--list", str(listed)]
        with monkeypatch.context() as cut:
            cut.setattr(recover_facts, "empty_streams", AsyncMock(side_effect=nats.errors.TimeoutError))
            said = await asyncio.to_thread(CliRunner().invoke, command, options)
            assert (said.exit_code, json.loads(said.stderr)["title"]) == (3, "NATS does not answer.")
        said = await asyncio.to_thread(CliRunner().invoke, command, options)
        assert (said.exit_code, json.loads(said.stdout)["sent_again"]) == (0, 0), said.output
        said = await asyncio.to_thread(CliRunner().invoke, command, options)
        assert (said.exit_code, "done already" in said.stderr) == (1, True)
        assert await flow.state(urgent) == "QUEUED"
    # What the first run did is still there, and what it found gone is there once.
    lines = [(line["message_id"], line["done"]) for line in csv.DictReader(listed.read_text().splitlines())]
    assert [line for line in lines if line[0] in {str(urgent), str(gone)}] == [
        (str(gone), "gone"), (str(urgent), "sent_again"),
    ]  # fmt: skip


async def test_a_second_recovery_does_not_add_to_the_list_of_the_first(
    database: Database, tmp_path: Path
) -> None:
    """An operator who charges what the list names as gone would charge the first one's messages twice."""
    listed = tmp_path / "list.csv"

    async def typed(file: Path) -> Result:
        options = ["--restored-to", datetime.now(UTC).isoformat(), "--without-nats", "--list", str(file)]
        return await asyncio.to_thread(
            CliRunner().invoke, command, [*options, "--dsn", database.dsn("ledger")]
        )

    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.accepted(client, carrier_id=carrier)
        assert (await typed(listed)).exit_code == 0
        before, mark = listed.read_text(), await read_mark(flow.pool)
        (waits,) = await flow.accepted(client, carrier_id=carrier, delivery="at_least_once")
        said = await typed(listed)
        assert (said.exit_code, "is the list of another recovery" in said.stderr) == (2, True), said.output
        assert (listed.read_text(), await read_mark(flow.pool)) == (before, mark)
        assert not (await flow.state_row(waits))["possible_duplicate"]
        assert (await typed(tmp_path / "other.csv")).exit_code == 0
        assert (await flow.state_row(waits))["possible_duplicate"]


async def test_it_is_said_how_far_back_facts_reach_where_that_is_not_far_enough(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLWIRE_NATS_URL", nats_server.url)
    monkeypatch.setenv("TOLLWIRE_NATS_TOKEN", nats_server.token)

    async def typed(moment: datetime, *words: str) -> Result:
        options = ["--restored-to", moment.isoformat(), "--dsn", database.dsn("ledger"), *words]
        said = await asyncio.to_thread(CliRunner().invoke, command, options)
        assert said.exit_code == 0, said.output
        return said

    before = datetime.now(UTC)
    assert "NATS has no facts" in (await typed(before)).stderr
    assert "NATS has no facts" not in (await typed(before + timedelta(seconds=1), "--without-nats")).stderr
    await tell(nats_server, fact(new_id(), "DELIVERED", datetime.now(UTC)))
    told = datetime.now(UTC)
    assert "The oldest fact that NATS has is of" in (await typed(before - timedelta(minutes=1))).stderr
    assert "oldest fact" not in (await typed(told)).stderr
    document = json.loads((await typed(told + timedelta(seconds=1), "--json")).stdout)
    assert before < datetime.fromisoformat(document["oldest_fact"]) <= told


async def test_the_home_is_told_to_stop_only_where_its_database_is_meant(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    home.make()
    monkeypatch.setenv("TOLLWIRE_HOME", str(home.path))
    options = ["--restored-to", datetime.now(UTC).isoformat(), "--without-nats"]
    dsn, variable = database.dsn("ledger"), "TOLLWIRE_LEDGER_POSTGRES_DSN"
    async with open_flow(database), open_pool(PoolSettings(dsn), application_name="tollwire-api"):
        for words, environ in ((["--dsn", dsn], {}), ([], {variable: dsn})):
            with home.lock:
                said = await asyncio.to_thread(CliRunner().invoke, command, [*options, *words], env=environ)
            assert (said.exit_code, "tollwire-api still run" in said.stderr) == (1, True), said.output
            assert "See docs/recovery.md" in said.stderr
            assert "down`" not in said.stderr


async def tell(server: NatsServer, told: Fact) -> None:
    """Publish a fact on a NATS that may have no stream yet."""
    client = await nats.connect(server.url, token=server.token)
    try:
        await make_streams(client.jetstream())
        await client.jetstream().publish(f"sms.event.{told.status.lower()}", encode(FactBundle(facts=[told])))
    finally:
        await client.close()


async def make_streams(jetstream: JetStreamContext) -> None:
    for stream in STREAMS:
        await jetstream.add_stream(stream.config(replicas=1, store_bytes=STORE_BYTES))


def fact(message_id: UUID, status: str, at: datetime) -> Fact:
    return Fact(
        message_id=message_id.hex, client_id=1, status=status, at=at, region="DE", lane="normal",
        segments=1, amount_micros=7_900, currency="EUR", carrier_id=7,
        error="no_receipt" if status == "EXPIRED" else None,
    )  # fmt: skip


async def test_facts_are_read_from_the_moment_on_and_work_is_emptied(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url, token=nats_server.token)
    try:
        jetstream = client.jetstream()
        await make_streams(jetstream)
        now = datetime.now(UTC)
        ended, waits, silent, old = [new_id() for _ in range(4)]
        for id_, status, at in (
            (ended, "DELIVERED", now),
            (ended, "SENT", now + timedelta(seconds=1)),
            (waits, "SENT", now),
            (waits, "QUEUED", now + timedelta(seconds=1)),
            (silent, "EXPIRED", now),
            (old, "DELIVERED", now - timedelta(minutes=1)),
        ):
            await jetstream.publish(
                f"sms.event.{status.lower()}", encode(FactBundle(facts=[fact(id_, status, at)]))
            )
        await jetstream.publish("sms.event.sent", b"garbage")
        told = await recover_facts.read(client, now - timedelta(seconds=1))
        assert {id_: (one.status, one.was_sent, one.error) for id_, one in told.items()} == {
            ended: ("DELIVERED", True, None),
            waits: ("SENT", True, None),
            silent: ("EXPIRED", False, "no_receipt"),
        }
        assert told[silent].carrier_id == 7
        assert await recover_facts.empty_streams(client) == list(recover_facts.STREAMS_OF_WORK)
        assert await recover_facts.empty_streams(client) == []
    finally:
        await client.close()


async def test_what_a_nats_whose_clock_is_behind_was_told_is_read_too(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url, token=nats_server.token)
    try:
        jetstream = client.jetstream()
        await make_streams(jetstream)
        database_now = datetime.now(UTC) + timedelta(minutes=9)
        ended, old = new_id(), new_id()
        for id_, at in ((ended, database_now), (old, database_now - timedelta(minutes=2))):
            await jetstream.publish(
                "sms.event.delivered", encode(FactBundle(facts=[fact(id_, "DELIVERED", at)]))
            )
        told = await recover_facts.read(client, database_now - timedelta(minutes=1))
        assert told.keys() == {ended}
    finally:
        await client.close()
