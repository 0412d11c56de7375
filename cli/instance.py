"""One running instance: starts everything in order, watches over it, and stops it in the reverse order."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from cli.home import Home, Phase, ProcessState, State
from cli.leftovers import stop_leftovers
from cli.observe import observer_of
from cli.port_choice import PortChoice
from cli.screen import Screen
from cli.servers import Servers, title_of
from cli.services import Launch, Service, plan, simulator_secret, url_of
from embedded.child import birth_of
from embedded.ports import LOOPBACK
from embedded.prometheus import PrometheusServer
from embedded.rotation import rotate
from embedded.supervisor import Kept, Notice, Supervisor
from embedded.unit import NotInstalled

LOOK_SECONDS = 5.0  # at what we keep: a log grows by less than a MB in that time


class Instance:
    """Everything that `tollwire up` runs. The caller holds the home's lock.

    Args:
        home: where everything of it lives.
        environ: the operator's settings.
        scale: how many of each service; empty: the servers alone.
        screen: where it tells what it does.
        is_observed: start a Prometheus too, if the machine has one.
    """

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        scale: Mapping[str, int],
        screen: Screen,
        *,
        is_observed: bool = False,
    ) -> None:
        self._home = home
        self._environ = environ
        self._scale = scale
        self._screen = screen
        self._is_observed = is_observed
        self._stop = asyncio.Event()
        self._signals = 0
        self._launches: dict[str, Launch] = {}
        self._supervisor = Supervisor(self._tell, self._save)
        self.state = State(
            supervisor_pid=os.getpid(),
            supervisor_birth=birth_of(os.getpid()),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    async def run(self, how_to_stop: str) -> None:
        """Start, tell that it runs, go on until a signal, stop.

        Raises:
            StartFailed, NotInstalled, FolderInUse, click.ClickException: it did not start; what was
                started is stopped again.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        self._save()  # from here on `down` knows whom to tell
        try:
            await self._unless_stopped(self._start())
            if not self._stop.is_set():
                self._set_phase("running")
                self._screen.show(self._home, self.state, how_to_stop)
                await self._watch()
        except BaseException as error:
            self.state.problem = str(error)
            self.state.exit_code = getattr(error, "exit_code", 1)
            await self._shut_down("failed")
            raise
        await self._shut_down("stopped")

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            self._supervisor.hurry()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _start(self) -> None:
        await stop_leftovers(self._home, self._screen.record)
        ports = PortChoice(remembered := self._home.read_ports(), self._environ)
        servers = Servers(self._home, ports, self._environ)
        if not self._scale:
            self._home.write_ports({**remembered, **ports.chosen})  # the services find theirs again
            await self._start_servers(servers)
            await self._migrate(servers)
            return
        self.state.api_url = url_of("api", ports, self._environ)
        launches = plan(self._home, ports, servers, self._scale, self._environ)
        self._launches = {launch.name: launch for launch in launches}
        observer = self._observer(ports, launches)
        self._home.write_ports(ports.chosen)
        await self._start_servers(servers)
        await self._migrate(servers)
        await self._make_demo(servers, url_of("simulator", ports, self._environ))
        await self._start_services(launches)
        if observer is not None:
            await self._observe(observer)

    async def _start_servers(self, servers: Servers) -> None:
        for unit in servers.units:
            with self._screen.step(f"Starting {unit.name}") as titles:
                await self._supervisor.start([unit])
                titles.append(title_of(unit))
        if not servers.has_valkey:
            self._screen.note("No Valkey here: limits are local, and PostgreSQL alone decides idempotency")
        self.state.versions = {"tollwire": version("tollwire"), **await servers.versions()}
        self._save()

    async def _migrate(self, servers: Servers) -> None:
        from cli.migrate import LATER_FUNCTIONS, functions_renewed, upgrade

        with self._screen.step("Migrations") as titles:
            await servers.make_database()
            # In a thread: Alembic runs an event loop of its own.
            renewed = await asyncio.to_thread(upgrade, servers.migrate_dsn)
            if renewed:
                titles.append(f"Migrations; {functions_renewed(renewed)}")
            await servers.set_passwords()
            await servers.make_days()
        if renewed is None:
            self._screen.warn(LATER_FUNCTIONS)

    async def _make_demo(self, servers: Servers, carrier_url: str) -> None:
        from cli.bootstrap import bootstrap
        from cli.own_keyring import own_keyring
        from simulator.service import read_rules

        keyring = await own_keyring(self._home.keyring, servers.dsn("api"), self._screen.warn)
        with self._screen.step("Client demo") as titles:
            made = await bootstrap(
                servers.dsn("api"),
                keyring,
                simulator_url=carrier_url,
                receipt_secret=simulator_secret(self._home),
                home=self._home,
                # What the simulator was told by TOLLWIRE_SIMULATOR_RULES, its carrier's row must know.
                recognises_repeated_ids=read_rules(
                    os.environ.get("TOLLWIRE_SIMULATOR_RULES", "")
                ).recognise_repeated_id,
            )
            titles.append(made.title)

    async def _start_services(self, launches: list[Launch]) -> None:
        counts = {name: count for name, count in self._scale.items() if count > 1}
        title = ", ".join(f"{name} x{counts[name]}" if name in counts else name for name in self._scale)
        with self._screen.step(title):
            await self._supervisor.start([Service(self._home, launch) for launch in launches])

    def _observer(self, ports: PortChoice, launches: list[Launch]) -> PrometheusServer | None:
        if not self._is_observed:
            return None
        try:
            return observer_of(self._home, ports, launches)
        except NotInstalled as error:
            self._screen.warn(f"Nothing is observed: {error}")
            return None

    async def _observe(self, observer: PrometheusServer) -> None:
        with self._screen.step("Prometheus"):
            await self._supervisor.start([observer])
        self.state.prometheus_url = observer.url

    async def _watch(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._stop.wait()
            for log in self._home.logs.glob("*.log"):
                with suppress(OSError):  # a full disk; next time there may be room
                    rotate(log)
            if self._home.read_state() is None:
                self._save()  # somebody damaged it, and `status` and `down` know us by it

    async def _shut_down(self, last: Phase) -> None:
        self._set_phase("stopping")
        if any(kept.unit.child.pid is not None for kept in self._supervisor.kept):
            with suppress(OSError):
                self._screen.tell(
                    "Stopping; what is in hand is finished first (Ctrl-C: at once)", is_bad=False
                )
        await self._supervisor.stop()
        self._set_phase(last)

    def _tell(self, notice: Notice) -> None:
        self._screen.tell(f"{notice.unit} {notice.text}", is_bad=notice.is_bad)

    def _set_phase(self, phase: Phase) -> None:
        self.state.phase = phase
        self._save()

    def _save(self) -> None:
        self.state.screen = self._screen.steps
        self.state.processes = [self._process(kept) for kept in self._supervisor.kept]
        # What is said about the processes decides nothing about them: a full disk must not.
        with suppress(OSError):
            self._home.write_state(self.state)

    def _process(self, kept: Kept) -> ProcessState:
        launch = self._launches.get(kept.unit.name)
        return ProcessState(
            name=kept.unit.name,
            pid=kept.unit.child.pid,
            port=getattr(kept.unit, "port", None) if launch is None else launch.port,
            health_port=None if launch is None else launch.health_port,
            health_address=LOOPBACK if launch is None else launch.health_address,
            restarts=kept.restarts,
            state=kept.state,
        )
