"""The services of an instance: what each runs, and what its environment says."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from cli.home import Home
from cli.port_choice import PortChoice
from cli.servers import Servers
from embedded.child import StopStep
from embedded.files import secret_in
from embedded.ports import LOOPBACK, is_listening, netloc, reached_at
from embedded.postgres import CONNECTIONS_MAX
from embedded.probe import is_ok
from embedded.unit import Unit
from shared.runtime.settings import PREFIX

# A service drains for 25 s at most and then cancels what is left (shared/runtime/loops.py).
DRAIN_SECONDS = 30.0
START_LIMIT_SECONDS = 60.0  # importing everything takes a second, ten on a machine that is busy
INSTANCES_MAX = 16
POOL_MAX, POOL_MIN = 25, 5
CONNECTIONS_SPARE = 20  # for the operator's psql, the migrations and what PostgreSQL keeps back

# In the order of their start; all but the simulator talk to PostgreSQL, each in its own role.
NAMES = ("simulator", "ledger", "api", "worker", "dlr")
ONE_ONLY = "simulator"
# The settings of the addresses that services listen on: those with a port, and every one's health port.
HOSTS = {"api": "TOLLWIRE_HOST", "dlr": "TOLLWIRE_RECEIPTS_HOST", "simulator": "TOLLWIRE_SIMULATOR_HOST"}
HEALTH_HOST = "TOLLWIRE_HEALTH_HOST"
PATHS = ("_FILE", "_FOLDER", "_RULES")  # the ends of the settings that name a file or a folder
READINESS = "/readyz"  # on every health port: 200 when the process can do its work


@dataclass(frozen=True, slots=True)
class Launch:
    """How one instance of a service is started."""

    name: str
    module: str
    environ: Mapping[str, str]
    port: int | None
    health_port: int
    address: str = LOOPBACK  # where this machine reaches the port
    health_address: str = LOOPBACK


class Service(Unit):
    """A service in a process of its own, ready when its health port says so."""

    stop_steps = (StopStep(signal.SIGTERM, DRAIN_SECONDS),)
    start_limit_seconds = START_LIMIT_SECONDS
    hurry_signal = signal.SIGKILL

    def __init__(self, home: Home, launch: Launch) -> None:
        super().__init__(launch.name, home.run / launch.name, home.log_of(launch.name))
        self.told = launch

    def prepare(self) -> None:
        """A service keeps nothing on disk."""

    def launch(self) -> None:
        """Start the process and return at once."""
        # -P: a folder named like a package of ours in the present directory is not what is meant.
        command = [sys.executable, "-P", "-m", self.told.module]
        environ = {**os.environ, **self.told.environ}
        self.child.launch(command, death_signal=signal.SIGTERM, environ=environ, folder=str(self.folder))

    def is_ready(self) -> bool:
        """True when it says that it can serve, and takes connections where it should."""
        is_open = self.told.port is None or is_listening(self.told.port, self.told.address)
        return is_open and is_ok(self.told.health_port, READINESS, self.told.health_address)


def parse_scale(text: str) -> dict[str, int]:
    """Read ``worker=2,api=2`` into how many of each; those not named run once.

    Raises:
        click.BadParameter: an unknown name, or a number that makes no sense.
    """
    scale = dict.fromkeys(NAMES, 1)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if name not in scale:
            raise click.BadParameter(f"{name!r} is no service; there are {', '.join(NAMES)}.")
        if not number.isdecimal() or not 1 <= int(number) <= INSTANCES_MAX:
            raise click.BadParameter(f"{part!r} must be {name}=N with N from 1 to {INSTANCES_MAX}.")
        if name == ONE_ONLY and int(number) != 1:
            raise click.BadParameter(f"{name} runs once: it keeps what it was sent in its memory.")
        scale[name] = int(number)
    return scale


def plan(
    home: Home, ports: PortChoice, servers: Servers, scale: Mapping[str, int], environ: Mapping[str, str]
) -> list[Launch]:
    """Return every process to start, with its environment.

    ``environ`` is the operator's: what it says about pools and callbacks stands.
    """
    talkers = sum(count for name, count in scale.items() if name != "simulator")
    share = min(POOL_MAX, (CONNECTIONS_MAX - CONNECTIONS_SPARE) // talkers)
    pool_max = environ.get("TOLLWIRE_POSTGRES_POOL_MAX") or str(share)
    pool_min = environ.get("TOLLWIRE_POSTGRES_POOL_MIN") or _pool_min(pool_max)
    paths = _absolute_paths(environ)
    launches = []
    for name in NAMES:
        for number in range(1, scale[name] + 1):
            instance = name if scale[name] == 1 else f"{name}-{number}"
            health_port = ports.port_of(f"{instance} health")
            own = {
                **paths,
                **servers.environ(name),
                **_own_environ(name, home, ports, {**environ, **paths}),
                "TOLLWIRE_HEALTH_PORT": str(health_port),
                "TOLLWIRE_KEYRING_FILE": str(home.keyring),
                "TOLLWIRE_POSTGRES_POOL_MAX": pool_max,
                "TOLLWIRE_POSTGRES_POOL_MIN": pool_min,
                "TOLLWIRE_REUSE_PORT": "true" if scale[name] > 1 else "false",
                # `tollwire listen` is on this machine. In production this stays off.
                "TOLLWIRE_CALLBACK_ALLOW_PRIVATE": environ.get("TOLLWIRE_CALLBACK_ALLOW_PRIVATE") or "true",
                "TOLLWIRE_CALLBACK_HTTPS_ONLY": os.environ.get("TOLLWIRE_CALLBACK_HTTPS_ONLY") or "false",
            }
            health_address = _address(HEALTH_HOST, environ)
            port, address = _port_of(name, ports), _address(HOSTS.get(name, ""), environ)
            launches.append(Launch(instance, name, own, port, health_port, address, health_address))
    return launches


def _absolute_paths(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's files and folders, as seen from the present one: a service runs in one of its own."""
    return {
        name: str(Path(value.strip()).absolute())
        for name, value in environ.items()
        if name.startswith(PREFIX) and name.endswith(PATHS) and value.strip()
    }


def _pool_min(pool_max: str) -> str:
    """As few as a small pool has; what is no number the service itself refuses."""
    return str(min(POOL_MIN, int(pool_max)) if pool_max.isdecimal() else POOL_MIN)


def _port_of(name: str, ports: PortChoice) -> int | None:
    return ports.port_of(name) if name in HOSTS else None


def url_of(name: str, ports: PortChoice, environ: Mapping[str, str]) -> str:
    """Where this machine reaches a service that has a port: ``http://127.0.0.1:8080``."""
    return f"http://{netloc(_address(HOSTS[name], environ), ports.port_of(name))}"


def _address(variable: str, environ: Mapping[str, str]) -> str:
    """Where this machine reaches what listens on the address that the setting names."""
    return reached_at(environ.get(variable) or LOOPBACK)


def simulator_secret(home: Home) -> str:
    """What the simulated carrier and its route share."""
    return secret_in(home.path / "simulator.secret")


def _own_environ(name: str, home: Home, ports: PortChoice, environ: Mapping[str, str]) -> dict[str, str]:
    match name:
        case "api":
            return {"TOLLWIRE_PORT": str(ports.port_of("api"))}
        case "ledger":
            folders = {"TOLLWIRE_ARCHIVE_FOLDER": "archive", "TOLLWIRE_SEALS_FOLDER": "seals"}
            return {name: environ.get(name) or str(home.path / folder) for name, folder in folders.items()}
        case "dlr":
            return {"TOLLWIRE_RECEIPTS_PORT": str(ports.port_of("dlr"))}
        case "simulator":
            return {
                "TOLLWIRE_SIMULATOR_PORT": str(ports.port_of("simulator")),
                "TOLLWIRE_SIMULATOR_RECEIPT_URL": f"{url_of('dlr', ports, environ)}/receipts/simulator",
                "TOLLWIRE_SIMULATOR_SECRET": simulator_secret(home),
                "TOLLWIRE_SIMULATOR_LOG": str(home.path / "simulator.jsonl"),
            }
        case _:
            return {}
