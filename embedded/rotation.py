"""Keeps logs of processes from filling the disk.

The processes write by themselves, with no pipe through us, so that their last words survive our own
death. A log that is too long is copied aside and cut to nothing in place; the processes append, so
they go on at its new start. What is written between the copy and the cut, some microseconds, is lost.
"""

import os
import shutil
from pathlib import Path

BYTES_MAX = 10 * 2**20
KEEP = 3  # old ones beside each log: .1 is the youngest


def rotate(log: Path, bytes_max: int = BYTES_MAX) -> bool:
    """Rotate the log when it is longer than ``bytes_max``; return whether it was.

    Raises:
        OSError: there is no room for the copy; everything is as it was.
    """
    if not log.exists() or log.stat().st_size <= bytes_max:
        return False
    copy = log.with_name(f"{log.name}.new")
    try:
        shutil.copyfile(log, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    for number in range(KEEP - 1, 0, -1):
        older = _numbered(log, number)
        if older.exists():
            older.replace(_numbered(log, number + 1))
    copy.replace(_numbered(log, 1))
    os.truncate(log, 0)
    return True


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
