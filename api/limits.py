"""Limits and remembered answers: one round trip to Valkey for many requests, this process alone without it.

Valkey makes the limits of several processes one limit and lets a repeated request be answered without
PostgreSQL. It decides nothing that lasts: when it is absent, slow or empty, limits are local to each
process and approximate, and PostgreSQL's row decides about every idempotency key (DESIGN 8).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog
from prometheus_client import Counter

from api.gcra import MICROSECONDS, LocalLimiter, Quota, Taken
from shared.runtime.batcher import Batcher
from shared.runtime.waiters import Busy, DeadlinePassed

RunScript = Callable[[bytes], Awaitable[bytes]]
"""Runs ``LIMIT_SCRIPT`` with one argument and returns its answer; raises when Valkey gives none in time."""

# One script's turn blocks the server; 200 asks take about 0.3 ms.
BATCH_MAX: Final = 200
# Ten full batches. Beyond that Valkey is the bottleneck, and the local limit answers at once.
QUEUE_MAX: Final = 2_000
# While one script runs, the next one is already on its way.
FLUSHES_IN_FLIGHT: Final = 2
# A healthy round trip is below a millisecond; a request does not wait longer for an accelerator.
DEADLINE_SECONDS: Final = 0.05
# After a failure this process limits alone for so long before it asks again.
PAUSE_SECONDS: Final = 1.0
# Retries come within seconds. Older ones find PostgreSQL's row; at 1,200/s two minutes are 90 MB.
REMEMBERED_SECONDS: Final = 120
# A larger answer (a batch) is cheaper to rebuild than to keep.
REMEMBERED_CHARACTERS_MAX: Final = 2_000

_log = structlog.get_logger(__name__)
_answers = Counter("tollwire_api_limit_answers_total", "Limits asked, by who answered", ["by"])
_by_valkey, _by_process = _answers.labels("valkey"), _answers.labels("process")

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[bool, float, float, float, str | bool]]).decode

_Ask = tuple[str | float, ...]


class Limits:
    """Takes slots of quotas, gives them back, and remembers answers for a short while."""

    def __init__(self, run_script: RunScript | None) -> None:
        self._run_script = run_script
        self._local = LocalLimiter()
        self._alone_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()
        self._batcher: Batcher[_Ask, Taken] = Batcher(
            self._flush,
            name="limits",
            batch_max=BATCH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
        )

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._telling)
        await self._batcher.__aexit__(kind, error, trace)

    @property
    def is_shared(self) -> bool | None:
        """Whether Valkey answers, so that all processes share a limit; None: there is none."""
        return None if self._run_script is None else time.monotonic() >= self._alone_until

    async def take(self, subject: str, quota: Quota, remembered_key: str = "") -> Taken:
        """Use up one request of the quota, and look an earlier answer up in the same round trip."""
        if self._run_script is not None and time.monotonic() >= self._alone_until:
            ask = ("take", f"tw:l:{subject}", quota.interval_us, quota.burst, remembered_key)
            try:
                taken = await self._batcher.submit(ask, deadline_seconds=DEADLINE_SECONDS)
            except (Busy, DeadlinePassed, _NoAnswer):
                self._alone_until = time.monotonic() + PAUSE_SECONDS
            else:
                return taken
            _by_process.inc()
        return self._local.take(subject, quota, time.monotonic() * MICROSECONDS)

    async def give_back(self, subject: str, quota: Quota) -> None:
        """Return a slot that no accepted work used (RULES 13)."""
        self._local.give_back(subject, quota)
        await self._send(("give", f"tw:l:{subject}", quota.interval_us))

    def remember(self, remembered_key: str, answer: str) -> None:
        """Keep an answer for ``REMEMBERED_SECONDS``, for a request that comes again."""
        if self._run_script is None or len(answer) > REMEMBERED_CHARACTERS_MAX:
            return
        task = asyncio.create_task(self._send(("keep", remembered_key, answer, REMEMBERED_SECONDS)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _send(self, ask: _Ask) -> None:
        if not self.is_shared:
            return
        try:
            await self._batcher.submit(ask, deadline_seconds=DEADLINE_SECONDS)
        except (Busy, DeadlinePassed, _NoAnswer):
            self._alone_until = time.monotonic() + PAUSE_SECONDS

    async def _flush(self, asks: Sequence[_Ask]) -> Sequence[Taken | Exception]:
        if self._run_script is None:
            raise _NoAnswer
        try:
            answers = _unpack(await self._run_script(_pack(asks)))
            _by_valkey.inc(len(asks))
        except Exception as error:
            _log.warning("valkey does not answer; limits are local", error=type(error).__name__)
            raise _NoAnswer from error
        return [
            Taken(allowed, int(remaining), reset_us, retry_us, text if isinstance(text, str) else None)
            for allowed, remaining, reset_us, retry_us, text in answers
        ]


class _NoAnswer(Exception):  # noqa: N818 - named for what happened
    """Valkey did not answer; the process answers itself."""


def remembered_key(client_id: int, route: str, idempotency_key: str) -> str:
    """The name under which Valkey keeps an answer: one namespace a client, so nobody reads another's."""
    return f"tw:i:{client_id}:{route}:{idempotency_key}"
