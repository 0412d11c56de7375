"""bcrypt, bounded: what one source may try, how many at once, and how slowly where somebody guesses.

Nobody is refused for what others did. A source has its own failures, and beyond them its own 429. A key id
that had too many wrong secrets from anywhere is asked of bcrypt in a slow line, one at a time: its owner
waits there too if the key has no seal yet (ADR 0015), while the guesses of all the world cost a tenth of a
core. The others keep the threads.

Guesses that come together count too: a verification takes its key id's failure in advance and gives it back
unless the key was wrong. A source takes none in advance, since behind a proxy's address all keys of a new
process are unknown at once; its failures are looked at again just before bcrypt.
"""

import asyncio
import time
from collections import Counter as Tally
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import bcrypt
from prometheus_client import Counter

from api.problems import Refusal
from shared.domain.api_keys import ApiKey
from shared.domain.problems import ProblemCode
from shared.runtime.gcra import MICROSECONDS, LocalLimiter, Quota

# bcrypt at cost 4 takes a millisecond, and without the GIL: each thread verifies about 1,000 keys a second.
VERIFY_THREADS: Final = 2
# One for each thread and its next: as many can go beyond a source's failures before these are counted.
VERIFY_AT_ONCE: Final = 2 * VERIFY_THREADS
# The last in the queue waits a quarter of a second; beyond that "busy" is the kinder answer.
VERIFY_QUEUE_MAX: Final = 500
# A person who mistypes stays below; 300 a minute cost 0.3 s of a core.
SOURCE_FAILURES: Final = Quota(requests_per_minute=300, burst=100)
# Beyond these, from wherever they come, a key id's verifications stand in the slow line.
KEY_FAILURES: Final = Quota(requests_per_minute=60, burst=20)
# After each wrong key in the slow line: a hundred a second, a millisecond of bcrypt each.
SLOW_PAUSE_SECONDS: Final = 0.01
# Many sources share the slow line: none may fill it for the others.
SLOW_OF_SOURCE_MAX: Final = 4

CHECKS: Final = Counter(
    "tollwire_api_key_checks_total", "API keys that were not known yet, by how it went", ["result"]
)
_limited = CHECKS.labels("limited")


class Verifier:
    """Asks bcrypt whether a secret is a key's own, and counts the wrong ones."""

    def __init__(
        self, *, queue_max: int = VERIFY_QUEUE_MAX, slow_pause_seconds: float = SLOW_PAUSE_SECONDS
    ) -> None:
        self._queue_max = queue_max
        self._slow_pause_seconds = slow_pause_seconds
        self._failures = LocalLimiter()
        # In the ordinary line (True) and in the slow one.
        self._waiting: Tally[bool] = Tally()
        self._turns = asyncio.Semaphore(VERIFY_AT_ONCE)
        self._slow_turn = asyncio.Lock()
        self._slow_of: Tally[str] = Tally()
        self._threads = ThreadPoolExecutor(VERIFY_THREADS, thread_name_prefix="bcrypt")

    def close(self) -> None:
        """Give the threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def refuse_limited(self, source: str) -> None:
        """Turn a source away that has had too many failures.

        Raises:
            Refusal: too_many_requests.
        """
        wait_us = self._failures.peek(_of(source), SOURCE_FAILURES, _now_us()).retry_us
        if wait_us:
            raise _too_many(-int(-wait_us // MICROSECONDS))

    def count_failure(self, source: str) -> None:
        """Count a wrong key to its source."""
        self._failures.take(_of(source), SOURCE_FAILURES, _now_us())

    async def is_right(self, key: ApiKey, secret_hash: bytes, source: str) -> bool:
        """Whether the hash is that of the key's secret.

        Raises:
            Refusal: too_many_requests (this source's failures), busy.
        """
        of_key = f"key:{key.key_id}"
        is_fast = self._failures.peek(of_key, KEY_FAILURES, _now_us()).is_allowed
        if self._waiting[is_fast] >= self._queue_max:
            raise Refusal(ProblemCode.BUSY)
        self._waiting[is_fast] += 1
        if is_fast:
            self._failures.take(of_key, KEY_FAILURES, _now_us())
        is_wrong = False
        try:
            line = self._ask if is_fast else self._ask_slowly
            is_wrong = not await line(key, secret_hash, source)
        finally:
            self._waiting[is_fast] -= 1
            if is_fast and not is_wrong:
                self._failures.give_back(of_key, KEY_FAILURES)
        return not is_wrong

    async def _ask_slowly(self, key: ApiKey, secret_hash: bytes, source: str) -> bool:
        if self._slow_of[source] >= SLOW_OF_SOURCE_MAX:
            raise _too_many(1)
        self._slow_of[source] += 1
        try:
            async with self._slow_turn:
                is_right = await self._ask(key, secret_hash, source)
                if not is_right:
                    await asyncio.sleep(self._slow_pause_seconds)
                return is_right
        finally:
            self._slow_of[source] -= 1
            if not self._slow_of[source]:
                del self._slow_of[source]

    async def _ask(self, key: ApiKey, secret_hash: bytes, source: str) -> bool:
        async with self._turns:
            self.refuse_limited(source)
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, bcrypt.checkpw, key.secret.encode(), secret_hash
            )


def _of(source: str) -> str:
    return f"address:{source}"


def _now_us() -> float:
    return time.monotonic() * MICROSECONDS


def _too_many(seconds: int) -> Refusal:
    _limited.inc()
    detail = f"Too many wrong API keys came from this address; the next try is possible in {seconds} s."
    return Refusal(ProblemCode.TOO_MANY_REQUESTS, detail=detail, retry_after_seconds=seconds)
