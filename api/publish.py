"""Hands what was accepted to JetStream, in bundles, after the commit (DESIGN 2, RULES 15).

Nobody waits for it, so what several flushes accept within ``GATHER_SECONDS`` goes in one bundle, unless it is
for the express lane. What cannot be published is given back to the clockwork at once; what this process
forgets by dying is dispatched when its lease ends.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import structlog

from api import store, traces
from api.store import AcceptAnswer, AcceptItem
from shared.events.bundles import BUNDLE_MAX, Bundle, Lane, encode
from shared.events.facts import Fact
from shared.runtime import tracing
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.jetstream import JetStream, PublishFailed
from shared.runtime.postgres import Pool
from shared.storage.facts import FactPublisher

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

FIRST_DISPATCH: Final = 1
# While NATS is away there is nothing to lease: the clockwork dispatches as soon as it is back.
AWAY_LEASE_SECONDS: Final = 1
# Bundles in flight; beyond it what is accepted waits for the clockwork instead of filling our memory.
IN_FLIGHT_MAX: Final = 500
# At 1,200 messages a second a flush has two to seven, and a bundle of seven costs NATS and the worker what
# one of fifty does. The first after a quiet time waits for nothing.
GATHER_SECONDS: Final = 0.02

_log = structlog.get_logger(__name__)


class _Gathered(NamedTuple):
    """What goes in the next bundle, and the spans that accepted those of it that are traced."""

    work: list[tuple[str, int]]
    parents: "dict[str, SpanContext]"


class Publisher:
    """Publishes bundles of accepted messages in the background. An open async context."""

    def __init__(self, pool: Pool, jetstream: JetStream, facts: FactPublisher, clock: Clock) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._facts = facts
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathered = _none()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let what is on its way arrive or fail; both are bounded by the publish's own deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._send_gathered()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def can_publish(self) -> bool:
        """Whether a flush that starts now may count on being published from here."""
        return self._jetstream.connected and len(self._tasks) < IN_FLIGHT_MAX

    @property
    def incarnation(self) -> int:
        """The life of the stream that is published to; 0: not known."""
        return self._jetstream.stream_incarnation("SMS_SEND")

    def publish_later(
        self, items: Sequence[AcceptItem], answers: Sequence[AcceptAnswer], *, is_leased: bool
    ) -> None:
        """Publish what the flush accepted and what is due now, if the flush was leased to us for that."""
        crash_point("accept.after_commit")
        if tracing.is_on:
            traces.accepted(items, answers)
        facts: list[Fact] = []
        for item, answer in zip(items, answers, strict=True):
            if answer.outcome != "accepted":
                continue
            fact = _fact(item, answer)
            facts.append(fact)
            if answer.dispatch_now and is_leased:
                self._gather(item.lane, item.carrier_id, fact.message_id)
        self._facts.add_all(facts)
        if self._timer is None:
            self._send_in_turn()
        elif any(lane == "express" for lane, _ in self._gathered):
            self._send_gathered()

    def _gather(self, lane: Lane, carrier_id: int, message_id: str) -> None:
        gathered = self._gathered[lane, carrier_id]
        gathered.work.append((message_id, FIRST_DISPATCH))
        # Asked now: the request is answered before the bundle leaves, and its span forgotten.
        if tracing.is_on and (context := tracing.context_of(message_id)) is not None:
            gathered.parents[message_id] = context
        if len(gathered.work) == BUNDLE_MAX:
            del self._gathered[lane, carrier_id]
            self._start(lane, carrier_id, gathered)

    def _send_in_turn(self) -> None:
        """Send what has gathered, and again when ``GATHER_SECONDS`` have passed, until there is nothing."""
        self._timer = None
        if self._gathered:
            self._send_gathered()
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send_in_turn)

    def _send_gathered(self) -> None:
        leaving, self._gathered = self._gathered, _none()
        for (lane, carrier_id), gathered in leaving.items():
            self._start(lane, carrier_id, gathered)

    def _start(self, lane: Lane, carrier_id: int, gathered: _Gathered) -> None:
        bundle = Bundle(lane=lane, carrier_id=carrier_id, work=gathered.work)
        task = asyncio.create_task(self._publish(bundle, gathered.parents))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, bundle: Bundle, parents: "dict[str, SpanContext]") -> None:
        first_id, number = bundle.work[0]
        try:
            with traces.send(bundle, parents) as headers:
                await self._jetstream.publish(
                    f"sms.send.{bundle.lane}",
                    encode(bundle),
                    message_id=f"{first_id}.{number}",
                    headers=headers,
                )
            crash_point("accept.after_publish")
        except PublishFailed as error:
            _log.warning(
                "bundle not published, the clockwork will", messages=len(bundle.work), error=str(error)
            )
            await store.return_leases(self._pool, bundle.work)


def _none() -> defaultdict[tuple[Lane, int], _Gathered]:
    return defaultdict(lambda: _Gathered([], {}))


def _fact(item: AcceptItem, answer: AcceptAnswer) -> Fact:
    return Fact(
        message_id=item.message_id.hex,
        client_id=item.account_id,
        status=answer.state or "QUEUED",
        at=answer.created_at,
        region=item.region,
        lane=item.lane,
        segments=item.segments,
        amount_micros=item.amount_micros,
        currency=item.currency,
        carrier_id=item.carrier_id,
        attempt_no=0,
    )
