"""Becomes another program that ends when the process that started it ends.

Run as a script, ``python -I -S tether.py PARENT_PID SIGNAL UID GID PROGRAM ARGUMENT...``: drops to
the account UID:GID (``-`` keeps the present one), asks the kernel for SIGNAL at the parent's death
(Linux; elsewhere the next start finds what was left behind by its pid file), then turns into
PROGRAM, so the pid stays the same. A program instead of ``preexec_fn``, because Python code between
fork and exec is unsafe when there are threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CANNOT_EXECUTE = 126  # the shell's word for "found, but not executable"


def main(arguments: list[str]) -> None:
    """Never returns: turns into the program, or exits with 126 and a line on stderr."""
    parent, signal, uid, gid, *command = arguments
    # Loaded before the account changes: Python's own folder may be closed to that account.
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if libc is not None:
        # After setuid, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(0)  # the parent died before the kernel was asked
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted; the caller names the program
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main(sys.argv[1:])
