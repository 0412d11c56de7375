"""A worker's lane in virtual time: its real loop, windows, paces and lines; the servers around it are models.

An hour of a slow carrier takes seconds here. What PostgreSQL, JetStream and carriers would do is modelled as
far as it decides who waits where: a claim and a record take their time, what is put off is dispatched anew
when it is due, a carrier answers by so many connections, or rests, or hangs.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID

from shared.events.bundles import Bundle, encode
from shared.runtime.consumers import ACK_PENDING_MAX
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop, every
from shared.storage.config import CarrierConfig
from worker.carriers.base import FREELY, Handover, Outcome, Submission, Submitted, Throttled
from worker.consume import consume
from worker.desk import Desk
from worker.desks import Desks
from worker.overhear import LOOK_SECONDS, Overhear
from worker.store import Claim, Whom
from worker.store import Outcome as Recording
from worker.submit import Submit

LANES = ("express", "normal", "bulk")
LANE: Final = "normal"
KEYRING = Keyring("k1", {"k1": bytes(32)})
MSISDN: Final = "+4915112345678"
CLOCKWORK_SECONDS = 0.25
DATABASE_SECONDS = 0.01
BUNDLE = 100


class VirtualSelector:
    """Waits for nothing: the clock moves to the next timer. Only for loops without sockets."""

    def __init__(self, now: list[float], selector: Any) -> None:
        self._now = now
        self._selector = selector

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits, and nobody will ever come")
        self._now[0] += max(timeout, 0.0)
        return self._selector.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose timers cost no time; ``time.monotonic`` is patched to read ``now`` too."""

    def __init__(self, now: list[float]) -> None:
        super().__init__()
        self._selector: Any = VirtualSelector(now, self._selector)


class ModelCarrier:
    """Takes as many at once as it has connections, each for its latency."""

    def __init__(self, connections: int, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self.taken = 0
        self.begun_at: list[float] = []
        self.rests_until = 0.0
        self.hangs_until = 0.0
        self.at_once_max = connections
        self._connections = asyncio.Semaphore(connections)

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        return await asyncio.gather(*[self._submit_one(one, handover) for one in submissions])

    def turn_away(self) -> None:
        """Who waits here waits for its turn."""

    async def _submit_one(self, submission: Submission, handover: Handover) -> Outcome:
        outcome = await self._submit()
        handover.answered([submission], [outcome])
        return outcome

    async def _submit(self) -> Outcome:
        async with self._connections:
            self.begun_at.append(time.monotonic())
            await asyncio.sleep(max(self.hangs_until - time.monotonic(), self.latency_seconds))
        if self.rests_until > time.monotonic():
            return Throttled(self.rests_until - time.monotonic())
        self.taken += 1
        return Submitted("r")


class ModelListener:
    """Hears the lane while it is told to."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self.is_wanted = False
        self.heard = 0

    async def keep(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted

    def give(self, payload: bytes) -> None:
        if self.is_wanted:
            self.heard += 1
            self._hear(payload)


class ModelServers:
    """The database, the clockwork and one lane's subject."""

    def __init__(self) -> None:
        self.dispatches: dict[UUID, int] = {}
        self.put_offs = 0
        self.rows: dict[int, CarrierConfig] = {}
        self.sent_after: dict[UUID, float] = {}
        self.database_seconds = DATABASE_SECONDS
        self._came_at: dict[UUID, float] = {}
        self._of: dict[UUID, int] = {}
        self._due: list[tuple[float, UUID]] = []
        self._stream: deque[bytes] = deque()
        self._unanswered = 0  # bundles that workers have
        self._numbers = itertools.count(1)
        self._listeners: list[ModelListener] = []

    def accept(self, carrier_id: int, number: int, *, bundle: int = BUNDLE) -> list[UUID]:
        """Messages of one carrier come into the lane, so many in a bundle."""
        ids = [UUID(int=next(self._numbers)) for _ in range(number)]
        for id_ in ids:
            self.dispatches[id_], self._of[id_], self._came_at[id_] = 1, carrier_id, time.monotonic()
        self._publish(carrier_id, ids, bundle)
        return ids

    @property
    def heard(self) -> int:
        """Bundles that were heard beside the lane."""
        return sum([listener.heard for listener in self._listeners])

    @property
    def is_listened_to(self) -> bool:
        """Whether what comes in now is heard beside the lane."""
        return all(listener.is_wanted for listener in self._listeners)

    @property
    def pending(self) -> int:
        """Bundles that nobody has asked for."""
        return len(self._stream)

    @property
    def waiting(self) -> int:
        """Messages that the clockwork will dispatch."""
        return len(self._due)

    async def until_sent(self, ids: Sequence[UUID]) -> None:
        """Return when the carriers have taken all of them."""
        while not self.sent_after.keys() >= set(ids):  # noqa: ASYNC110 - virtual seconds cost nothing
            await asyncio.sleep(1.0)

    def _publish(self, carrier_id: int, ids: Sequence[UUID], bundle: int = BUNDLE) -> None:
        for start in range(0, len(ids), bundle):
            work = [(id_.hex, self.dispatches[id_]) for id_ in ids[start : start + bundle]]
            payload = encode(Bundle(lane=LANE, carrier_id=carrier_id, work=work))
            self._stream.append(payload)
            for listener in self._listeners:
                listener.give(payload)

    async def clockwork(self) -> None:
        """Dispatch what is due, for ever."""
        while True:
            await asyncio.sleep(CLOCKWORK_SECONDS)
            due: dict[int, list[UUID]] = {}
            while self._due and self._due[0][0] <= time.monotonic():
                _, id_ = heapq.heappop(self._due)
                due.setdefault(self._of[id_], []).append(id_)
            for carrier_id, ids in due.items():
                self._publish(carrier_id, ids)

    # What the lane's loop asks of JetStream.
    def consumer(self, _stream: str, _name: str, _subject: str) -> "ModelServers":
        return self

    def listener(self, _subject: str, hear: Callable[[bytes], None]) -> ModelListener:
        self._listeners.append(ModelListener(hear))
        return self._listeners[-1]

    async def fetch(self, number: int, wait_seconds: float, *, stop: Stop) -> list[Any]:
        """Hand out what there is, while no more than ``ACK_PENDING_MAX`` is out with all workers."""
        if not self._stream or self._unanswered >= ACK_PENDING_MAX:
            await asyncio.sleep(min(wait_seconds, 0.1))
        room = ACK_PENDING_MAX - self._unanswered
        return [self._message() for _ in range(min(number, len(self._stream), room))]

    def _message(self) -> Any:
        self._unanswered += 1

        async def answer(*_: object) -> None:
            self._unanswered -= 1

        async def in_progress() -> None:
            """It stays out."""

        return SimpleNamespace(
            data=self._stream.popleft(), headers={}, ack=answer, nak=answer, in_progress=in_progress
        )

    # What a worker asks of its journal.
    async def claim(self, _: int, work: Sequence[tuple[str, int]], _deadline_seconds: int) -> list[Claim]:
        await asyncio.sleep(self.database_seconds)
        return [self._claim(UUID(id_), number) for id_, number in work]

    def _claim(self, id_: UUID, number: int) -> Claim:
        refusal = None if self.dispatches[id_] == number and id_ not in self.sent_after else "stale"
        text = KEYRING.seal(b"hi", id_.bytes)
        row = (refusal, 1, 1, MSISDN, "DE", "ACME", text, "GSM7", 1, LANE, 3_600.0, 1)
        return Claim(*row, "at_least_once", False, cast("Any", None), 1, "EUR", None)

    def tell_claimed(self, *_: object) -> None:
        """Nobody is told."""

    def carrier(self, id_: int) -> CarrierConfig | None:
        return self.rows.get(id_)

    async def numbers(self, _: CarrierConfig, work: Sequence[tuple[str, int]]) -> list[Whom]:
        await asyncio.sleep(self.database_seconds)
        return [Whom(MSISDN, is_test=False, is_bound=False, left_seconds=3_600.0)] * len(work)

    async def record(self, _: CarrierConfig, _claimed: object, outcomes: Sequence[Recording]) -> None:
        await asyncio.sleep(self.database_seconds)
        for outcome in outcomes:
            id_ = outcome.message_id
            if outcome.outcome == "submitted":
                self.sent_after[id_] = time.monotonic() - self._came_at[id_]
            else:
                self._again(id_, outcome.retry_seconds)

    async def put_off(self, work: Sequence[tuple[str, int]], seconds: Sequence[float]) -> int:
        """What was dispatched anew by now is left alone."""
        await asyncio.sleep(self.database_seconds)
        asked = [(UUID(id_), number, after) for (id_, number), after in zip(work, seconds, strict=True)]
        current = [(id_, after) for id_, number, after in asked if self.dispatches[id_] == number]
        for id_, after in current:
            self._again(id_, after)
        self.put_offs += len(current)
        return len(current)

    def _again(self, id_: UUID, seconds: float) -> None:
        self.dispatches[id_] += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, id_))


@asynccontextmanager
async def open_lane(
    servers: ModelServers, carriers: dict[int, ModelCarrier], *, workers: int = 1, **columns: Any
) -> AsyncIterator[dict[int, Desk]]:
    """Run a lane in so many workers with these carriers; each row's other ``columns`` are alike.

    Yields the first worker's desks.
    """
    servers.rows = {id_: CarrierConfig(**_row(id_) | columns) for id_ in carriers}
    opened = [_open_worker(servers, carriers) for _ in range(workers)]
    tasks = [task for _, tasks in opened for task in tasks]
    tasks.append(asyncio.create_task(servers.clockwork()))
    try:
        yield opened[0][0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _open_worker(
    servers: ModelServers, carriers: dict[int, ModelCarrier]
) -> tuple[dict[int, Desk], list[asyncio.Task[None]]]:
    desks = Desks(KEYRING, LANES)
    rows = {id_: Desk(servers.rows[id_], cast("Any", carrier), LANES) for id_, carrier in carriers.items()}
    desks._desks = {id_: (desk, AsyncExitStack()) for id_, desk in rows.items()}
    clock = SimpleNamespace(now_ms=lambda: 0)
    submit = Submit(desks, cast("Any", servers), KEYRING, cast("Any", clock))
    overhear = Overhear(cast("Any", servers), [LANE], submit.places)
    look = every(Stop(), interval_seconds=LOOK_SECONDS, run_once=overhear.look)
    work = consume(cast("Any", servers), LANE, submit, Stop())
    return rows, [asyncio.create_task(look), asyncio.create_task(work)]


def _row(id_: int) -> dict[str, Any]:
    return {
        "id": id_, "name": f"model-{id_}", "kind": "http", "settings": {}, "secret_sealed": None,
        "is_enabled": True, "is_simulator": False, "may_ask_again": False, "splits_parts": False,
        "rate_per_second": 0, "window_max": 1_000, "submit_deadline_seconds": 60,
        "receipt_wait_seconds": 3600,
    }  # fmt: skip
