"""`tollwire events replay`: facts are made again from PostgreSQL and published (RULES 35).

Facts are told from memory, so some may be missing after a crash, and JetStream keeps them 7 days. A replay
tells the present state of each message that changed within a span. Readers count a fact once by
(message, status, attempt), so telling it again is harmless.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from shared.domain.ids import day_bounds, uuid7_time_ms
from shared.events.facts import BUNDLE_MAX, Fact, FactBundle, encode
from shared.runtime.jetstream import JetStream
from shared.runtime.postgres import Pool, call
from shared.storage.facts import fact_of

CALL_DEADLINE_SECONDS: Final = 20.0
# Messages looked at in a call, and facts in memory at most: about 3 MB.
CHUNK_ROWS: Final = 10_000
# A message's last change comes at most this long after its id: scheduled 30 days ahead, valid for 7,
# its receipt waited for 30, and another 7 in which it may come late.
LIFE: Final = timedelta(days=75)

Progress = Callable[[str, datetime], None]


@dataclass(slots=True)
class Replayed:
    """What a replay told."""

    messages: int = 0
    bundles: int = 0


DAYS: Final = """
    select to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    left join tollwire.day_inspections d
        on to_char(d.day, 'YYYYMMDD') = right(c.relname, 8)
       -- Nothing of a closed day changes any more, but by a receipt within 8 days of the last submit.
       and d.closed_at is not null  -- a day that is looked at in several turns has a row before that
       and greatest(d.closed_at, d.last_submit_at + interval '8 days') < $1
    where i.inhparent = 'tollwire.message_states'::regclass and d.day is null
    order by 1
"""
END: Final = "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.message_states', $1, $2, $3)"
CHANGED: Final = """
    select m.id, m.client_id, s.state::text, s.updated_at, m.region, m.lane::text, m.segments, m.price_micros,
           m.currency, s.carrier_id, s.attempt_no, s.error_code
    from tollwire.message_states s join tollwire.messages m on m.id = s.message_id
    where s.message_id > $1 and s.message_id <= $2 and m.id > $1 and m.id <= $2
      and s.updated_at >= $3 and s.updated_at < $4
    order by m.id
"""


async def replay(
    pool: Pool, jetstream: JetStream, since: datetime, until: datetime, progress: Progress
) -> Replayed:
    """Tell the present state of every message that changed in [since, until).

    Raises:
        PublishFailed: NATS did not take a bundle in time. What was told before stands; start again.
    """
    replayed = Replayed()
    for (day,) in await call(pool, DAYS, since, deadline_seconds=CALL_DEADLINE_SECONDS):
        if (since - LIFE).date() <= day <= until.date():
            await _replay_day(pool, jetstream, day, since, until, replayed, progress)
    return replayed


async def _replay_day(
    pool: Pool,
    jetstream: JetStream,
    day: date,
    since: datetime,
    until: datetime,
    replayed: Replayed,
    progress: Progress,
) -> None:
    low, high = day_bounds(day)
    after = UUID(int=low.int - 1)
    rows = CHUNK_ROWS
    while rows == CHUNK_ROWS:
        ((last, rows),) = await call(
            pool, END, after, high, CHUNK_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS
        )
        if last is None:
            return
        changed = await call(pool, CHANGED, after, last, since, until, deadline_seconds=CALL_DEADLINE_SECONDS)
        bundles = list(_bundles([fact_of(*row) for row in changed]))
        await asyncio.gather(*(_publish(jetstream, bundle) for bundle in bundles))
        replayed.messages += len(changed)
        replayed.bundles += len(bundles)
        after = last
        progress(f"{replayed.messages} facts told", datetime.fromtimestamp(uuid7_time_ms(last) / 1000, UTC))


def _bundles(facts: Sequence[Fact]) -> Iterator[FactBundle]:
    by_status: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_status[fact.status].append(fact)
    for group in by_status.values():
        for start in range(0, len(group), BUNDLE_MAX):
            yield FactBundle(facts=group[start : start + BUNDLE_MAX])


async def _publish(jetstream: JetStream, bundle: FactBundle) -> None:
    payload = encode(bundle)
    # The same facts within the stream's duplicate window are stored once.
    message_id = hashlib.sha256(payload).hexdigest()[:32]
    await jetstream.publish(f"sms.event.{bundle.facts[0].status.lower()}", payload, message_id=message_id)
