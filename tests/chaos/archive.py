"""A PostgreSQL that archives its WAL, its base backup, and the way back to a moment."""

import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from embedded.accounts import account_for
from embedded.postgres import PostgresServer
from embedded.postgres_programs import find_programs
from embedded.unit import StartFailed

BACKUP_SECONDS = 60.0
ARCHIVE = """
archive_mode = 'on'
archive_command = 'cp %p {wal}/%f'
"""
RESTORE = """
restore_command = 'cp {wal}/%f %p'
recovery_target_time = '{moment}'
recovery_target_action = 'promote'
"""


def keep_archive(folder: Path) -> None:
    """Before the first start: let a server in this folder archive its WAL beside its data."""
    wal = folder / "wal"
    wal.mkdir(parents=True)
    folder.chmod(0o711)
    identity = account_for(folder / "data")
    if identity is not None:
        os.chown(wal, identity.uid, identity.gid)
    _configure(folder, ARCHIVE.format(wal=wal))


def back_up(server: PostgresServer) -> None:
    """Take the base backup.

    Raises:
        StartFailed: pg_basebackup failed.
    """
    identity = account_for(server.data)
    base = server.folder / "base"
    base.mkdir(mode=0o700)
    account: dict[str, object] = {}
    if identity is not None:
        os.chown(base, identity.uid, identity.gid)
        account = {"user": identity.uid, "group": identity.gid, "extra_groups": []}
    program = find_programs(None, identity).folder / "pg_basebackup"
    done = subprocess.run(  # type: ignore[call-overload] # the account is given or not
        [program, "--dbname", server.dsn(), "--pgdata", base, "--checkpoint=fast"],
        cwd="/", capture_output=True, text=True, check=False, timeout=BACKUP_SECONDS, **account,
    )  # fmt: skip
    if done.returncode != 0:
        raise StartFailed(f"pg_basebackup: {done.stderr}")


def put_back(server: PostgresServer, moment: datetime) -> None:
    """Put the base backup in the place of the data; the next start goes on to the moment and stops there."""
    shutil.rmtree(server.data)
    # With the owner: root's PostgreSQL runs as nobody.
    subprocess.run(["cp", "-a", server.folder / "base", server.data], check=True, timeout=BACKUP_SECONDS)
    (server.data / "recovery.signal").touch()
    wal = server.folder / "wal"
    _configure(server.folder, ARCHIVE.format(wal=wal) + RESTORE.format(wal=wal, moment=moment.isoformat()))


def _configure(folder: Path, text: str) -> None:
    own = folder / "own.conf"
    own.write_text(text)
    own.chmod(0o644)  # the account that runs PostgreSQL must read it
