"""Who waits for places at a carrier, who holds a lane up with that, and who is put off (docs/adr/0017)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from prometheus_client import Counter

from shared.runtime.loops import Stop
from shared.storage.config import CarrierConfig
from worker.desk import Desk
from worker.desks import Desks
from worker.journal import Journal
from worker.lines import BUNDLES_MAX, FIRST_LOOK_SECONDS, LOOK_SECONDS, QUICK_PER_SECOND, Lines, Wait
from worker.window import Turn

# Messages put off in one call: it holds their states, and stays far within the role's statement_timeout.
PUT_OFF_MAX: Final = 500

PUT_OFF: Final = Counter(
    "tollwire_put_off_total",
    "Messages given back to the outbox because their carrier had no place for them, or was away",
    ["carrier", "lane"],
)


class Places:
    """The lines of a worker's lanes at its carriers, and the judgement of who stands in them."""

    def __init__(self, desks: Desks, journal: Journal) -> None:
        self._desks = desks
        self._journal = journal
        self._lines = Lines()

    def wait(
        self, lane: str, carrier_id: int, work: Sequence[tuple[str, int]], bundles: int
    ) -> AbstractContextManager[Wait]:
        """Stand in the lane's line at a carrier, until the end of the context."""
        return self._lines.at(lane, carrier_id).wait(work, bundles)

    def note(self, lane: str, carrier_id: int) -> None:
        """Note that work of a carrier came into the lane, behind all that waits there."""
        self._lines.note(lane, carrier_id)

    def is_waited_for(self, lane: str) -> bool:
        """True while work of the lane waits, for whatever, or did lately, and there is not just one carrier.

        Not only while its carrier is full: what comes in at a moment when that cannot be told is heard too.
        """
        return not self._desks.is_one and not self._lines.is_quick(lane)

    def may_hold_up(self, lane: str, carrier_ids: Iterable[int]) -> bool:
        """True while these carriers' work may hold up the lane."""
        return all(self._may_hold_up(lane, carrier_id) for carrier_id in carrier_ids)

    def _may_hold_up(self, lane: str, carrier_id: int) -> bool:
        """What waits for our own claims may: all wait for those. What waits for the carrier goes beside.

        So does what is only put off, because its carrier is away.
        """
        desk = self._desks.get(carrier_id)
        is_room = self._lines.at(lane, carrier_id).bundles <= BUNDLES_MAX
        if desk is None or (desk.is_down and not self._desks.is_one):
            return not is_room
        if self._desks.is_one or not desk.is_slow():
            return True
        return not is_room and (not desk.is_full() or self._is_lane_of(desk, lane))

    async def take(self, desk: Desk, lane: str, wait: Wait, wanted: int, stop: Stop) -> Turn:
        """Wait for places, and return how many were taken, 1 to ``wanted``.

        0: the worker is to stop, the carrier is down, its row has changed, or work is to be put off.
        """
        taking = asyncio.create_task(desk.take(lane, wanted))
        seconds = FIRST_LOOK_SECONDS
        try:
            while not (await asyncio.wait([taking], timeout=seconds))[0]:
                is_desk_open = self._desks.get(desk.config.id) is desk and not desk.is_down
                if stop.requested or not is_desk_open or self._surplus(desk, lane, wait):
                    taking.cancel()
                    await asyncio.wait([taking])
                seconds = LOOK_SECONDS
        except asyncio.CancelledError:
            if not taking.cancel():
                desk.give(lane, taking.result())
            raise
        return Turn(0) if taking.cancelled() else taking.result()

    async def put_off_surplus(self, desk: Desk, lane: str, wait: Wait) -> None:
        """Give work back to the outbox that the carrier does not get to soon, for when it should.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        work = wait.cut(self._surplus(desk, lane, wait))
        line = self._lines.at(lane, desk.config.id)
        for start in range(0, len(work), PUT_OFF_MAX):
            part = work[start : start + PUT_OFF_MAX]
            numbers = [number for _, number in part]
            seconds, counted = line.put_off_seconds(
                wait, numbers, desk.per_second, desk.rest_seconds, is_steady=desk.is_steady()
            )
            number = await self._journal.put_off(part, seconds)
            line.forget(counted * (1 - number / len(part)))
            PUT_OFF.labels(desk.config.name, lane).inc(number)

    async def put_off_away(
        self, lane: str, carrier: CarrierConfig, work: Mapping[tuple[str, int], float]
    ) -> None:
        """Give work back to the outbox whose carrier is away, to ask for it again later.

        ``work``: for how many seconds each (message id, dispatch number) is valid yet.

        Raises:
            OutcomeUnknown: the database did not answer.
        """
        asking = [(number, left_seconds) for (_, number), left_seconds in work.items()]
        seconds = self._lines.at(lane, carrier.id).away_seconds(asking)
        PUT_OFF.labels(carrier.name, lane).inc(await self._journal.put_off(list(work), seconds))

    def _is_lane_of(self, desk: Desk, lane: str) -> bool:
        """Return True when a backlog of this carrier may stay in the lane: it moves, and holds up nobody."""
        return desk.per_second >= QUICK_PER_SECOND and self._lines.is_alone(lane, desk.config.id)

    def _surplus(self, desk: Desk, lane: str, wait: Wait) -> int:
        """How many messages at the end of what waits are to be put off."""
        line = self._lines.at(lane, desk.config.id)
        if self._desks.is_one or not desk.is_full() or line.is_young():
            return 0
        if line.is_crowded(wait) and not self._is_lane_of(desk, lane):
            return wait.left
        return line.surplus(wait, desk.per_second, desk.rest_seconds)
