"""The three streams of a command, as whoever started it left them."""

import io
import os
import sys
from pathlib import Path

from cli.failures import Exit, Failure


def open_streams() -> None:
    """Make the streams usable: one that is closed has nobody at it, and what it cannot spell is escaped.

    Without an output nothing is begun: most exit codes are the short form of what would stand there.
    """
    # Python has None in place of a stream whose descriptor was closed (`<&-`).
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the whole run
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as stdin
    if sys.stdout is None:
        closed = Failure(
            "The output is closed: nothing was done.",
            hint="Let it go to a file, or to /dev/null if nobody reads it.",
            exit_code=Exit.USAGE,
        )
        closed.show(as_json=False)
        sys.exit(closed.exit_code)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
