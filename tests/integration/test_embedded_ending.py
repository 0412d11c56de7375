"""A server that somebody else tells to end, and that would wait for its clients, is ended and runs again."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from embedded.accounts import remove_folder
from embedded.postgres import PostgresServer
from embedded.supervisor import Notice, Supervisor, UnitState

PATIENCE_SECONDS = 40.0


class Told:
    """What the supervisor said, the states that it went through, and a way to wait for one."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.states: list[UnitState] = []
        self.supervisor = Supervisor(self.notices.append, self._changed)
        self._event = asyncio.Event()

    def _changed(self) -> None:
        self.states += [kept.state for kept in self.supervisor.kept]
        self._event.set()

    async def until_restarted(self) -> None:
        (kept,) = self.supervisor.kept
        async with asyncio.timeout(PATIENCE_SECONDS):
            while kept.restarts == 0 or kept.state is not UnitState.RUNNING:
                self._event.clear()
                await self._event.wait()


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    await made.supervisor.stop()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="tollwire-test-"))
    folder.chmod(0o755)
    yield PostgresServer(folder / "pg", durable=False)
    remove_folder(folder)


async def test_a_postgres_that_got_a_sigterm_does_not_wait_for_its_pools(
    told: Told, server: PostgresServer
) -> None:
    await told.supervisor.start([server])
    user = await asyncpg.connect(server.dsn())
    await user.execute("create table kept as select 7 as x")
    try:
        os.kill(server.child.pid or 0, signal.SIGTERM)
        await told.until_restarted()
    finally:
        user.terminate()
    again = await asyncpg.connect(server.dsn())
    assert await again.fetchval("select x from kept") == 7
    await again.close()
    assert [notice.text.partition(",")[0].partition(";")[0] for notice in told.notices[:2]] == [
        "was told to end by somebody else",
        "ended with status 0",
    ]
    assert UnitState.RESTARTING in told.states


async def test_a_postgres_that_the_supervisor_stops_was_told_by_nobody_else(
    told: Told, server: PostgresServer
) -> None:
    await told.supervisor.start([server])
    user = await asyncpg.connect(server.dsn())
    await told.supervisor.stop()
    user.terminate()
    assert told.notices == []
