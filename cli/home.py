"""TOLLWIRE_HOME: the one folder that holds everything of one instance, and what it says about itself."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click
import msgspec

from cli.ownership import refuse_for_root, told_whose
from embedded.accounts import remove_folder
from embedded.child import birth_of
from embedded.files import FolderInUse, FolderLock, is_there, remove_tree, write_private
from embedded.ports import LOOPBACK

DEFAULT_HOME = ".tollwire"
# Another account passes through to PostgreSQL's folder when root runs us; nobody lists what is here.
MODE_AS_ROOT, MODE = 0o711, 0o700
MARK = ".tollwire-home"  # tells our folder from one that we must not remove
MARK_TEXT = """\
Everything of one Tollwire instance: databases, secrets, logs. `tollwire down --clean` removes it.
postgresql/own.conf may hold settings of your own for PostgreSQL.
"""

StepKind = Literal["done", "note", "warning"]
Phase = Literal["starting", "running", "stopping", "stopped", "failed"]


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """One process, as the supervisor last saw it. Servers have no health port."""

    name: str
    pid: int | None
    port: int | None
    health_port: int | None
    restarts: int
    state: str
    health_address: str = LOOPBACK  # where the health port is reached; earlier versions did not say


class Step(msgspec.Struct, frozen=True):
    """A line of the start's screen: something done, worth knowing, or to be set right."""

    text: str
    kind: StepKind = "done"


class State(msgspec.Struct, kw_only=True):
    """What a running instance says about itself, in ``state.json``."""

    phase: Phase = "starting"
    supervisor_pid: int = 0
    supervisor_birth: str | None = None
    started_at: str = ""
    api_url: str = ""
    prometheus_url: str = ""
    exit_code: int = 0
    versions: dict[str, str | None] = {}
    # Not `steps`, which were texts: `down` must understand what an earlier version left running.
    screen: list[Step] = []
    problem: str = ""
    processes: list[ProcessState] = []

    @property
    def has_services(self) -> bool:
        """False when only the servers were started: then there is no API."""
        return bool(self.api_url)


class Home:
    """The folder of one instance.

    Args:
        path: absolute; made by ``make``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.run = path / "run"
        self.postgres = path / "postgresql"
        self.nats = path / "nats"
        self.valkey = path / "valkey"
        self.prometheus = path / "prometheus"
        self.demo_key = path / "demo.key"
        self.keyring = path / "keyring.json"
        self.lock = FolderLock(path)
        self.state_file = path / "state.json"
        self._ports = path / "ports.json"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Home":
        """The home that TOLLWIRE_HOME names, ``.tollwire`` in the present folder by default."""
        home = cls(Path(environ.get("TOLLWIRE_HOME") or DEFAULT_HOME).expanduser().absolute())
        if environ.get("TOLLWIRE_KEYRING_FILE"):
            home.keyring = Path(environ["TOLLWIRE_KEYRING_FILE"]).absolute()
        return home

    def make(self) -> None:
        """Make the folder when it is missing.

        Raises:
            NotOurs: it, or what is in it, belongs to another account.
            click.ClickException: it cannot be made, or holds things that are not Tollwire's.
        """
        with told_whose(self.path):
            try:
                self._make()
            except PermissionError:
                raise
            except (FileExistsError, NotADirectoryError):
                raise self._no_folder() from None
            except OSError as error:
                raise click.ClickException(f"{self.path} cannot be used: {error.strerror}") from None

    def _make(self) -> None:
        if self.is_made:
            refuse_for_root(self.path, self.path / MARK)
        elif self.path.is_dir() and self._holds_something():
            raise click.ClickException(
                f"{self.path} is not empty and not Tollwire's: name another folder in TOLLWIRE_HOME."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(MODE_AS_ROOT if os.geteuid() == 0 else MODE)
        for folder in (self.logs, self.run):
            folder.mkdir(mode=MODE, exist_ok=True)
        (self.path / MARK).write_text(MARK_TEXT)

    def hold(self) -> None:
        """Take the lock of the folder.

        Raises:
            FolderInUse: another process has it.
            NotOurs: it belongs to another account.
        """
        with told_whose(self.path):
            self.lock.take()

    def _holds_something(self) -> bool:
        """A lock alone was left by who looked whether anything runs here."""
        return any(entry != self.lock.path for entry in self.path.iterdir())

    def _no_folder(self) -> click.ClickException:
        """A file stands where the home, a folder in it or one above it has to be."""
        places = (self.logs, self.run, self.path, *self.path.parents)
        file = next((place for place in places if place.exists() and not place.is_dir()), self.path)
        return click.ClickException(f"{file} cannot be used: it is a file. Name a folder in TOLLWIRE_HOME.")

    @property
    def is_made(self) -> bool:
        """True when an instance was made in this folder."""
        with told_whose(self.path):
            return is_there(self.path / MARK)

    @property
    def is_running(self) -> bool:
        """True while a supervisor holds the folder. To look leaves nothing in a folder that is not ours."""
        with told_whose(self.path):
            return self.is_made and FolderLock(self.path).is_taken()

    def read_state(self) -> State | None:
        """What the last supervisor said; None when nothing ever ran here, or nothing readable."""
        try:
            with told_whose(self.path):
                return msgspec.json.decode(self.state_file.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    @property
    def has_state(self) -> bool:
        """True when a supervisor said something here, readable or not."""
        with told_whose(self.path):
            return is_there(self.state_file)

    def write_state(self, state: State) -> None:
        """Replace what is said, at once for every reader."""
        write_private(self.state_file, msgspec.json.encode(state).decode())

    def supervisor_pid(self) -> int | None:
        """The pid of the supervisor that runs now, if one does."""
        state = self.read_state()
        if state is None or state.supervisor_birth is None:
            return None
        return state.supervisor_pid if birth_of(state.supervisor_pid) == state.supervisor_birth else None

    def read_ports(self) -> dict[str, int]:
        """The ports that were used last time, by what uses them."""
        try:
            with told_whose(self.path):
                return msgspec.json.decode(self._ports.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def write_ports(self, ports: Mapping[str, int]) -> None:
        """Remember the ports for the next start."""
        write_private(self._ports, msgspec.json.encode(ports).decode())

    def log_of(self, name: str) -> Path:
        """The log of a process."""
        return self.logs / f"{name}.log"

    def remove(self) -> bool:
        """Remove the folder and all data, also what PostgreSQL keeps elsewhere (see embedded/accounts.py).

        Returns False where no such folder was.

        What is broken off can be done again: the mark goes last, but for the lock, by which nobody starts in
        it meanwhile. A mount point stays, with nothing in it, and then the mark does.

        Raises:
            click.ClickException: it is no folder of ours, a copy whose database is another's, something in it
                cannot be removed, or somebody has begun to use it.
        """
        if not is_there(self.path):
            return False
        if self.path.is_dir() and not self._holds_something():
            return True
        if not self.is_made:
            raise click.ClickException(f"{self.path} was not made by Tollwire: it is left alone.")
        try:
            with told_whose(self.path), self.lock:
                remove_folder(self.postgres)
                remove_tree(self.path, last=(MARK, self.lock.path.name))
        except FolderInUse as error:
            raise click.ClickException(f"{error}: start again with `tollwire down`.") from None
        except OSError as error:
            raise click.ClickException(
                f"{self.path} cannot be removed: {error.filename}: {error.strerror}"
            ) from None
        return True
