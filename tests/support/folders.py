"""Where the servers of tests keep their files."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
# What they may come to: WAL up to its limit, and the databases of the tests that run at once. A container's
# folder in memory often holds 64 MB.
MEMORY_MIN_BYTES: Final = 8 * 2**30


def forgetful_folder(prefix: str) -> Path:
    """Make a folder for servers that forget on a power cut anyway; another account can pass through it.

    In memory where the system has a folder there: each test's database is a thousand files, and a disk takes
    half a second for them.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if _has_room() else None))
    folder.chmod(0o711)  # root's PostgreSQL runs as nobody
    return folder


def _has_room() -> bool:
    try:
        return shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES and os.access(MEMORY, os.W_OK)
    except OSError:
        return False
