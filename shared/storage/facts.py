"""Facts for reporting: every change of a message's state, told on ``sms.event.<status>`` (RULES 35).

They are told from memory right after the commit, bundled. A process that dies may leave some untold, and
JetStream may lose some; nothing depends on them, and ``tollwire events replay --since`` tells them again
from PostgreSQL. A reader counts a fact once by (message_id, status, attempt_no).
"""

import asyncio
import uuid
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import structlog
from prometheus_client import Counter

from shared.events.facts import Fact, FactBundle, encode
from shared.runtime.jetstream import JetStream, PublishFailed
from shared.runtime.loops import Stop
from shared.runtime.postgres import Pool, call
from shared.runtime.ticks import until_tick

# Facts in one JetStream message: about 25 kB.
BUNDLE_MAX: Final = 100
# Facts that are bundled and published at once, about 2 ms of work: what an outage has gathered stops nobody.
PART_MAX: Final = 2_000
# How long facts gather: reports are minutes old anyway.
GATHER_SECONDS: Final = 0.2
# While there are none: a process that idles need not wake up five times a second to see so.
LOOK_SECONDS: Final = 1.0
# Facts in memory while NATS is away, about 50 MB; older ones are told by a replay.
WAITING_MAX: Final = 100_000
LOAD_DEADLINE_SECONDS: Final = 15.0

FACTS_DROPPED: Final = Counter(
    "tollwire_facts_dropped_total", "Facts that were not told; `tollwire events replay` tells them again"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Facts of one status. A repeat has the same id, so that JetStream stores it once."""

    facts: list[Fact]
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)


class FactPublisher:
    """Gathers facts and publishes them in bundles. ``run`` is its loop; leaving it tells the rest."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self._waiting: deque[Fact] = deque()
        # The part that is being published, or was not taken as far as is known.
        self._part: list[_Bundle] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.publish_waiting()

    def add(self, fact: Fact) -> None:
        """Tell a fact soon. Never waits and never fails: a fact is worth less than a message."""
        self.add_all((fact,))

    def add_all(self, facts: Sequence[Fact]) -> None:
        """Tell facts soon."""
        room = max(WAITING_MAX - len(self._waiting) - sum(len(bundle.facts) for bundle in self._part), 0)
        if len(facts) > room:
            FACTS_DROPPED.inc(len(facts) - room)
            facts = facts[:room]
        self._waiting.extend(facts)

    async def run(self, stop: Stop) -> None:
        """Publish what has gathered, until the stop."""
        had_facts = True
        while not await stop.wait(GATHER_SECONDS if had_facts else until_tick(LOOK_SECONDS)):
            had_facts = bool(self._waiting or self._part)
            await self.publish_waiting()

    async def publish_waiting(self) -> None:
        """Publish everything that has gathered, part by part; what NATS does not take stays."""
        while (self._part or self._waiting) and self._jetstream.connected:
            self._part = self._part or self._next_part()
            part = self._part
            are_taken = await asyncio.gather(*map(self._publish, part))
            self._part = [bundle for bundle, is_taken in zip(part, are_taken, strict=True) if not is_taken]
            if self._part:
                return

    def _next_part(self) -> list[_Bundle]:
        by_status: dict[str, list[Fact]] = defaultdict(list)
        for _ in range(min(len(self._waiting), PART_MAX)):
            fact = self._waiting.popleft()
            by_status[fact.status].append(fact)
        return [
            _Bundle(group[start : start + BUNDLE_MAX])
            for group in by_status.values()
            for start in range(0, len(group), BUNDLE_MAX)
        ]

    async def _publish(self, bundle: _Bundle) -> bool:
        facts = bundle.facts
        subject = f"sms.event.{facts[0].status.lower()}"
        try:
            await self._jetstream.publish(
                subject, encode(FactBundle(facts=facts)), message_id=bundle.message_id, headers={}
            )
        except PublishFailed as error:
            _log.warning("facts not published yet", facts=len(facts), error=str(error))
            return False
        return True


LOAD_FACTS = """
    select m.id, m.client_id, s.state::text, s.updated_at, m.region, m.lane::text, m.segments, m.price_micros,
           m.currency, s.carrier_id, s.attempt_no, s.error_code
    from unnest($1::uuid[]) x(id)
    join tollwire.messages m on m.id = x.id
    join tollwire.message_states s on s.message_id = x.id
"""


async def load_facts(pool: Pool, message_ids: Sequence[UUID]) -> list[Fact]:
    """Make the facts of the messages' present states."""
    rows = await call(pool, LOAD_FACTS, list(message_ids), deadline_seconds=LOAD_DEADLINE_SECONDS)
    return [fact_of(*row) for row in rows]


def fact_of(
    message_id: UUID,
    client_id: int,
    status: str,
    at: datetime,
    region: str,
    lane: str,
    segments: int,
    amount_micros: int,
    currency: str,
    carrier_id: int | None,
    attempt_no: int,
    error: str | None,
) -> Fact:
    """Return the fact of a row."""
    return Fact(
        message_id=message_id.hex,
        client_id=client_id,
        status=status,
        at=at,
        region=region,
        lane=lane,
        segments=segments,
        amount_micros=amount_micros,
        currency=currency,
        carrier_id=carrier_id,
        attempt_no=attempt_no,
        error=error,
    )
