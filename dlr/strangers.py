"""Posts at the receipts' door that prove nothing: counted by where they come from (RULES 37).

The proof is looked at first, always: a carrier with its secret is let in whatever came from its address
before, be it a proxy's that others share. So this limit spares the log, and tells whoever tries that it is
noticed; against guesses at a secret only its length helps.
"""

import time
from typing import Final

from shared.runtime import addresses
from shared.runtime.gcra import MICROSECONDS, LocalLimiter, Quota

# A carrier whose secret was just changed sends for a while with the old one; a person sees why in the log.
FAILURES_PER_MINUTE: Final = 60
FAILURES_BURST: Final = 20
_FAILURES: Final = Quota(FAILURES_PER_MINUTE, FAILURES_BURST)


class Strangers:
    """Counts posts that were not authentic."""

    def __init__(self) -> None:
        self._limiter = LocalLimiter()

    def note(self, address: str) -> int:
        """Count one; return 0, or how many seconds its source is to wait, because they are too many."""
        subject = addresses.limit_subject(address)
        taken = self._limiter.take(subject, _FAILURES, time.monotonic() * MICROSECONDS)
        return -int(-taken.retry_us // MICROSECONDS)
