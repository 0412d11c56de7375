"""A server that somebody else tells to end, and that would wait for its clients, is ended and runs again."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from embedded.accounts import remove_folder
from embedded.child import StopStep
from embedded.postgres import PostgresServer
from embedded.supervisor import Notice, Supervisor, UnitState
from embedded.unit import Unit

PATIENCE_SECONDS = 40.0
SECONDS_TO_DRAIN = 1.5


class Drains(Unit):
    """A unit that goes on for a while when it is told to stop."""

    stop_steps = (StopStep(signal.SIGTERM, 30.0),)

    def __init__(self, name: str, folder: Path, seconds: float) -> None:
        super().__init__(name, folder / name)
        self._script = (
            "import pathlib, signal, sys, time\n"
            f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep({seconds}), sys.exit(0)))\n"
            "pathlib.Path('ready').touch()\n"
            "while True: signal.pause()"
        )

    def prepare(self) -> None:
        """Nothing to prepare."""

    def launch(self) -> None:
        self.child.launch(
            [sys.executable, "-c", self._script], death_signal=signal.SIGTERM, folder=str(self.folder)
        )

    def is_ready(self) -> bool:
        return (self.folder / "ready").exists()


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


async def test_a_postgres_that_was_told_to_end_together_with_us_serves_those_who_drain(
    told: Told, server: PostgresServer, tmp_path: Path
) -> None:
    """As where a login or a service of systemd ends: SIGTERM goes to every process of it at once."""
    await told.supervisor.start([server])
    drains = Drains("user", tmp_path, SECONDS_TO_DRAIN)
    await told.supervisor.start([drains])
    user = await asyncpg.connect(server.dsn())
    stopping = asyncio.create_task(told.supervisor.stop())
    await asyncio.sleep(0)
    os.kill(server.child.pid or 0, signal.SIGTERM)
    while drains.child.exit_code is None:
        assert await user.fetchval("select 7") == 7
        await asyncio.sleep(0.05)
    user.terminate()
    await stopping
    assert told.notices == []
