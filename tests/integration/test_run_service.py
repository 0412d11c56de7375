"""A service as a real process with real signals: it stops gracefully, then firmly, then at once."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

WAIT_SECONDS = 60.0


class Service:
    """A running process and what it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    async def next_line(self) -> bool:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if line:
            self.lines.append(json.loads(line))
        return bool(line)

    async def logged(self, event: str) -> None:
        """Return when the event is in the log."""
        async with asyncio.timeout(WAIT_SECONDS):
            while event not in self.events:
                assert await self.next_line(), self.lines

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Return the exit status, with the whole log read."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.next_line():
                pass
            return await self.process.wait()


@asynccontextmanager
async def running(*arguments: str, **environ: str) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.stoppable_service",
        *arguments,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Service(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_loops_finish_and_then_closes(number: signal.Signals) -> None:
    async with running("steady") as service:
        await service.logged("working")
        service.send(number)
        assert await service.ended() == 0
    assert service.events == [
        "opening", "started", "working", "stopping", "finished", "closing", "closed", "stopped"
    ]  # fmt: skip
    assert {line["service"] for line in service.lines} == {"test"}
    assert service.lines[-1]["reason"] == number.name


async def test_a_service_without_loops_lives_until_the_signal() -> None:
    async with running("idle") as service:
        await service.logged("started")
        service.send(signal.SIGTERM)
        assert await service.ended() == 0


async def test_a_second_signal_cancels_what_has_not_finished() -> None:
    async with running("slow") as service:
        await service.logged("working")
        service.send(signal.SIGTERM)
        await service.logged("stopping")
        service.send(signal.SIGTERM)
        assert await service.ended() == 1
    assert service.events[3:] == [
        "stopping", "stopping firmly", "cleaned up", "closing", "cancelled", "stopped"
    ]  # fmt: skip


async def test_the_end_of_the_grace_cancels_what_has_not_finished() -> None:
    async with running("slow", "0.1") as service:
        await service.logged("working")
        service.send(signal.SIGTERM)
        assert await service.ended() == 1
    assert "cleaned up" in service.events
    assert service.lines[service.events.index("stopping firmly")]["reason"] == "0.1 s have passed"


@pytest.mark.parametrize("kind", ["stubborn", "undrained"])
async def test_what_ignores_even_that_is_left_behind(kind: str) -> None:
    async with running(kind, "0.1") as service:
        await service.logged("working")
        service.send(signal.SIGTERM)
        assert await service.ended() == 1
    assert "stopping firmly" in service.events


async def test_a_loop_that_fails_lets_its_siblings_finish_and_the_service_fails() -> None:
    async with running("failing") as service:
        assert await service.ended() == 1
    failure = service.lines[service.events.index("loop ended early")]
    assert failure["loop"] == "failing"
    assert "RuntimeError: the disk is full" in failure["exception"]
    assert service.events[-4:] == ["finished", "closing", "closed", "stopped"]
    assert service.lines[-1]["reason"] == "loop failing ended early"


async def test_a_loop_that_returns_before_the_stop_is_a_failure() -> None:
    async with running("ending") as service:
        assert await service.ended() == 1
    assert service.lines[-1]["reason"] == "loop ending ended early"


async def test_a_signal_while_it_opens_ends_it() -> None:
    async with running("unopened") as service:
        await service.logged("opening")
        service.send(signal.SIGTERM)
        assert await service.ended() == 0
    assert "started" not in service.events


async def test_a_service_that_cannot_open_fails_with_its_reason() -> None:
    async with running("broken") as service:
        assert await service.ended() == 1
    failure = service.lines[service.events.index("service failed")]
    assert "ConnectionRefusedError: no answer on port 5432" in failure["exception"]


async def test_wrong_settings_end_it_before_it_opens() -> None:
    async with running("steady", TOLLWIRE_LOG_LEVEL="loud", TOLLWIRE_HEALTH_PORT="-1") as service:
        assert await service.ended() == 2
    (line,) = service.lines
    assert line["event"] == "settings are wrong"
    assert [fault.split(":")[0] for fault in line["faults"]] == ["TOLLWIRE_LOG_LEVEL", "TOLLWIRE_HEALTH_PORT"]


async def test_a_crash_point_that_does_not_exist_ends_it_before_it_opens() -> None:
    async with running("steady", TOLLWIRE_CRASH_POINT="accept.some_day") as service:
        assert await service.ended() == 2
    assert "known are accept.before_commit" in service.lines[0]["faults"][0]
