"""A carrier's connections: who waits for one gets it in its turn, or is turned away."""

import asyncio

from worker.carriers.base import Handover, Refused

_Turn = asyncio.Future[Refused | None]


class Connections:
    """So many requests at a time. Not only a number: those who wait can be told that they wait in vain.

    They stand in two lines, for a password is not to wait for what of a campaign was claimed before it. Both
    move while somebody stands in both: a flood of passwords does not hold up all else.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._urgent: dict[_Turn, Handover] = {}
        self._others: dict[_Turn, Handover] = {}
        self._was_urgent = False

    async def take(self, handover: Handover) -> Refused | None:
        """Wait for a connection. Return None with one, which is to be given back, or why there is none."""
        refused = handover.refusal()
        if refused is not None:
            return refused
        if self._free:
            self._free -= 1
            return None
        turn: _Turn = asyncio.get_running_loop().create_future()
        line = self._urgent if handover.is_urgent else self._others
        line[turn] = handover
        try:
            return await turn
        except asyncio.CancelledError:
            if line.pop(turn, None) is None and not turn.cancelled() and turn.result() is None:
                self.give()
            raise

    def give(self) -> None:
        """Give one back: it goes to the next who waits and may still be written."""
        while line := self._next():
            turn = next(iter(line))
            refused = line.pop(turn).refusal()
            if turn.done():
                continue  # cancelled
            turn.set_result(refused)
            if refused is None:
                self._was_urgent = line is self._urgent
                return
        self._free += 1

    def _next(self) -> dict[_Turn, Handover]:
        """The line whose turn it is; empty when nobody waits."""
        if self._was_urgent:
            return self._others or self._urgent
        return self._urgent or self._others

    def turn_away(self) -> None:
        """Turn away those who wait and may not be written any more; the others keep their turns."""
        for line in (self._urgent, self._others):
            _turn_away(line)


def _turn_away(line: dict[_Turn, Handover]) -> None:
    for turn, handover in list(line.items()):
        refused = handover.refusal()
        if refused is None:
            continue
        del line[turn]
        if not turn.done():
            turn.set_result(refused)
