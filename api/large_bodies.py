"""How many bytes of large bodies this process has in hand: what a batch brings is read before its turn comes.

A place for a batch is given when its messages are known, so its body is in memory by then. Without a bound of
its own here a client with a full burst would bring gigabytes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from api.problems import Refusal
from shared.domain.problems import ProblemCode

# As JSON. A text is kept with as many bytes for each of its characters as the widest needs, four where an
# emoji is among them, so what is made of a body takes up to four times as much: 128 MiB, in a pod of 768. A
# client may have as much as is left, and a lone one half: eight of the greatest bodies, or 80 usual batches.
BODIES_MAX_BYTES: Final = 32 * 1024 * 1024

Grow = Callable[[int], None]
"""Called with the bytes that a body has by now; raises ``Refusal`` busy, when they are too many."""


class LargeBodies:
    """The bytes that are in hand, by client."""

    def __init__(self, bytes_max: int = BODIES_MAX_BYTES) -> None:
        self._bytes_max = bytes_max
        self._held: Counter[int] = Counter()

    @contextmanager
    def held(self, client_id: int) -> Iterator[Grow]:
        """``with``: have a body of a client in hand; it holds nothing until it grows."""
        size = 0

        def grow(to: int) -> None:
            nonlocal size
            more = to - size
            if self._held[client_id] + more > self._bytes_max - self._held.total() - more:
                raise Refusal(ProblemCode.BUSY)
            self._held[client_id] += more
            size = to

        try:
            yield grow
        finally:
            self._held[client_id] -= size
            if not self._held[client_id]:
                del self._held[client_id]
