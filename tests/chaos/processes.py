"""Processes that are kept running until somebody strikes them, and what there is to strike them with."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded.child import StopStep
from embedded.probe import is_ok
from embedded.unit import Unit

# How often a process is looked at; a death is seen and mended within it.
LOOK_SECONDS = 0.05
# Between a death and the next start: an init system's pause.
RESTART_SECONDS = 0.2
READY_LIMIT_SECONDS = 90.0
DRAIN_SECONDS = 30.0
# What is started is the code that this file belongs to, wherever it was installed from.
REPOSITORY = Path(__file__).resolve().parents[2]


def environ_of_ours() -> dict[str, str]:
    """The environment without settings of anybody's own instance."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
    return inherited | {"PYTHONPATH": str(REPOSITORY)}


class Service(Unit):
    """A process of Tollwire, or of this harness, as a module of ours; ready when its health port says so."""

    stop_steps = (StopStep(signal.SIGTERM, DRAIN_SECONDS),)

    def __init__(
        self, name: str, module: str, folder: Path, environ: Mapping[str, str], health_port: int | None = None
    ) -> None:
        super().__init__(name, folder / "run" / name, folder / "logs" / f"{name}.log")
        self.module = module
        self.arguments: list[str] = []
        self.environ = dict(environ)
        # What the next start gets besides: a crash point, a wrong clock.
        self.extra: dict[str, str] = {}
        self.health_port = health_port

    def prepare(self) -> None:
        """It keeps nothing on disk."""
        self.child.log.parent.mkdir(exist_ok=True)

    def launch(self) -> None:
        """Start the process and return at once."""
        self.child.launch(
            [sys.executable, "-P", "-m", self.module, *self.arguments],
            death_signal=signal.SIGTERM,
            environ={**environ_of_ours(), **self.environ, **self.extra},
            folder=str(self.folder),
        )

    def is_ready(self) -> bool:
        """True when it says that it can serve."""
        return self.health_port is None or is_ok(self.health_port, "/readyz")


@dataclass(frozen=True, slots=True)
class Death:
    """A process ended, by which status, at which time."""

    at: float
    name: str
    exit_code: int


@dataclass
class Keeper:
    """Starts a unit, and again whenever it ended, unless it is held down."""

    unit: Unit
    deaths: list[Death] = field(default_factory=list)
    is_held: bool = False
    _task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The unit's name."""
        return self.unit.name

    async def start(self) -> None:
        """Start it and keep it from now on."""
        await self.unit.start_async()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self) -> None:
        """Stop it for good; twice is harmless."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.send(signal.SIGCONT)
        await self.unit.stop_async()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            code = self.unit.child.exit_code
            if code is None:
                continue
            self.deaths.append(Death(time.time(), self.name, code))
            await asyncio.sleep(RESTART_SECONDS)
            while self.is_held:  # noqa: ASYNC110 - whoever holds it lets go without a signal
                await asyncio.sleep(LOOK_SECONDS)
            self.unit.launch()

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self.unit.child.pid is not None:
            self.unit.child.send(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Send a signal to it and to every process below it."""
        if self.unit.child.pid is not None:
            for pid in [self.unit.child.pid, *children_of(self.unit.child.pid)]:
                _send(pid, number)

    async def ready(self, limit_seconds: float = READY_LIMIT_SECONDS) -> bool:
        """Wait until it runs and can serve; False when that took too long."""
        until = time.monotonic() + limit_seconds
        while time.monotonic() < until:
            if self.unit.child.pid is not None and await asyncio.to_thread(self.unit.is_ready):
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def gone(self) -> None:
        """Wait until no process of it is left; whoever waits has killed it."""
        while self.unit.child.exit_code is None:  # noqa: ASYNC110 - a child gives no event
            await asyncio.sleep(LOOK_SECONDS)

    async def ended(self, deaths_before: int, limit_seconds: float) -> Death | None:
        """Wait for its next death after so many; None when it lives on."""
        until = time.monotonic() + limit_seconds
        while len(self.deaths) <= deaths_before:
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(LOOK_SECONDS)
        return self.deaths[deaths_before]


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def children_of(pid: int) -> list[int]:
    """The pids of all processes below this one."""
    parents = dict(_parents())
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(entry.name), int(fields[1])
