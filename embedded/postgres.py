"""An embedded PostgreSQL: initdb, a configuration for one machine, start, ready, stop.

The folder holds ``data`` (PostgreSQL's own), ``superuser.secret`` and the secrets of the roles
(0600), and the log unless it goes elsewhere. Orphans: on Linux the kernel stops the server
(SIGINT, a fast shutdown) when the process that started it dies; on other systems the next start
finds it by its pid file and stops it first.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from embedded.accounts import account_for, reachable_folder
from embedded.child import Identity, StopStep
from embedded.files import secret_in, write_private
from embedded.linked_data import claim
from embedded.ports import LOOPBACK, free_port
from embedded.postgres_programs import Programs, find_programs
from embedded.unit import NotInstalled, StartFailed, Unit, running

SUPERUSER = "postgres"
INITDB_SECONDS = 120.0  # half a second on a laptop, more on a network disk
CONNECTIONS_MAX = 200
# One machine that has other things to do as well; the services' pools (25 each at most) fit in it.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # TCP only: a socket's path must fit in 107 bytes
    "max_connections": str(CONNECTIONS_MAX),
    # A transaction of dlr was seen to hold 1,653 locks with 90 days kept. PostgreSQL's own 64 give 59,000
    # over all connections: some dozens that stand still side by side leave no room for another's.
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "random_page_cost": "1.1",  # the disk is an SSD
    "wal_compression": "pglz",  # the only one that every build has; whole-page images shrink by half
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "shared_preload_libraries": "pg_stat_statements",
    "password_encryption": "scram-sha-256",
    "jit": "off",  # statements here take a millisecond: compiling them costs more
    # Small tables that change all the time (outbox, leases) must not wait for a fifth of them to be dead.
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.05",
    # A day's tables are new and double within minutes: at a sample of 30,000 rows of each, ANALYZE alone took
    # 4 % of a CPU under load, in bursts of a second. No plan of ours hangs on so much.
    "default_statistics_target": "30",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_lock_waits": "on",
    # No DETAIL lines: they quote rows, and rows hold numbers and texts of people.
    "log_error_verbosity": "terse",
}
# A commit that was answered survives a power cut. `full_page_writes` is what makes a torn page repairable.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# For tests: a crash of the machine may take the cluster. A kill of the server must not: tests do that, so a
# commit is still handed to the kernel before it is answered.
FORGETFUL = DURABLE | {"fsync": "off", "full_page_writes": "off"}
CONFIG_HEAD = "# Written by Tollwire at every start. Put your own settings into own.conf beside it.\n"
CONFIG_MODE = 0o644  # no secret in it, and the account that runs PostgreSQL must read it


class PostgresServer(Unit):
    """PostgreSQL on 127.0.0.1.

    Args:
        folder: where its files live; may become a link when root runs it (see accounts).
        port: a free one is chosen when None.
        durable: False only for tests.
        programs_folder: what TOLLWIRE_POSTGRES_BIN says, if anything.
        log: its log, ``postgresql.log`` in the folder by default.

    Raises:
        NotItsData: the folder is a link to nothing, or to the data of another home.
    """

    # Fast shutdown writes a checkpoint; immediate shutdown skips it and recovers at the next start.
    stop_steps = (StopStep(signal.SIGINT, 30.0), StopStep(signal.SIGQUIT, 5.0))
    # After a kill of the postmaster alone its backends need a moment to notice; until then
    # "pre-existing shared memory block is still in use".
    relaunch_seconds = 5.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        programs_folder: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self._place = folder.absolute()
        super().__init__("postgresql", reachable_folder(self._place), log)
        self.port = port or free_port()
        self.data = self.folder / "data"
        self._config = self.folder / "postgresql.conf"
        self._durable = durable
        self._programs_folder = programs_folder
        self._identity: Identity | None = None
        self._programs: Programs | None = None

    @property
    def programs(self) -> Programs:
        """The programs that run it; known after ``prepare``."""
        if self._programs is None:
            raise NotInstalled("PostgreSQL was not prepared yet")
        return self._programs

    def dsn(self, *, user: str = SUPERUSER, database: str = "postgres") -> str:
        """Return a ``postgresql://`` URL with the role's password, which the first call for a role makes."""
        secret = quote(self.secret(user), safe="")
        return (
            f"postgresql://{quote(user, safe='')}:{secret}@{LOOPBACK}:{self.port}/{quote(database, safe='')}"
        )

    def secret(self, role: str) -> str:
        """Return the role's password, kept in a 0600 file; ``roles.set_passwords`` tells it to the server."""
        return secret_in(self.folder / ("superuser.secret" if role == SUPERUSER else f"{role}.secret"))

    def prepare(self) -> None:
        """Find the programs, make the cluster when it is missing, write its configuration.

        Raises:
            NotInstalled: no programs that this account can run, or too old ones.
            StartFailed: initdb failed, or the data folder is of another major version.
        """
        claim(self._place)
        self._identity = account_for(self.data)
        self._programs = find_programs(self._programs_folder, self._identity)
        if self.data.exists():
            self._check_major()
        else:
            self._initialise()
        self._write_config()

    def _check_major(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if int(made_by) != self.programs.major:
            raise StartFailed(
                f"{self.data} was made by PostgreSQL {made_by}, and {self.programs.folder} is "
                f"{self.programs.version}. Name the folder of PostgreSQL {made_by}'s programs in "
                "TOLLWIRE_POSTGRES_BIN, or dump with the old one and restore into a new TOLLWIRE_HOME"
            )

    def _initialise(self) -> None:
        # It gets its name when it is whole: an initdb that was broken off leaves no ruin.
        scratch = self.folder / "data.new"
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(mode=0o700)
        password = self.folder / "initdb.secret"
        write_private(password, self.secret(SUPERUSER))
        if self._identity is not None:
            os.chown(scratch, self._identity.uid, self._identity.gid)
            os.chown(password, self._identity.uid, self._identity.gid)
        command = [
            str(self.programs.folder / "initdb"), "--pgdata", str(scratch), "--username", SUPERUSER,
            "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-locale",
            "--data-checksums", *([] if self._durable else ["--no-sync"]),
        ]  # fmt: skip
        done = _run_as(self._identity, command)
        password.unlink()
        if done.returncode != 0:
            raise StartFailed(f"initdb failed: {done.stderr.strip()}{_account_hint(done.stderr)}")
        scratch.rename(self.data)

    def _write_config(self) -> None:
        settings = SETTINGS | {"port": str(self.port)} | (DURABLE if self._durable else FORGETFUL)
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        # Beside the data folder, which belongs to another account when root is running us.
        self._config.write_text(CONFIG_HEAD + "".join(lines) + "include_if_exists = 'own.conf'\n")
        self._config.chmod(CONFIG_MODE)

    def launch(self) -> None:
        """Start the postmaster and return at once."""
        postgres = str(self.programs.folder / "postgres")
        command = [postgres, "-D", str(self.data), "-c", f"config_file={self._config}"]
        self.child.launch(command, death_signal=signal.SIGINT, identity=self._identity)

    def is_ready(self) -> bool:
        """True when the postmaster says so."""
        return self._says() == "ready"

    def is_ending(self) -> bool:
        """True after a SIGTERM: it lets nobody in and waits until all pools have left (smart shutdown)."""
        return self._says() == "stopping"

    def _says(self) -> str:
        """What the postmaster's own pid file says of it, as for pg_ctl (line 1 pid, line 8 status)."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        return lines[7].strip() if len(lines) >= 8 and lines[0] == str(self.child.pid) else ""


def run_postgres(
    folder: Path, *, port: int | None = None, durable: bool = True, programs_folder: Path | None = None
) -> AbstractAsyncContextManager[PostgresServer]:
    """``async with run_postgres(folder) as server``: a PostgreSQL while the block lasts."""
    return running(PostgresServer(folder, port=port, durable=durable, programs_folder=programs_folder))


def _run_as(identity: Identity | None, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    account: dict[str, Any] = {}
    if identity is not None:
        account = {"user": identity.uid, "group": identity.gid, "extra_groups": []}
    return subprocess.run(  # noqa: S603 - the programs that were found
        command, cwd="/", capture_output=True, text=True, check=False, timeout=INITDB_SECONDS, **account
    )


def _account_hint(stderr: str) -> str:
    if "could not look up effective user ID" in stderr:
        return "\nThe account has no entry in /etc/passwd, which PostgreSQL needs: run as one that has."
    return ""
