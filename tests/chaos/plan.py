"""Which faults strike when: drawn from a seed, so that a run can be repeated. Pure."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos.faults import Crash, Fault, Kill, Pause, Restart
from tests.chaos.instance import SERVICES

SERVICE_OF_STEP = {
    "accept": "api", "claim": "worker", "submit": "worker", "record": "worker", "receipt": "dlr",
    "settle": "dlr", "callback": "dlr", "dispatch": "ledger", "expire": "ledger",
}  # fmt: skip
PAUSE_SECONDS = 10.0
LONG_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """Wait so long after the fault before, then strike."""

    after_seconds: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Cast:
    """What a plan may strike: the dice, and how many of each service there are."""

    drawn: random.Random
    copies: int

    def one(self, service: str) -> str:
        """One process of a service."""
        return f"{service}-{self.drawn.randint(1, self.copies)}"

    def all_of(self, *services: str) -> list[str]:
        """All processes of services."""
        return [f"{service}-{number}" for service in services for number in range(1, self.copies + 1)]


def kills_of(service: str) -> Callable[[Cast], Iterator[Step]]:
    """One process of a service, again and again."""

    def plan(cast: Cast) -> Iterator[Step]:
        while True:
            yield Step(cast.drawn.expovariate(1.0), Kill(service, [cast.one(service)]))

    return plan


def kills(cast: Cast) -> Iterator[Step]:
    """Any one process; now and then all of a service, or all there are."""
    while True:
        kind = cast.drawn.random()
        if kind < 0.03:
            fault = Kill("all", cast.all_of(*SERVICES))
        elif kind < 0.10:
            service = cast.drawn.choice(SERVICES)
            fault = Kill(f"every {service}", cast.all_of(service))
        else:
            service = cast.drawn.choice(SERVICES)
            fault = Kill(service, [cast.one(service)])
        yield Step(cast.drawn.expovariate(1.0), fault)


def kills_of_all(cast: Cast) -> Iterator[Step]:
    """Every process of ours at the same moment."""
    while True:
        yield Step(cast.drawn.uniform(2.0, 6.0), Kill("all", cast.all_of(*SERVICES)))


def crashes(cast: Cast) -> Iterator[Step]:
    """Every named crash point once, in random order, for ever."""
    while True:
        for point in cast.drawn.sample(CRASH_POINTS, len(CRASH_POINTS)):
            victim = cast.one(SERVICE_OF_STEP[point.partition(".")[0]])
            yield Step(cast.drawn.uniform(0.2, 1.0), Crash(point, victim))


def pauses(seconds: float) -> Callable[[Cast], Iterator[Step]]:
    """Each service stands still for a while: one process of it, then all of it."""

    def plan(cast: Cast) -> Iterator[Step]:
        while True:
            for service in cast.drawn.sample(SERVICES, len(SERVICES)):
                victims = [cast.one(service)] if cast.drawn.random() < 0.5 else cast.all_of(service)
                yield Step(cast.drawn.uniform(1.0, 5.0), Pause(service, victims, seconds))

    return plan


def restarts(cast: Cast) -> Iterator[Step]:
    """Each service restarted in turn, asked politely."""
    while True:
        for service in cast.drawn.sample(SERVICES, len(SERVICES)):
            yield Step(cast.drawn.uniform(1.0, 3.0), Restart(service, cast.all_of(service)))


PLANS: Mapping[str, Callable[[Cast], Iterator[Step]]] = {
    "kills": kills,
    **{f"{service}-kill": kills_of(service) for service in SERVICES},
    "all-kill": kills_of_all,
    "crash-points": crashes,
    "pauses": pauses(PAUSE_SECONDS),
    "long-pauses": pauses(LONG_PAUSE_SECONDS),
    "restarts": restarts,
}
