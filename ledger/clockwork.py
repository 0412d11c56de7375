"""The clockwork: dispatches what is due, recovers what was dropped, ends what waited too long (DESIGN 2).

One turn looks at what is due and does each kind of work in a call of its own. Several ledger processes
may run: every function looks again under its locks, so two that meet do the work once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from ledger import clockwork_store as store
from ledger.apart import apart, parts
from ledger.clockwork_store import Dispatch, Moved
from ledger.days import make_days
from ledger.lease_walk import LeaseWalk
from ledger.stream_age import oldest_in_stream
from shared.domain.retry import ATTEMPTS_MAX
from shared.events.bundles import BUNDLE_MAX, Bundle, Lane, encode
from shared.events.traces import write_traces
from shared.runtime import tracing
from shared.runtime.crash_points import crash_point
from shared.runtime.jetstream import JetStream, JetStreamDown, PublishFailed
from shared.runtime.postgres import OutcomeUnknown, Pool
from shared.storage.facts import FactPublisher, load_facts
from shared.storage.finals import count_finals
from shared.storage.traces import load_traces

# Rows looked at in a turn: a second of the peak, and each function stays within its statement_timeout.
DUE_MAX: Final = 2_000
# Turns follow each other at once while there is more; this bounds how long one call of `turn` lasts.
TURNS_MAX: Final = 50
WALK_MAX: Final = 5_000
# Rows looked at for lost leases: a few seconds of the peak in some 20 ms; the next look goes on behind them.
LEASES_MAX: Final = 20_000
# Messages ended in one call: it holds their accounts, and accepts wait for these. With 5,000 in
# one call it took longer than the role's statement_timeout, again and again, and no hold ended any more.
END_MAX: Final = 500
WALKS_MAX: Final = 20
# How long the publishing of one call may take: a healthy server needs some ten milliseconds for it; without
# a quorum each bundle would take 15 s, and what has to expire or to start would wait. What was cut off may
# still arrive; its dispatch number is stale by then.
PUBLISHING_SECONDS: Final = 3.0
# After JetStream did not answer: expiry, recovery and scheduled starts have the turns for themselves.
REST_SECONDS: Final = 5.0
WALK_NAME: Final = "expire_holds"

DUE: Final = Counter(
    "tollwire_clockwork_total", "Outbox rows looked after, by the work they needed", ["work"]
)
UNWORKABLE: Final = Counter(
    "tollwire_unworkable_total", "Messages that a call failed on alone, each time that it was tried", ["work"]
)
for _label in ("expire", "start", "recover", "wait", "forget", "dispatch", "hold"):
    UNWORKABLE.labels(_label)  # there from the start: an increase is only seen from one value to another

# The works after which a message needs something else, or nothing.
_MOVES: Final = ("expire", "start", "recover")
_Work = Callable[[Sequence[UUID]], Awaitable[object]]

_log = structlog.get_logger(__name__)


class Clockwork:
    """The ledger process's loops over the outbox, the holds and the partitions."""

    def __init__(self, pool: Pool, jetstream: JetStream, facts: FactPublisher) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._facts = facts
        # What the last look found for each work that moves a message.
        self._seen: dict[str, frozenset[UUID]] = {}
        self._rests_until = 0.0
        self._lease_walk = LeaseWalk()

    async def turn(self) -> None:
        """Look after everything that is due."""
        for _ in range(TURNS_MAX):
            if await self._turn_once() < DUE_MAX:
                return

    async def _turn_once(self) -> int:
        due = await store.look_due(self._pool, DUE_MAX)
        for work, ids in due.items():
            DUE.labels(work).inc(len(ids))
        if not self._can_dispatch:
            # To the end of the line: while JetStream is away, others behind them must still be seen.
            due.setdefault("wait", []).extend(due.pop("dispatch", []))
        works: Mapping[str, _Work] = {
            "expire": self.expire,
            "start": self._start,
            "recover": self._recover,
            "wait": self._wait,
            "forget": self._forget,
            "dispatch": self._dispatch,
        }
        for name, look_after in works.items():
            await self._look_after(name, look_after, due.get(name, []))
        return sum(map(len, due.values()))

    async def _look_after(self, name: str, work: _Work, message_ids: Sequence[UUID]) -> None:
        """Work on each; what cannot be worked on is put off, so that it never stands before the others."""
        left = {id_ for part in parts(message_ids, END_MAX) for id_ in await apart(work, part)}
        # A call that did nothing and did not fail leaves its rows due, and the next look finds them again.
        left |= self._seen.get(name, frozenset()).intersection(message_ids)
        if name in _MOVES:
            self._seen[name] = frozenset(message_ids)
        if left:
            UNWORKABLE.labels(name).inc(len(left))
            _log.warning("messages put off", work=name, messages=len(left), first=str(min(left)))
            await store.put_off(self._pool, list(left))

    async def _wait(self, message_ids: Sequence[UUID]) -> None:
        await store.tidy_outbox(self._pool, message_ids, [])

    async def _forget(self, message_ids: Sequence[UUID]) -> None:
        await store.tidy_outbox(self._pool, [], message_ids)

    async def expire(self, message_ids: Sequence[UUID]) -> Sequence[Moved]:
        """End those of the messages that waited too long, or whose client is suspended; tell of them."""
        moved = await store.expire_due(self._pool, message_ids)
        await self._tell(moved)
        crash_point("expire.after_commit")
        return moved

    async def _start(self, message_ids: Sequence[UUID]) -> None:
        await self._tell(await store.start_scheduled(self._pool, message_ids))

    async def _recover(self, message_ids: Sequence[UUID]) -> None:
        await self._tell(await store.recover_claims(self._pool, message_ids, ATTEMPTS_MAX))
        _log.warning("took over claims that no worker holds any more", messages=len(message_ids))

    @property
    def _can_dispatch(self) -> bool:
        return (
            self._jetstream.connected
            and self._jetstream.stream_incarnation("SMS_SEND") != 0
            and time.monotonic() >= self._rests_until
        )

    async def end_lost_leases(self) -> None:
        """Make due what was leased to be published and is not in the stream: its publisher is gone.

        Beside those in their last minute a walk looks at the longer ones: see ``LeaseWalk``.
        """
        if not self._can_dispatch:
            return
        incarnation = self._jetstream.stream_incarnation("SMS_SEND")
        before = self._lease_walk.place(incarnation, time.monotonic())
        if not await store.has_leases(self._pool, are_long=before is not None):
            self._lease_walk.has_come_to(incarnation, None)
            return  # with an empty outbox NATS is left asleep
        try:
            oldest = await oldest_in_stream(self._pool, self._jetstream)
        except JetStreamDown as error:
            self._rest(error)
            return
        end = partial(store.end_lost_leases, self._pool, oldest, incarnation)
        ended, reached = await end(before, LEASES_MAX)
        self._lease_walk.has_come_to(incarnation, reached)
        if before is not None:  # what was leased just now is lost soon, and does not wait for the walk
            ended += (await end(None, LEASES_MAX))[0]
        if ended:
            DUE.labels("lost").inc(ended)
            _log.warning("leases ended of what is not in the stream", messages=ended)

    def _rest(self, error: Exception) -> None:
        """Publish nothing for a while, and go on with all other work."""
        self._rests_until = time.monotonic() + REST_SECONDS
        _log.warning("JetStream does not answer, dispatches wait", error=_text(error))

    async def _dispatch(self, message_ids: Sequence[UUID]) -> None:
        if not self._can_dispatch:  # not any more: an earlier part has met the trouble
            await self._wait(message_ids)
            return
        incarnation = self._jetstream.stream_incarnation("SMS_SEND")
        try:
            oldest = await oldest_in_stream(self._pool, self._jetstream)
        except JetStreamDown as error:
            self._rest(error)
            await self._wait(message_ids)
            return
        leased = await store.dispatch_due(self._pool, message_ids, oldest, incarnation)
        crash_point("dispatch.after_lease")
        groups: dict[tuple[Lane, int], list[Dispatch]] = {}
        for dispatch in leased:
            groups.setdefault((dispatch.lane, dispatch.carrier_id), []).append(dispatch)
        await self._publish_all(
            [
                group[start : start + BUNDLE_MAX]
                for group in groups.values()
                for start in range(0, len(group), BUNDLE_MAX)
            ]
        )

    async def _publish_all(self, bundles: Sequence[Sequence[Dispatch]]) -> None:
        """Publish bundles of one lane and carrier each; those that do not get through are due again soon."""
        errors = await asyncio.gather(*map(self._try_to_publish, bundles))
        failures = [error for error in errors if error is not None]
        if not failures:
            return
        _log.warning(
            "bundles not published", bundles=len(failures), of=len(bundles), error=_text(failures[0])
        )
        if len(failures) == len(bundles):
            self._rest(failures[0])
        left = [
            dispatch
            for bundle, error in zip(bundles, errors, strict=True)
            if error is not None
            for dispatch in bundle
        ]
        await store.return_leases(self._pool, left)
        await self._wait([dispatch.message_id for dispatch in left])

    async def _try_to_publish(self, bundle: Sequence[Dispatch]) -> Exception | None:
        """Publish a bundle, or return why not; one that cannot be published holds up no other."""
        try:
            async with asyncio.timeout(PUBLISHING_SECONDS):
                await self._publish(bundle)
        except (PublishFailed, TimeoutError) as error:
            return error
        return None

    async def _publish(self, group: Sequence[Dispatch]) -> None:
        lane, carrier_id = group[0].lane, group[0].carrier_id
        work = [(dispatch.message_id.hex, dispatch.dispatch_no) for dispatch in group]
        first_id, number = work[0]
        bundle = Bundle(lane=lane, carrier_id=carrier_id, work=work)
        headers = await self._headers(work) if tracing.is_on else {}
        await self._jetstream.publish(
            f"sms.send.{lane}", encode(bundle), message_id=f"{first_id}.{number}", headers=headers
        )
        crash_point("dispatch.after_publish")

    async def _headers(self, work: Sequence[tuple[str, int]]) -> dict[str, str]:
        """What is tried again, or was scheduled, goes on in the trace that it was accepted in."""
        try:
            traced = await load_traces(self._pool, [id_ for id_, _ in work])
        except OutcomeUnknown:
            return {}
        return write_traces(list(traced.values()))

    async def expire_holds(self) -> None:
        """Walk the holds that a receipt can no longer be expected for, and those that are watched."""
        for _ in range(WALKS_MAX):
            position = await store.read_watermark(self._pool, WALK_NAME)
            last, seen, held = await store.walk_holds(
                self._pool, UUID(position) if position else store.FIRST_ID, WALK_MAX
            )
            for part in parts(held, END_MAX):
                await self._end_each(part)
            if seen:
                # The walk starts at the last id again, which is harmless: it is settled or watched by now.
                await store.write_watermark(self._pool, WALK_NAME, str(last))
            if seen < WALK_MAX:
                break
        while watched := await store.watched_holds(self._pool, END_MAX):
            await self._end_each(watched)
            if len(watched) < END_MAX:
                return

    async def _end_each(self, message_ids: Sequence[UUID]) -> None:
        """End the holds; those that no call can end are watched from now on, before the walk passes them."""
        if left := await apart(self._end_holds, message_ids):
            UNWORKABLE.labels("hold").inc(len(left))
            await store.watch_later(self._pool, left)

    async def _end_holds(self, message_ids: Sequence[UUID]) -> None:
        await self._tell(await store.expire_holds(self._pool, message_ids))

    async def make_partitions(self) -> None:
        """Keep the partitions of the next days made."""
        if made := await make_days(self._pool):
            _log.info("partitions made", partitions=made)

    async def _tell(self, moved: Sequence[Moved]) -> None:
        if moved:
            facts = await load_facts(self._pool, [move.message_id for move in moved])
            count_finals((fact.carrier_id, fact.status) for fact in facts)
            for fact in facts:
                self._facts.add(fact)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
