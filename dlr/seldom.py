"""Log lines about what each POST of a carrier may bring: seldom, and with how often it was."""

import time
from collections import Counter
from typing import Final

import structlog

# A carrier whose every receipt has the same slip sends thousands a second; a person reads one line a minute.
PAUSE_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


class Seldom:
    """Warns of an event at a carrier at once, and then once a minute as long as it goes on."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._next_at: dict[tuple[str, str], float] = {}

    def warn(self, event: str, carrier: str, count: int = 1) -> None:
        """Note that it happened so many times; ``count`` of the line is all since the one before."""
        key, now = (event, carrier), time.monotonic()
        self._counts[key] += count
        if now >= self._next_at.get(key, now):
            self._next_at[key] = now + PAUSE_SECONDS
            _log.warning(event, carrier=carrier, count=self._counts.pop(key))
