"""Who else's work comes into a lane that waits for one carrier (docs/adr/0017).

A lane that nobody else's work came by may wait for one carrier: its backlog stays in the stream. What comes
in behind such a backlog is not seen before its end, so meanwhile the lane is listened to.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from shared.events.bundles import MalformedEvent, decode
from worker.places import Places

# How often it is looked whether a lane waits. It is listened to before its backlog is too long to wait beside
# it, so that next to nothing comes in unheard.
LOOK_SECONDS: Final = 1.0


class Listener(Protocol):
    """What hears the bundles of a lane, while it is told to."""

    async def keep(self, *, is_wanted: bool) -> None:
        """Listen, or do not."""
        ...


class Listens(Protocol):
    """Where lanes can be listened to."""

    def listener(self, subject: str, hear: Callable[[bytes], None]) -> Listener:
        """Return a listener to a subject, which does not listen yet."""
        ...


class Overhear:
    """Listens to lanes while they wait for a carrier, and to none while carriers keep up."""

    def __init__(self, jetstream: Listens, lanes: Sequence[str], places: Places) -> None:
        self._places = places
        self._listeners = {
            lane: jetstream.listener(f"sms.send.{lane}", partial(self._hear, lane)) for lane in lanes
        }

    async def look(self) -> None:
        """Listen to the lanes that wait now."""
        for lane, listener in self._listeners.items():
            await listener.keep(is_wanted=self._places.is_waited_for(lane))

    def _hear(self, lane: str, payload: bytes) -> None:
        try:
            bundle = decode(payload)
        except MalformedEvent:
            return  # who takes it out of the lane says so
        self._places.note(lane, bundle.carrier_id)
