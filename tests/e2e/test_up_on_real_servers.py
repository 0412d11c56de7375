"""`tollwire up` on a PostgreSQL and a NATS that somebody else runs, without a Valkey."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from embedded.ports import free_port
from embedded.roles import drop_database, ensure_database
from ledger.days import DAYS_AHEAD
from tests.support.instance import Instance, commands_on, curl, eventually
from tests.support.servers import run_apart

DATABASE = "somebody_elses"


@pytest.fixture
def instance(postgres, nats_server) -> Iterator[Instance]:
    run_apart(lambda: ensure_database(postgres, DATABASE))
    folder = Path(tempfile.mkdtemp(prefix="tollwire-e2e-"))
    made = Instance(
        folder / "home",
        free_port(),
        TOLLWIRE_POSTGRES_DSN=postgres.dsn(database=DATABASE),
        TOLLWIRE_NATS_URL=nats_server.url,
        TOLLWIRE_NATS_TOKEN=nats_server.token,
        TOLLWIRE_VALKEY_URL="none",
    )
    yield made
    print(made.logs())  # shown when a test failed
    made.down("--clean")
    shutil.rmtree(folder)
    run_apart(lambda: drop_database(postgres, DATABASE))


def test_a_message_goes_through_real_servers_and_no_valkey_is_said(instance):
    screen = instance.up()
    assert "No Valkey here: limits are local" in screen
    assert "NATS" not in screen
    send, look = commands_on(screen)
    accepted = curl(send)[1]
    words = [word.replace("/ID", f"/{accepted['id']}") for word in look]
    eventually(lambda: curl(words)[1], lambda message: message["status"] == "DELIVERED")
    status = eventually(instance.status, lambda status: status["exit"] == 0)
    assert status["versions"]["nats"] == "yours"
    assert status["versions"]["valkey"] is None
    assert {process["name"] for process in status["processes"]} == {
        "simulator",
        "ledger",
        "api",
        "worker",
        "dlr",
    }


def test_after_a_week_off_the_days_are_there_before_a_service_starts(instance, postgres):
    """Only the ledger process makes them later, and it is none of these."""
    dsn = postgres.dsn(database=DATABASE)
    for _ in range(2):
        instance.up_detached("--servers-only")
        instance.down()
        assert run_apart(lambda: days_dropped(dsn)) == DAYS_AHEAD + 2


async def days_dropped(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch(
            "select inhrelid::regclass from pg_inherits where inhparent = 'tollwire.receipts'::regclass"
        )
        for (day,) in found:
            await connection.execute(f"drop table {day}")
    finally:
        await connection.close()
    return len(found)
