"""Small files that must never be half written, and folders that one process may hold at a time."""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

SECRET_BYTES = 24  # 192 bits: beyond guessing, and short enough for a line in a config file
STAYS = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)  # a mount point; a folder in one of another's
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
TAIL_BYTES = 16_384  # of a log, read for an error message: no more than a screen needs

LOOK_SECONDS = 0.3  # somebody who looks holds the lock for microseconds, more on a machine that is busy
LOOK_PAUSE_SECONDS = 0.01


class FolderInUse(Exception):  # noqa: N818 - named for what happened
    """Another process of this machine is using the folder."""


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; ``Path.exists`` says no, from Python 3.14 on, where it cannot look.

    Raises:
        OSError: nobody can say, as PermissionError where we may not look.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in NOT_THERE:
            return False
        raise
    return True


def place_and_inode(path: Path) -> list[str]:
    """What names a file or folder: one of the two stays when it is moved or put back; a copy has neither."""
    found = path.lstat()
    return [str(path), f"{found.st_dev} {found.st_ino}"]


def write_private(path: Path, text: str) -> None:
    """Write ``text`` so that nobody else can read it and a crash leaves the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def secret_in(path: Path) -> str:
    """Return the secret kept in ``path``; the first call makes it (letters, digits, ``-`` and ``_``)."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(SECRET_BYTES))
    return path.read_text(encoding="utf-8").strip()


def remove_tree(folder: Path, last: Sequence[str] = ()) -> bool:
    """Remove a folder with all that is in it, the entries named in ``last`` after the others, in that order.

    Where it is a link, both go. Where it may be emptied and not removed, as a mount point may, it stays; and
    where one in it stays, so do it and ``last``. Returns whether all is gone.
    """
    real = folder.resolve()
    entries = {entry.name: entry for entry in real.iterdir()}
    ends = [entries.pop(name) for name in last if name in entries]
    removed = [_is_removed(entry) for entry in entries.values()]
    if not all(removed):
        return False
    for entry in ends:
        _is_removed(entry)
    try:
        real.rmdir()
    except OSError as error:
        if error.errno not in STAYS:
            raise
        return False
    if folder.is_symlink():
        folder.unlink()
    return True


def _is_removed(entry: Path) -> bool:
    if not entry.is_dir() or entry.is_symlink():
        entry.unlink(missing_ok=True)
        return True
    try:
        shutil.rmtree(entry)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return remove_tree(entry)
    return True


def tail(path: Path, lines: int) -> str:
    """Return the last ``lines`` lines of a log, or an empty text when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


class FolderLock:
    """Holds a folder for this process. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock; taking it twice is harmless.

        Raises:
            FolderInUse: another process holds it, and not just for a look (``is_taken``).
        """
        if self._file is not None:
            return
        file = self.path.open("a", encoding="utf-8")
        until = time.monotonic() + LOOK_SECONDS
        while not _has_locked(file, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                file.close()
                raise FolderInUse(f"{self.path.parent} is in use by another process")
            time.sleep(LOOK_PAUSE_SECONDS)
        self._file = file

    def is_taken(self) -> bool:
        """True while some process holds the folder; any number of processes may look at once."""
        try:
            # To read: who looks, as root may, must leave no file that the folder's owner cannot open.
            with self.path.open(encoding="utf-8") as file:
                return not _has_locked(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go of the folder; releasing it twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _has_locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
