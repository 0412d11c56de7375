"""Places where a test may kill the process, as a power cut would (RULES 39).

``crash_point(name)`` does nothing, unless the process was started with ``TOLLWIRE_CRASH_POINT=name``.
Then the first pass through that place ends it by SIGKILL: no handler, no clean-up, no flush.
"""

import os
import signal
from typing import Final

VARIABLE: Final = "TOLLWIRE_CRASH_POINT"

CRASH_POINTS: Final = (
    "accept.before_commit",
    "accept.after_commit",
    "accept.after_publish",
    "claim.after_commit",
    "submit.before_write",
    "submit.after_write",
    "record.before_commit",
    "record.after_commit",
    "record.after_ack",
    "receipt.before_commit",
    "receipt.after_commit",
    "settle.before_commit",
    "settle.after_commit",
    "callback.before_post",
    "callback.after_post",
    "callback.after_record",
    "dispatch.after_lease",
    "dispatch.after_publish",
    "expire.after_commit",
)


class UnknownCrashPoint(Exception):  # noqa: N818 - named for what happened
    """``TOLLWIRE_CRASH_POINT`` names a place that does not exist."""


_armed = os.environ.get(VARIABLE, "")


def check() -> None:
    """Refuse to run for a crash point that no code has: the test would wait for ever.

    Raises:
        UnknownCrashPoint: the name is not in ``CRASH_POINTS``.
    """
    if _armed and _armed not in CRASH_POINTS:
        raise UnknownCrashPoint(f"{VARIABLE}={_armed}; known are {', '.join(CRASH_POINTS)}")


def crash_point(name: str) -> None:
    """Die here if the process was started for it."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
