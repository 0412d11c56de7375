"""Callbacks in this process's memory: leased, and not noted yet."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

# Of callbacks that are to be loaded: nobody knows yet whose they are.
UNKNOWN = 0
# A tenth of the room is not for what is only given back: that has no share which bounds it.
RESERVE = 10


class Lease(NamedTuple):
    """For how long callbacks are this process's alone, and since when at the earliest, by its clock."""

    seconds: int
    since: float


class Held:
    """A room that no endpoint can fill, nor any number of them.

    An endpoint may hold as many as there are free places left. A lone one gets half of the room, eight greedy
    ones a ninth each, and as much is always free for those who come with few.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._of: dict[UUID, int] = {}
        self._each: dict[int, int] = {}

    @property
    def free(self) -> int:
        """How many more find a place."""
        return self._room - len(self._of)

    def take(self, callback_id: UUID, endpoint_id: int = UNKNOWN) -> bool:
        """Hold a callback; False: it is held already, or its endpoint has enough."""
        free = self._room - len(self._of)
        has = self._each.get(endpoint_id, 0)
        if free <= 0 or callback_id in self._of or (endpoint_id != UNKNOWN and has >= free):
            return False
        self._of[callback_id] = endpoint_id
        self._each[endpoint_id] = has + 1
        return True

    def take_aside(self, callback_id: UUID) -> bool:
        """Hold what ``take`` refused while it is given back; False: it is held already, or room is short."""
        return self.free > self._room // RESERVE and self.take(callback_id)

    def learn(self, callback_id: UUID, endpoint_id: int) -> bool:
        """Say whose a held callback is; False: its endpoint has enough, and it is not held any more."""
        self.let_go(callback_id)
        return self.take(callback_id, endpoint_id)

    def let_go(self, callback_id: UUID) -> None:
        """Hold it no longer, if it is held."""
        endpoint_id = self._of.pop(callback_id, None)
        if endpoint_id is None:
            return
        left = self._each[endpoint_id] - 1
        if left:
            self._each[endpoint_id] = left
        else:
            del self._each[endpoint_id]

    def let_go_all(self, callback_ids: Iterable[UUID]) -> None:
        """The same for several."""
        for callback_id in callback_ids:
            self.let_go(callback_id)
