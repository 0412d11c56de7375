"""What tests of endpoints' turns need: a clock that is set by hand, and a book of health in memory."""

from collections.abc import Sequence
from uuid import UUID

from dlr.health import Failing, Health
from dlr.poster import Delivery
from shared.runtime.clock import Clock


class SetClock(Clock):
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int((1_800_000_000 + self.seconds) * 1000)

    def monotonic(self) -> float:
        return self.seconds


class MemoryBook:
    """Endpoints' health as others read it; tests/integration/test_callback_health.py tries the real one."""

    def __init__(self) -> None:
        self.notes: list[Health] = []
        self.failing: list[Failing] = []
        self.known_better: frozenset[int] = frozenset()

    def note(self, health: Health) -> None:
        self.notes.append(health)

    async def read(self) -> tuple[Sequence[Failing], frozenset[int]]:
        return self.failing, self.known_better


def delivery(endpoint_id: int, url: str, number: int = 1) -> Delivery:
    """A callback for an endpoint."""
    return Delivery(UUID(int=number), endpoint_id, url, (b"s" * 32,), b"{}")
