"""A unit: one process with a folder, prepared, started, found ready, stopped. Servers and services are units.

Each step that waits is written once, as an iterator of pauses; ``start`` and ``stop`` sleep through
them, ``running`` awaits them. So the same unit serves a fixture and a coroutine.
"""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from embedded.child import POLL_SECONDS, Child, StopStep
from embedded.files import FolderLock, tail
from embedded.log_lines import readable

START_LIMIT_SECONDS = 300.0  # a PostgreSQL that recovers from a crash replays its journal first
RELAUNCH_PAUSE_SECONDS = 0.2
TAIL_LINES = 12  # of a log in an error: the reason is nearly always in them
FOLDER_MODE = 0o700


class StartFailed(Exception):  # noqa: N818 - named for what happened
    """A process did not start; the end of its log says why."""


class NotInstalled(Exception):  # noqa: N818 - named for what happened
    """The program is missing, too old, or cannot be run by this account."""


class Unit(ABC):
    """One process and its folder. Not thread-safe; one supervisor holds the folder at a time.

    Attributes:
        name: how it is called in logs and pid files.
        folder: where everything of it lives.
        child: its process.
        stop_steps: the signals that stop it, gentle ones first.
        relaunch_seconds: for how long a start that failed is tried again.
        start_limit_seconds: how long it may take to be ready.
        hurry_signal: what ends it when the operator will not wait for it to drain; None: nothing does.
    """

    stop_steps: Sequence[StopStep] = (StopStep(signal.SIGTERM, 10.0),)
    relaunch_seconds = 0.0
    start_limit_seconds = START_LIMIT_SECONDS
    hurry_signal: signal.Signals | None = None

    def __init__(self, name: str, folder: Path, log: Path | None = None) -> None:
        self.name = name
        self.folder = folder
        self.child = Child(name, folder, log or folder / f"{name}.log")
        self._lock = FolderLock(folder)

    @abstractmethod
    def prepare(self) -> None:
        """Make the folder's content (blocking, up to a second). Called with the folder locked."""

    @abstractmethod
    def launch(self) -> None:
        """Start the process and return at once."""

    @abstractmethod
    def is_ready(self) -> bool:
        """True when it answers; a quick look, never a wait."""

    def is_ending(self) -> bool:
        """True when somebody else told it to end and it waits, perhaps for ever; a quick look, as above."""
        return False

    def take_folder(self) -> None:
        """Make the folder and hold it.

        Raises:
            FolderInUse: another process runs this unit.
        """
        self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._lock.take()

    def starting(self) -> Iterator[float]:
        """Launch and wait until ready; yields pauses in seconds.

        Raises:
            StartFailed: it ended, or was not ready in time.
        """
        begun = time.monotonic()
        self.launch()
        while True:
            waited_seconds = time.monotonic() - begun
            if self.child.exit_code is not None:
                if waited_seconds >= self.relaunch_seconds:
                    raise StartFailed(self._why(f"ended with status {self.child.exit_code}"))
                yield RELAUNCH_PAUSE_SECONDS
                self.launch()
            elif self.is_ready():
                return
            elif waited_seconds >= self.start_limit_seconds:
                yield from self.child.stopping(self.stop_steps)
                raise StartFailed(self._why(f"was not ready after {self.start_limit_seconds:.0f} seconds"))
            yield POLL_SECONDS

    def _why(self, what: str) -> str:
        return (
            f"{self.name} {what}. The end of {self.child.log}:\n{readable(tail(self.child.log, TAIL_LINES))}"
        )

    def start(self) -> None:
        """Prepare, launch and wait until ready (blocking)."""
        self.take_folder()
        try:
            _sleep_through(self.child.stopping_leftover(self.stop_steps))
            self.prepare()
            _sleep_through(self.starting())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and let go of the folder (blocking). Stopping twice, or before a start, is harmless."""
        _sleep_through(self.child.stopping(self.stop_steps))
        self._lock.release()

    async def start_async(self) -> None:
        """``start`` without blocking the loop; launches from the loop's own thread (see Child)."""
        self.take_folder()
        try:
            await await_through(self.child.stopping_leftover(self.stop_steps))
            await asyncio.to_thread(self.prepare)
            await await_through(self.starting())
        except BaseException:
            await self.stop_async()
            raise

    async def stop_async(self) -> None:
        """``stop`` without blocking the loop."""
        await await_through(self.child.stopping(self.stop_steps))
        self._lock.release()


U = TypeVar("U", bound=Unit)


@asynccontextmanager
async def running(unit: U) -> AsyncIterator[U]:
    """Run the unit while the block lasts."""
    await unit.start_async()
    try:
        yield unit
    finally:
        await unit.stop_async()


def _sleep_through(pauses: Iterator[float]) -> None:
    for pause_seconds in pauses:
        time.sleep(pause_seconds)


async def await_through(pauses: Iterator[float]) -> None:
    """Go through the steps of ``starting`` or ``stopping``, giving the loop to others in the pauses."""
    for pause_seconds in pauses:
        await asyncio.sleep(pause_seconds)
