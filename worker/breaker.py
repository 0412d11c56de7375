"""A carrier's breaker: whether it answers, by what became of the messages that it was handed."""

import time
from typing import Final
from uuid import UUID

import structlog

from worker.carriers.base import Outcome, Refused, Uncertain

# So many refused connections or messages without an answer in a row are a carrier that is down; then one
# message at a time finds out whether it is back. A lost answer may end its message: they must not go out by
# the window.
FAILURES_TO_OPEN: Final = 5
OPEN_SECONDS: Final = 5.0
# The messages whose answer was lost last: one that loses it again says something of itself, not of the
# carrier. So one of these may probe, for the carrier may be back, and one of the others beside it.
LOST_MAX: Final = 1_000

_log = structlog.get_logger(__name__)


class Breaker:
    """Opens after so many losses in a row, and closes with the next answer."""

    def __init__(self, carrier: str) -> None:
        self._carrier = carrier
        self._failures = 0
        self._open_until = 0.0
        self._lost: dict[UUID, None] = {}

    def is_broken(self) -> bool:
        """Return True until an answer closes it."""
        return self._failures >= FAILURES_TO_OPEN

    def is_open(self) -> bool:
        """Return True while not even one message may probe."""
        return self.is_broken() and time.monotonic() < self._open_until

    def is_odd(self, message_id: UUID) -> bool:
        """Return True when this message's answer was lost here before: lost again it proves nothing."""
        return message_id in self._lost

    def learn(self, message_id: UUID, outcome: Outcome) -> None:
        """Learn from what became of a message."""
        if isinstance(outcome, Uncertain):
            if not self._is_lost_again(message_id):
                self._failed()
        elif isinstance(outcome, Refused) and outcome.is_ours:
            if not outcome.is_busy:
                self._failed()
        else:
            self.answered()

    def answered(self) -> None:
        """Note that the carrier answers."""
        if self.is_broken():
            _log.info("carrier is back", carrier=self._carrier)
        self._failures = 0

    def _failed(self) -> None:
        self._failures += 1
        if self.is_broken() and time.monotonic() >= self._open_until:
            self._open_until = time.monotonic() + OPEN_SECONDS
            _log.warning("carrier is down", carrier=self._carrier, open_seconds=OPEN_SECONDS)

    def _is_lost_again(self, message_id: UUID) -> bool:
        if message_id in self._lost:
            return True
        self._lost[message_id] = None
        if len(self._lost) > LOST_MAX:
            del self._lost[next(iter(self._lost))]
        return False
