"""Limits of clients, shared by all API processes through Valkey, or kept by this process alone without it.

A process takes slots of a busy client some at a time and hands them out by itself, so that most requests
ask nobody; a quiet client's requests ask one by one. Slots that were taken and not used go back. Valkey
decides nothing that lasts: when it is absent, slow or empty, limits are local to each process and
approximate (DESIGN 8). Idempotency is PostgreSQL's alone (docs/adr/0009).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, Self

import msgspec
import structlog
from prometheus_client import Counter

from shared.runtime.batcher import Batcher
from shared.runtime.gcra import MICROSECONDS, SUBJECTS_MAX, LocalLimiter, Quota, Taken
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
# A stock of slots covers so much of the client's own recent pace: at 3,000/s it asks 20 times a second.
STOCK_SECONDS: Final = 0.05
# And never more than this part of the burst, so that no process sits on what another one needs.
STOCK_BURST_SHARE: Final = 10

_log = structlog.get_logger(__name__)
_answers = Counter("tollwire_api_limit_answers_total", "Limits asked, by who answered", ["by"])
_by_valkey, _by_process = _answers.labels("valkey"), _answers.labels("process")

_pack = msgspec.msgpack.Encoder().encode


class _Ask(NamedTuple):
    subject: str
    interval_us: float
    burst: int
    wanted: int
    returned: int


class _Granted(NamedTuple):
    slots: int
    remaining: float
    reset_us: float
    retry_us: float


_unpack = msgspec.msgpack.Decoder(list[_Granted]).decode


class _Stock:
    """What this process holds of one subject's slots, until ``ends_at`` (monotonic seconds)."""

    __slots__ = ("ends_at", "granted", "is_asking", "quota", "slots", "used", "waiters", "waiting")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.slots = 0
        self.used = 0
        self.ends_at = 0.0
        self.granted = _Granted(0, 0, 0, 0)
        self.is_asking = False
        self.waiting = 0  # who asks, who waits for that, and who was woken and is not back yet
        self.waiters: list[asyncio.Future[None]] = []

    def take(self, now: float) -> Taken | None:
        """One slot, or the refusal that still stands; None: Valkey has to be asked."""
        if now >= self.ends_at:
            return None
        if self.slots > 0:
            self.slots -= 1
            self.used += 1
            reset_us = self.granted.reset_us - self.slots * self.quota.interval_us
            return Taken(True, int(self.granted.remaining) + self.slots, reset_us, 0)
        if self.granted.retry_us > 0:
            retry_us = (self.ends_at - now) * MICROSECONDS
            gone_us = self.granted.retry_us - retry_us
            return Taken(False, 0, self.granted.reset_us - gone_us, retry_us)
        return None

    def wanted(self, now: float) -> int:
        """As many as wait now, or as the pace needs: twice the last stock when it ran out before its time."""
        if now < self.ends_at:
            ahead = 2 * self.used
        else:
            ahead = self.used if now < self.ends_at + STOCK_SECONDS else 0
        return max(self.waiting, min(ahead, self.quota.burst // STOCK_BURST_SHARE), 1)

    def wake(self) -> None:
        """Let those go on who waited for what was asked; a shield around one future for all costs more."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def fill(self, granted: _Granted, now: float) -> None:
        """Begin a new stock with what was granted, or remember the refusal for as long as it stands."""
        self.granted = granted
        self.slots, self.used = granted.slots, 0
        self.ends_at = now + (granted.retry_us / MICROSECONDS if granted.retry_us > 0 else STOCK_SECONDS)


class Limits:
    """Takes slots of quotas and gives them back. An open async context."""

    def __init__(self, run_script: RunScript | None) -> None:
        self._run_script = run_script
        self._local = LocalLimiter()
        self._stocks: OrderedDict[str, _Stock] = OrderedDict()
        self._alone_until = 0.0
        self._stack = AsyncExitStack()
        self._batcher: Batcher[_Ask, _Granted] = Batcher(
            self._flush,
            name="limits",
            batch_max=BATCH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
        )

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._batcher)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def is_shared(self) -> bool | None:
        """Whether Valkey answers, so that all processes share a limit; None: there is none."""
        return None if self._run_script is None else time.monotonic() >= self._alone_until

    async def take(self, subject: str, quota: Quota) -> Taken:
        """Use up one request of the quota."""
        while self._run_script is not None and (now := time.monotonic()) >= self._alone_until:
            stock = self._stocks.get(subject)
            if stock is None or stock.quota is not quota:
                stock = self._stock(subject, quota)
            taken = stock.take(now)
            if taken is not None:
                return taken
            await self._refill(stock, subject)
        _by_process.inc()
        return self._local.take(subject, quota, time.monotonic() * MICROSECONDS)

    async def take_many(self, subject: str, quota: Quota, count: int) -> Taken:
        """Use up ``count`` of the quota, or nothing; more than its burst are never had."""
        granted = None
        if self._run_script is not None and time.monotonic() >= self._alone_until:
            granted = await self._ask(_Ask(f"tw:l:{subject}", quota.interval_us, quota.burst, count, 0))
        if granted is None:
            _by_process.inc()
            return self._local.take(subject, quota, time.monotonic() * MICROSECONDS, count)
        if granted.slots == count:
            return Taken(True, int(granted.remaining), granted.reset_us, 0)
        if granted.slots:
            await self._ask(_Ask(f"tw:l:{subject}", quota.interval_us, quota.burst, 0, granted.slots))
        retry_us = max(granted.retry_us, (count - granted.slots) * quota.interval_us)
        return Taken(False, 0, granted.reset_us, retry_us)

    async def give_back(self, subject: str, quota: Quota) -> None:
        """Return a slot that no accepted work used (RULES 13)."""
        self._local.give_back(subject, quota)
        if not self.is_shared:
            return
        stock = self._stock(subject, quota)
        if stock.granted.retry_us > 0:
            stock.ends_at = 0.0  # what was refused may be had again
        await self._ask(_Ask(f"tw:l:{subject}", quota.interval_us, quota.burst, 0, 1))

    def _stock(self, subject: str, quota: Quota) -> _Stock:
        stock = self._stocks.get(subject)
        if stock is None:
            stock = self._stocks[subject] = _Stock(quota)
            if len(self._stocks) > SUBJECTS_MAX:
                self._stocks.popitem(last=False)
        elif stock.quota != quota:
            stock.quota, stock.ends_at = quota, 0.0  # the contract has changed
        else:
            stock.quota = quota  # equal, and from now on the same one
        return stock

    async def _refill(self, stock: _Stock, subject: str) -> None:
        """Ask for more, or wait for whoever asks already."""
        stock.waiting += 1
        try:
            if stock.is_asking:
                waiter = asyncio.get_running_loop().create_future()
                stock.waiters.append(waiter)
                await waiter
                return
            stock.is_asking = True
            try:
                await self._ask_for(stock, subject)
            finally:
                stock.is_asking = False
                stock.wake()
        finally:
            stock.waiting -= 1

    async def _ask_for(self, stock: _Stock, subject: str) -> None:
        quota, wanted = stock.quota, stock.wanted(time.monotonic())
        unused, stock.slots = stock.slots, 0
        granted = await self._ask(_Ask(f"tw:l:{subject}", quota.interval_us, quota.burst, wanted, unused))
        if granted is not None:
            stock.fill(granted, time.monotonic())

    async def _ask(self, ask: _Ask) -> _Granted | None:
        try:
            granted = await self._batcher.submit(ask, deadline_seconds=DEADLINE_SECONDS)
        except (Busy, DeadlinePassed, _NoAnswer):
            self._alone_until = time.monotonic() + PAUSE_SECONDS
            return None
        _by_valkey.inc()
        return granted

    async def _flush(self, asks: Sequence[_Ask]) -> Sequence[_Granted | Exception]:
        if self._run_script is None:
            raise _NoAnswer
        try:
            return _unpack(await self._run_script(_pack(asks)))
        except Exception as error:
            _log.warning("valkey does not answer; limits are local", error=type(error).__name__)
            raise _NoAnswer from error


class _NoAnswer(Exception):  # noqa: N818 - named for what happened
    """Valkey did not answer; the process answers itself."""
