"""What plans are made of."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.faults import Fault
from tests.chaos.proxy import ProxyControl


@dataclass(frozen=True, slots=True)
class Step:
    """Wait so long after the fault before, then strike."""

    after_seconds: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Cast:
    """What a plan may use: dice, how many of each service there are, the carriers' usual rules, a proxy."""

    drawn: random.Random
    copies: int
    rules: Mapping[str, Mapping[str, object]]
    proxy: ProxyControl | None = None

    def one(self, service: str) -> str:
        """One process of a service."""
        return f"{service}-{self.drawn.randint(1, self.copies)}"

    def all_of(self, *services: str) -> list[str]:
        """All processes of services."""
        return [f"{service}-{number}" for service in services for number in range(1, self.copies + 1)]
