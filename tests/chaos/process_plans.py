"""Plans that strike our own processes: drawn from a seed, so that a run can be repeated. Pure."""

from collections.abc import Callable, Iterator

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos.cast import Cast, Step
from tests.chaos.faults import Crash, Kill, Pause, Restart
from tests.chaos.instance import SERVICES
from tests.chaos.server_faults import WipeNats

SERVICE_OF_STEP = {
    "accept": "api", "claim": "worker", "submit": "worker", "record": "worker", "receipt": "dlr",
    "settle": "dlr", "callback": "dlr", "dispatch": "ledger", "expire": "ledger",
}  # fmt: skip
# Between two kills, on the average. To start a process again takes a second of a core: strikes that come
# faster leave nothing running that could be struck in the middle of its work.
KILL_EVERY_SECONDS = 2.0
ALONE_SECONDS = 12.0
ALONE = (*(f"kill {name}" for service in SERVICES for name in (service, f"every {service}")), "kill all")


def kills_of(service: str) -> Callable[[Cast], Iterator[Step]]:
    """One process of a service, again and again."""

    def plan(cast: Cast) -> Iterator[Step]:
        while True:
            yield Step(cast.drawn.expovariate(1 / KILL_EVERY_SECONDS), Kill(service, [cast.one(service)]))

    return plan


def kills(cast: Cast) -> Iterator[Step]:
    """Any one process; now and then all of a service, or all there are."""
    while True:
        kind = cast.drawn.random()
        if kind < 0.02:
            fault = Kill("all", cast.all_of(*SERVICES))
        elif kind < 0.08:
            service = cast.drawn.choice(SERVICES)
            fault = Kill(f"every {service}", cast.all_of(service))
        else:
            service = cast.drawn.choice(SERVICES)
            fault = Kill(service, [cast.one(service)])
        yield Step(cast.drawn.expovariate(1 / KILL_EVERY_SECONDS), fault)


def kills_of_all(cast: Cast) -> Iterator[Step]:
    """Every process of ours at the same moment."""
    while True:
        yield Step(cast.drawn.uniform(2.0, 6.0), Kill("all", cast.all_of(*SERVICES)))


def crash(cast: Cast, point: str) -> Crash:
    """One process of the service that has the point dies at it."""
    service = SERVICE_OF_STEP[point.partition(".")[0]]
    return Crash(point, cast.one(service), cast.all_of(service))


def crashes(cast: Cast) -> Iterator[Step]:
    """Every named crash point once, in random order, for ever.

    One of each service at the same time, where it has any left: to start a process again is most of what a
    strike takes, and one after the other they would not fit into a run.
    """
    while True:
        points = cast.drawn.sample(CRASH_POINTS, len(CRASH_POINTS))
        while points:
            by_service = {SERVICE_OF_STEP[point.partition(".")[0]]: point for point in reversed(points)}
            together = [crash(cast, point) for point in by_service.values()]
            for one in together[:-1]:
                one.overlaps = True
            for one in together:
                yield Step(cast.drawn.uniform(0.2, 1.0), one)
            points = [point for point in points if point not in by_service.values()]


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


def one_by_one(cast: Cast) -> Iterator[Step]:
    """Each kind of kill alone, with time to recover: what a fault costs is read off here."""
    while True:
        for service in SERVICES:
            yield Step(ALONE_SECONDS, Kill(service, [cast.one(service)]))
            yield Step(ALONE_SECONDS, Kill(f"every {service}", cast.all_of(service)))
        yield Step(ALONE_SECONDS, Kill("all", cast.all_of(*SERVICES)))


def short(cast: Cast) -> Iterator[Step]:
    """What CI runs: API processes first, since the lease on what they had accepted is the longest."""
    points = ("accept.after_commit", "submit.after_write", "record.before_commit", "settle.after_commit",
              "callback.after_post")  # fmt: skip
    strikes = [crash(cast, point) for point in points]
    yield Step(0.0, strikes[0])
    yield Step(0.2, Kill("all", cast.all_of(*SERVICES)))
    for strike in strikes[1:]:
        yield Step(0.2, strike)
    for service in ("ledger", "worker", "dlr"):
        yield Step(0.5, Kill(service, [cast.one(service)]))
    yield Step(0.5, WipeNats())
    yield from kills_of("worker")(cast)
