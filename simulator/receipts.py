"""The simulated carrier's receipts: each is due at a time, and POSTed until the gateway says 200.

Receipts of one message keep their order: they all go through the same lane, and a lane repeats its POST
until it is taken before it makes the next.
"""

import asyncio
import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from zlib import crc32

import aiohttp
import msgspec

from shared.domain.receipt_auth import SIGNATURE_HEADER, sign_receipts
from shared.runtime.loops import Stop
from simulator.journal import Journal
from simulator.memory import Due
from simulator.wire import ReceiptPost

# Receipts that wait at once: ten minutes of a late gateway at 1,000/s, about 300 MB. Beyond: no submits.
WAITING_MAX = 500_000
# 150 of the longest receipts have under 64 KB, which is all that Tollwire reads of one POST.
RECEIPTS_PER_POST = 150
LANES = 4
POST_TIMEOUT_SECONDS = 10.0
RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 0.1, 5.0


@dataclass
class _Lane:
    heap: list[Due] = field(default_factory=list)
    in_hand: list[Due] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Receipts:
    """What is owed to the gateway at `url` ("": nobody wants receipts, they are dropped)."""

    def __init__(self, url: str, secret: str, journal: Journal, waiting_max: int = WAITING_MAX) -> None:
        self._url = url
        self._secret = secret
        self._journal = journal
        self._waiting_max = waiting_max
        self._lanes = [_Lane() for _ in range(LANES)]
        self._tasks: list[asyncio.Task[None]] = []
        self.sent = 0
        self.failed_posts = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def watch(self, stop: Stop) -> None:
        """Return at the stop; raise the error that ended a lane before it."""
        stopping = asyncio.create_task(stop.wait())
        try:
            ended, _ = await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in ended - {stopping}:
                task.result()
        finally:
            stopping.cancel()

    @property
    def waiting(self) -> int:
        """How many receipts are not taken yet."""
        return sum(len(lane.heap) + len(lane.in_hand) for lane in self._lanes)

    @property
    def is_full(self) -> bool:
        """True when no more can be owed; the carrier then takes no submits."""
        return self.waiting >= self._waiting_max

    def schedule(self, owed: Iterable[Due]) -> None:
        """Owe these receipts; each goes when it is due."""
        if not self._url:
            return
        for due in owed:
            lane = self._lanes[crc32(due.receipt.to.encode()) % LANES]
            heapq.heappush(lane.heap, due)
            lane.changed.set()

    async def send_first(self, owed: Sequence[Due]) -> None:
        """Send these before the reply to their submit; what is not taken at once is owed as usual."""
        left = list(owed) if self._url else []
        try:
            while left and await self._post(left[:RECEIPTS_PER_POST]):
                del left[:RECEIPTS_PER_POST]
        finally:  # a gateway that goes away meanwhile cancels this
            self.schedule(left)

    def forget(self) -> None:
        """Owe nothing any more."""
        for lane in self._lanes:
            lane.heap.clear()
            lane.in_hand.clear()

    async def _run(self, lane: _Lane) -> None:
        pause_seconds = RETRY_FIRST_SECONDS
        while True:
            await _until_due(lane)
            now = time.time()
            while lane.heap and lane.heap[0].due <= now and len(lane.in_hand) < RECEIPTS_PER_POST:
                lane.in_hand.append(heapq.heappop(lane.heap))
            if await self._post(list(lane.in_hand)):
                lane.in_hand.clear()
                pause_seconds = RETRY_FIRST_SECONDS
            else:
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 2, RETRY_MAX_SECONDS)

    async def _post(self, batch: list[Due]) -> bool:
        if not batch:  # a reset came in between
            return True
        body = msgspec.json.encode(ReceiptPost([due.receipt for due in batch]))
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE_HEADER] = sign_receipts(self._secret, body, int(time.time()))
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                is_taken = answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            is_taken = False
        if is_taken:
            self.sent += len(batch)
            self._journal.acked([due.n for due in batch])
        else:
            self.failed_posts += 1
        return is_taken


async def _until_due(lane: _Lane) -> None:
    """Return when something of the lane is due, or was not taken yet."""
    while not lane.in_hand:
        lane.changed.clear()
        wait_seconds = lane.heap[0].due - time.time() if lane.heap else None
        if wait_seconds is not None and wait_seconds <= 0:
            return
        try:
            async with asyncio.timeout(wait_seconds):
                await lane.changed.wait()
        except TimeoutError:
            return
