"""Keeps units running: starts them, restarts those that die, stops them in the reverse order."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from embedded.unit import StartFailed, Unit, await_through

WATCH_SECONDS = 0.25  # between two looks at a child: a death is seen at once for a person
BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_MAX_SECONDS = 30.0
# One that ran this long did not die of its start: the next restart is quick again.
STEADY_SECONDS = 60.0


class UnitState(StrEnum):
    """Where a unit is, as ``tollwire status`` shows it."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(slots=True)
class Kept:
    """A unit under supervision."""

    unit: Unit
    state: UnitState = UnitState.STOPPED
    restarts: int = 0
    started_at: float = 0.0  # monotonic seconds
    task: asyncio.Task[None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that an operator wants to be told: ``text`` is a sentence without the unit's name."""

    unit: str
    text: str
    is_bad: bool


class Supervisor:
    """Units in groups: started group after group, stopped the other way round.

    On a full disk nobody may be told and no process may start; what runs is kept, and the rest tried again.

    Args:
        notice: is told about deaths and restarts.
        changed: is called whenever a state, a pid or a count changed.
    """

    def __init__(self, notice: Callable[[Notice], None], changed: Callable[[], None]) -> None:
        self._on_notice = notice
        self._on_change = changed
        self._groups: list[list[Kept]] = []
        self._is_stopping = False

    @property
    def kept(self) -> list[Kept]:
        """Every unit, in the order of its start."""
        return [kept for group in self._groups for kept in group]

    async def start(self, units: Sequence[Unit]) -> None:
        """Start the units side by side, and keep them running from now on.

        Raises:
            StartFailed: some unit did not start. Call ``stop`` then: others may be running.
            FolderInUse, NotInstalled, OSError: as the unit raised it.
        """
        group = [Kept(unit, UnitState.STARTING) for unit in units]
        self._groups.append(group)
        self._changed()
        outcomes = await asyncio.gather(*(self._start(kept) for kept in group), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _start(self, kept: Kept) -> None:
        try:
            await kept.unit.start_async()
        except BaseException:
            self._set(kept, UnitState.STOPPED)
            raise
        kept.started_at = time.monotonic()
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.unit.name}")
        self._set(kept, UnitState.RUNNING)

    async def _keep(self, kept: Kept) -> None:
        pause_seconds = BACKOFF_FIRST_SECONDS
        while True:
            while kept.unit.child.exit_code is None:
                await asyncio.sleep(WATCH_SECONDS)
                # While we stop, whoever told us may have told all: who drains still needs his servers.
                if kept.unit.is_ending() and not self._is_stopping:
                    await self._end(kept)
            if time.monotonic() - kept.started_at >= STEADY_SECONDS:
                pause_seconds = BACKOFF_FIRST_SECONDS
            self._tell_death(kept, pause_seconds)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, BACKOFF_MAX_SECONDS)
            await self._restart(kept)

    async def _end(self, kept: Kept) -> None:
        """End what would wait for its users, who cannot come back before it has ended."""
        self._tell(
            kept, "was told to end by somebody else, and waits for its clients; ending it", is_bad=True
        )
        self._set(kept, UnitState.RESTARTING)
        with suppress(OSError):  # its pid file, on a disk that fails
            await await_through(kept.unit.child.stopping(kept.unit.stop_steps))

    def _tell_death(self, kept: Kept, pause_seconds: float) -> None:
        how = describe_exit(kept.unit.child.exit_code or 0)
        text = f"{how}; starting it again in {pause_seconds:.1f} s (its log: {kept.unit.child.log.name})"
        self._tell(kept, text, is_bad=True)
        self._set(kept, UnitState.RESTARTING)

    async def _restart(self, kept: Kept) -> None:
        kept.restarts += 1
        kept.started_at = time.monotonic()
        try:
            await await_through(kept.unit.starting())
        except StartFailed:
            return  # its exit code tells the loop to go on
        except OSError as error:
            self._tell(kept, f"could not be started: {error.strerror or error}", is_bad=True)
            # It may run without its pid file; the next one must not find it.
            with suppress(OSError):
                await await_through(kept.unit.child.stopping(kept.unit.stop_steps))
            return
        waited_seconds = time.monotonic() - kept.started_at
        self._set(kept, UnitState.RUNNING)
        text = f"is running again after {waited_seconds:.1f} s (restart {kept.restarts})"
        self._tell(kept, text, is_bad=False)

    def _tell(self, kept: Kept, text: str, *, is_bad: bool) -> None:
        with suppress(OSError):
            self._on_notice(Notice(kept.unit.name, text, is_bad))

    def _changed(self) -> None:
        with suppress(OSError):
            self._on_change()

    def _set(self, kept: Kept, state: UnitState) -> None:
        kept.state = state
        self._changed()

    async def stop(self) -> None:
        """Stop every unit, the last group first; within a group side by side. Twice is harmless."""
        self._is_stopping = True
        while self._groups:
            group = self._groups[-1]
            await asyncio.gather(*(self._stop(kept) for kept in group))
            self._groups.pop()
        self._changed()

    async def _stop(self, kept: Kept) -> None:
        if kept.task is not None:
            kept.task.cancel()
            await asyncio.wait([kept.task])
        await kept.unit.stop_async()
        self._set(kept, UnitState.STOPPED)

    def hurry(self) -> None:
        """End the last group's units, those with a ``hurry_signal``, instead of letting them drain."""
        for kept in self._groups[-1] if self._groups else []:
            if kept.unit.hurry_signal is not None:
                kept.unit.child.send(kept.unit.hurry_signal)


def describe_exit(exit_code: int) -> str:
    """Say how a process ended: ``was killed by SIGKILL`` or ``ended with status 3``."""
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
