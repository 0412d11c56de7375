"""When to try again. Pure: the randomness is an argument, a float in [0, 1) (DESIGN 3 and 6)."""

ATTEMPTS_MAX = 10
# Full jitter spreads a burst that failed together over the whole span; less than a second would
# hammer a carrier that has just said no.
BACKOFF_SECONDS_MIN = 1.0
BACKOFF_SECONDS_MAX = 900.0

# So often a carrier may say "slower", or be found away, before it is asked less often: it costs a claim or a
# dispatch each.
PATIENT_ATTEMPTS = 5
# Then the wait doubles up to this. A message that is valid for three days is claimed some 4,000 times at
# most, far below what its counters hold.
PATIENCE_SECONDS_MAX = 60.0

# Delay before each POST of a callback, from the cause (the first) or the failure before it. The sum is
# 75 h 36 min: a weekend's outage and the Monday after it (Standard Webhooks 1.0.0 names 75 h 35 min).
CALLBACK_SCHEDULE_SECONDS = (0, 5, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
CALLBACK_ATTEMPTS_MAX = len(CALLBACK_SCHEDULE_SECONDS)
# Jitter only ever adds, so that the promised three days are never cut short.
CALLBACK_JITTER_SHARE = 0.2
# The longest step of the schedule: an endpoint may ask for a night's rest, not for a month.
CALLBACK_RETRY_AFTER_SECONDS_MAX = 86_400.0


def backoff_seconds(attempt: int, jitter: float) -> float:
    """Return how long to wait after failed attempt 1, 2, 3, …

    Between 1 s and min(15 min, 2 ** attempt s), evenly by ``jitter``. Whether there is another attempt at
    all (ATTEMPTS_MAX, ``valid_until``) is the caller's decision.

    Raises:
        ValueError: ``attempt`` is below 1 or ``jitter`` is not in [0, 1).
    """
    _check(attempt, 1, jitter)
    ceiling = min(BACKOFF_SECONDS_MAX, 2.0 ** min(attempt, ATTEMPTS_MAX))
    return BACKOFF_SECONDS_MIN + jitter * (ceiling - BACKOFF_SECONDS_MIN)


def patience_seconds(claims: int, first_seconds: float) -> float:
    """Return how long to wait after the claim 1, 2, 3, … that came to nothing and uses up no try.

    ``first_seconds`` at first, then twice as long each time, up to PATIENCE_SECONDS_MAX unless the first is
    longer.
    """
    doublings = min(max(claims - PATIENT_ATTEMPTS, 0), ATTEMPTS_MAX)
    return max(first_seconds, min(first_seconds * 2.0**doublings, PATIENCE_SECONDS_MAX))


def callback_delay_seconds(attempt: int, jitter: float, retry_after_seconds: float | None) -> float | None:
    """Return how long to wait before the next POST of a callback; None: given up.

    ``attempt`` counts the POSTs already made: 0 asks for the delay of the first, which is none. A
    ``Retry-After`` (in seconds, None if there was none) can only lengthen the wait, up to
    CALLBACK_RETRY_AFTER_SECONDS_MAX; it gives no further attempts.

    Raises:
        ValueError: ``attempt`` is negative or ``jitter`` is not in [0, 1).
    """
    _check(attempt, 0, jitter)
    if attempt >= CALLBACK_ATTEMPTS_MAX:
        return None
    delay_seconds = CALLBACK_SCHEDULE_SECONDS[attempt] * (1.0 + CALLBACK_JITTER_SHARE * jitter)
    if retry_after_seconds is not None and retry_after_seconds > delay_seconds:
        return min(float(retry_after_seconds), max(CALLBACK_RETRY_AFTER_SECONDS_MAX, delay_seconds))
    return delay_seconds


def _check(attempt: int, attempt_min: int, jitter: float) -> None:
    if attempt < attempt_min:
        raise ValueError(f"attempts count from {attempt_min}, not {attempt}")
    if not 0.0 <= jitter < 1.0:
        raise ValueError(f"jitter is a float in [0, 1), not {jitter}")
