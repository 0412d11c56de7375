"""Other ways to run the servers: a standby beside PostgreSQL, a small disk below it, three NATS servers."""

import os
import subprocess
from pathlib import Path

import asyncpg

from embedded.accounts import account_for
from embedded.files import write_private
from embedded.nats import NatsServer
from embedded.ports import LOOPBACK, free_port
from embedded.postgres import PostgresServer
from embedded.postgres_programs import find_programs
from embedded.unit import StartFailed

STANDBY = "standby"
BACKUP_SECONDS = 60.0
PROMOTE_SECONDS = 30
# What PostgreSQL says of itself on the eighth line of its pid file when it only reads.
READY_WORDS = {"ready", "standby"}
NODES = 3
# What servers tell each other of where they are leads nowhere: each reaches the others by its own ways only,
# or it would go around a partition.
CLUSTER = """
cluster {{
  name: chaos, listen: "{address}:{port}", advertise: "{address}:{nowhere}", routes: [{routes}]
}}
"""


class NotPossible(Exception):  # noqa: N818 - named for what happened
    """This account or machine cannot do what the plan needs."""


class StandbyServer(PostgresServer):
    """A streaming replica of another server, made by pg_basebackup at its first start."""

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        super().__init__(folder)
        self.name = STANDBY
        self._primary = primary

    def secret(self, role: str) -> str:
        """The primary's: roles and their passwords are replicated."""
        return self._primary.secret(role)

    def prepare(self) -> None:
        """Copy the primary when there is no copy yet.

        Raises:
            StartFailed: pg_basebackup failed.
        """
        if not self.data.exists():
            self._copy()
        super().prepare()

    def _copy(self) -> None:
        identity = account_for(self._primary.data)
        self.data.mkdir(mode=0o700)
        account: dict[str, object] = {}
        if identity is not None:
            os.chown(self.data, identity.uid, identity.gid)
            account = {"user": identity.uid, "group": identity.gid, "extra_groups": []}
        program = find_programs(None, identity).folder / "pg_basebackup"
        source = f"{self._primary.dsn()}?application_name={STANDBY}"
        command = [program, "--dbname", source, "--pgdata", self.data, "--write-recovery-conf"]
        done = subprocess.run(  # type: ignore[call-overload] # the account is given or not
            [*command, "--checkpoint=fast"],
            cwd="/", capture_output=True, text=True, check=False, timeout=BACKUP_SECONDS, **account,
        )  # fmt: skip
        if done.returncode != 0:
            raise StartFailed(f"pg_basebackup: {done.stderr}")

    def is_ready(self) -> bool:
        """True when the postmaster says that it serves, or only reads."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() in READY_WORDS

    async def promote(self) -> None:
        """Become the primary."""
        connection = await asyncpg.connect(self.dsn())
        try:
            await connection.execute("select pg_promote(true, $1)", PROMOTE_SECONDS)
        finally:
            await connection.close()


async def commit_with_standby(primary: PostgresServer) -> None:
    """From now on no commit of the primary is answered before the standby has it on disk."""
    own = primary.folder / "own.conf"
    own.write_text(f"synchronous_standby_names = '{STANDBY}'\n")
    own.chmod(0o644)  # the account that runs PostgreSQL must read it
    connection = await asyncpg.connect(primary.dsn())
    try:
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


def mount_small_disk(folder: Path, megabytes: int) -> None:
    """Put a file system of so many MB below a folder.

    Raises:
        NotPossible: only root may, and not everywhere.
    """
    folder.mkdir(mode=0o711)
    _mount("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", str(folder))


def unmount(folder: Path) -> None:
    """Take it away again."""
    _mount("umount", "--lazy", str(folder))


def _mount(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPossible(f"{command[0]}: {getattr(error, 'stderr', error)!r}") from None


class ClusterNode(NatsServer):
    """One of three NATS servers."""

    def __init__(self, folder: Path, number: int, token: str) -> None:
        super().__init__(folder)
        self.folder.mkdir(parents=True)
        write_private(self.folder / "token.secret", token)
        self.name = f"nats-{number}"
        self.route_port = free_port({self.port, self.monitor_port})
        self._nowhere = free_port({self.port, self.monitor_port, self.route_port})
        self.ways: list[int] = []

    def prepare(self) -> None:
        """Write the configuration, with the way to the others."""
        super().prepare()
        file = self.folder / "nats.conf"
        routes = ", ".join(f'"nats-route://{LOOPBACK}:{port}"' for port in self.ways)
        text = file.read_text().replace("server_name: tollwire", f"server_name: {self.name}")
        cluster = CLUSTER.format(address=LOOPBACK, port=self.route_port, nowhere=self._nowhere, routes=routes)
        write_private(file, text + cluster)


def cluster_nodes(folder: Path, token: str) -> list[ClusterNode]:
    """Three servers; who starts them tells each its ways to the others."""
    return [ClusterNode(folder / f"nats-{number}", number, token) for number in range(1, NODES + 1)]
