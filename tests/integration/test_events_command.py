"""`tollwire events replay` over a NATS that is there and answers nothing."""

import asyncio

import pytest
from click.testing import CliRunner

from cli.events import replay_events
from cli.failures import Exit
from tests.support.nats_door import NatsDoor
from tests.support.servers import Database

# What a server says to who comes, and to the first ping.
GREETING = b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576,"headers":true}\r\nPONG\r\n'


async def test_a_nats_that_answers_nothing_is_not_taken_for_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with NatsDoor(0).opened() as door:
        door.greeting = GREETING
        monkeypatch.setenv("TOLLWIRE_NATS_URL", door.url)
        words = ["--since", "2026-11-21", "--dsn", database.dsn("ledger")]
        said = await asyncio.to_thread(CliRunner().invoke, replay_events, words)
    assert said.exit_code == Exit.UNREACHABLE
    assert "NATS does not answer." in said.stderr
    assert "Start the same command again: it goes on." in said.stderr
