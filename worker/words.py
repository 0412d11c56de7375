"""A carrier's answer in the journal's words."""

import random
from typing import Final

from shared.domain.retry import ATTEMPTS_MAX, backoff_seconds, patience_seconds
from worker.carriers.base import GIVEN_BACK, Refused, Throttled, Uncertain

# What the carrier asks for is believed from this, also where it says nothing, up to that: each wait ends with
# a claim, and a message's counters hold those of its whole life.
RETRY_AFTER_MIN_SECONDS: Final = 1.0
RETRY_AFTER_MAX_SECONDS: Final = 300.0
UNCERTAIN_AGAIN_SECONDS: Final = 2.0
# Twice its age leaves the backoff of a message that is refused each time as it is. At once: its first step.
REFUSED_AGAIN_AGES: Final = 2.0
REFUSED_AGAIN_MIN_SECONDS: Final = 2.0


def verdict(
    outcome: Refused | Throttled | Uncertain, tries: int, claims: int, age_seconds: float
) -> tuple[str, str, str | None, float]:
    """Return an answer's outcome, its error and detail, and in how many seconds to try again.

    ``tries`` counts the message's tries, ``claims`` its claims that used up none, both with this one.
    ``age_seconds``: since the message might first go. A refusal makes it wait for twice that at most: a lost
    answer that is asked for every two seconds is a try each time, and a first refusal after eight of them is
    not the ninth. What found no connection free had no try, and waits as if it had been throttled;
    what was given back may go at once.
    """
    jitter = random.random()  # noqa: S311 - spreads retries, keeps no secret
    match outcome:
        case Refused(code, detail, is_busy=True):
            word = "unclaimed" if outcome is GIVEN_BACK else "throttled"
            return word, code, detail, patience_seconds(claims, RETRY_AFTER_MIN_SECONDS) * (1 + jitter)
        case Refused(code, detail, permanent=True):
            return "refused_perm", code, detail, 0.0
        case Refused(code, detail):
            wait = backoff_seconds(min(tries, ATTEMPTS_MAX), jitter)
            longest = max(REFUSED_AGAIN_AGES * age_seconds, REFUSED_AGAIN_MIN_SECONDS)
            return "refused_temp", code, detail, min(wait, longest)
        case Throttled(retry_after_seconds):
            asked = min(max(retry_after_seconds or 0.0, RETRY_AFTER_MIN_SECONDS), RETRY_AFTER_MAX_SECONDS)
            wait = patience_seconds(claims, asked)
            return "throttled", "throttled", None, wait * (1 + jitter)
        case Uncertain(detail):
            return "uncertain", "outcome_unknown", detail, UNCERTAIN_AGAIN_SECONDS
