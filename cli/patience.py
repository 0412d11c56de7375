"""Waits for servers that are still on their way up: the jobs of an installation may come first."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from cli.failures import Exit, Failure

# Between two tries.
RETRY_SECONDS: Final = 2.0

T = TypeVar("T")


def patiently(
    work: Callable[[], T], wait_seconds: float, *, pause: Callable[[float], None] = time.sleep
) -> T:
    """Return what the work returns; while nothing answers, try again for so long.

    Raises:
        Failure: nothing answered in time, or the work failed in another way, at once.
    """
    give_up_at = time.monotonic() + wait_seconds
    while True:
        try:
            return work()
        except Failure as failure:
            if failure.exit_code is not Exit.UNREACHABLE or time.monotonic() >= give_up_at:
                raise
        pause(RETRY_SECONDS)
