"""Ports of this machine: which are free, and who holds one that is not."""

import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOOPBACK_V6 = "::1"
# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections, so that a port that is
# remembered for the next start is still free then.
CHOICE_FIRST, CHOICE_LAST = 20_000, 32_000
TRIES_MAX = 200
CONNECT_SECONDS = 0.5
LSOF_SECONDS = 5.0
# In the folder of temporary files. One byte a port: who has it locked means to listen there soon. The
# kernel lets go when that process ends.
RESERVATIONS = f"tollwire-ports-{os.getuid()}.lock"


class NoFreePort(Exception):  # noqa: N818 - named for what happened
    """No port was free in the whole range that is tried."""


def is_allowed(port: int, address: str = LOOPBACK) -> bool:
    """False when this account may not listen there at all: most systems keep ports to 1023 for root."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, port))
        except PermissionError:
            return False
        except OSError:  # in use
            pass
    return True


def is_free(port: int, address: str = LOOPBACK) -> bool:
    """True when nothing listens on the port and it can be taken now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A connection in TIME_WAIT is no hindrance: the servers set the same option.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    # BSD lets a second socket in beside one that listens on all addresses: ask the port itself.
    return not is_listening(port)


def is_listening(port: int, address: str = LOOPBACK) -> bool:
    """True when somebody takes connections at the port, on this machine unless the address is another's."""
    try:
        socket.create_connection((address, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def reached_at(address: str) -> str:
    """Return where this machine reaches what listens on the address: all addresses mean the loopback too."""
    try:
        found = ip_address(address)
    except ValueError:  # a name
        return address
    if not found.is_unspecified:
        return address
    return LOOPBACK if found.version == 4 else LOOPBACK_V6


def netloc(address: str, port: int) -> str:
    """``address:port`` as in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Reservations:
    """Ports that this process means to listen at, so that no other of this account chooses them meanwhile.

    Between the choice of a port and its server's ``bind`` lie seconds, in which a second instance that starts
    beside it would find it free.

    Args:
        path: the file whose bytes are locked, made when it is not there; by default the account's own.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        # Closing any descriptor of the file would drop all of this process's locks: there is only one.
        self._file: int | None = None
        self._mine: set[int] = set()

    def __contains__(self, port: int) -> bool:
        return port in self._mine

    def take(self, port: int) -> bool:
        """Reserve the port until this process ends; False when another has."""
        if port in self._mine:
            return True
        try:
            if self._file is None:
                # Looked up here and not at import: on a full disk no folder passes for one.
                path = self._path or Path(tempfile.gettempdir()) / RESERVATIONS
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except BlockingIOError:
            return False
        except OSError:  # no such folder, a full disk, or a file of somebody else: do without
            pass
        self._mine.add(port)
        return True


_reservations = Reservations()


def reserve(port: int) -> bool:
    """Keep the port for this process against others that choose one; False when another has it."""
    return _reservations.take(port)


def free_port(taken: Collection[int] = ()) -> int:
    """Return a free port that is not in ``taken``, and reserve it: it is given to no one a second time.

    Raises:
        NoFreePort: none was found.
    """
    for _ in range(TRIES_MAX):
        port = random.randint(CHOICE_FIRST, CHOICE_LAST)  # noqa: S311 - spreads ports, guards nothing
        if port not in taken and port not in _reservations and is_free(port) and reserve(port):
            return port
    raise NoFreePort(f"no free port between {CHOICE_FIRST} and {CHOICE_LAST}")


def holder_of(port: int) -> str | None:
    """Return who listens on the port, as ``python3 (pid 4711)``, or None when that cannot be seen."""
    return _holder_on_linux(port) if sys.platform == "linux" else _holder_by_lsof(port)


def _holder_on_linux(port: int) -> str | None:
    inodes = {
        inode for table in ("tcp", "tcp6") for inode in _listening_inodes(Path("/proc/net") / table, port)
    }
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        if links & set(_open_files(process)):
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
            return f"{name} (pid {process.name})"
    return None


def _listening_inodes(table: Path, port: int) -> list[str]:
    if not table.exists():
        return []
    rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    # proc_net_tcp: column 1 is address:port in hex, 3 the state (0A is LISTEN), 9 the inode.
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]


def _open_files(process: Path) -> Iterator[str]:
    # What cannot be read is another account's, or was closed just now (the listing's own handle is).
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(link.readlink())


def _holder_by_lsof(port: int) -> str | None:
    lsof = shutil.which("lsof")
    if lsof is None:
        return None
    found = subprocess.run(  # noqa: S603 - fixed program, a number as argument
        [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
        capture_output=True, text=True, check=False, timeout=LSOF_SECONDS,
    )  # fmt: skip
    fields = {line[0]: line[1:] for line in found.stdout.splitlines() if line}
    return f"{fields['c']} (pid {fields['p']})" if {"c", "p"} <= fields.keys() else None
