"""Which faults strike when: drawn from a seed, so that a run can be repeated. Pure."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos.carrier_faults import MISBEHAVIOURS, Misbehave
from tests.chaos.clock_faults import StepClock
from tests.chaos.faults import Crash, Fault, Kill, Pause, Restart
from tests.chaos.instance import CARRIERS, SERVICES
from tests.chaos.poison_faults import Poison
from tests.chaos.server_faults import (
    CutCommit,
    FailOver,
    FillDisk,
    KillBackend,
    KillLeader,
    KillServer,
    RestoreNats,
    Storm,
    WipeNats,
    WipeValkey,
)
from tests.support.postgres_proxy import Proxy

SERVICE_OF_STEP = {
    "accept": "api", "claim": "worker", "submit": "worker", "record": "worker", "receipt": "dlr",
    "settle": "dlr", "callback": "dlr", "dispatch": "ledger", "expire": "ledger",
}  # fmt: skip
# Between two kills, on the average. To start a process again takes a second of a core: strikes that come
# faster leave nothing running that could be struck in the middle of its work.
KILL_EVERY_SECONDS = 1.5
PAUSE_SECONDS = 10.0
LONG_PAUSE_SECONDS = 60.0
MISBEHAVE_SECONDS = 8.0
ALONE_SECONDS = 12.0
HOUR_SECONDS = 3_600


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
    proxy: Proxy | None = None

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


def one_by_one(cast: Cast) -> Iterator[Step]:
    """Each kind of kill alone, with time to recover: what a fault costs is read off here."""
    while True:
        for service in SERVICES:
            yield Step(ALONE_SECONDS, Kill(service, [cast.one(service)]))
            yield Step(ALONE_SECONDS, Kill(f"every {service}", cast.all_of(service)))
        yield Step(ALONE_SECONDS, Kill("all", cast.all_of(*SERVICES)))


def short(cast: Cast) -> Iterator[Step]:
    """What CI runs: API processes first, since the lease on what they accepted is the longest."""
    for service in ("api", "ledger", "worker", "dlr"):
        yield Step(0.5, Kill(service, [cast.one(service)]))
    yield Step(1.0, Kill("all", cast.all_of(*SERVICES)))
    points = ("accept.after_commit", "submit.after_write", "record.before_commit", "settle.after_commit",
              "callback.after_post")  # fmt: skip
    for point in points:
        yield Step(0.2, Crash(point, cast.one(SERVICE_OF_STEP[point.partition(".")[0]])))
    yield Step(0.5, WipeNats())
    yield from kills(cast)


def postgres_faults(cast: Cast) -> Iterator[Step]:
    """PostgreSQL is killed, loses a backend, stands still; its connections are cut during commits."""
    if cast.proxy is None:
        raise ValueError("this plan needs a proxy before PostgreSQL")
    while True:
        faults: list[Fault] = [
            KillServer("postgresql"),
            KillServer("postgresql", 5.0),
            KillBackend(cast.drawn),
            Pause("postgresql", ["postgresql"], PAUSE_SECONDS),
            *[CutCommit(cast.proxy, cast.drawn.uniform(0.0, 2.0)) for _ in range(4)],
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(cast.drawn.uniform(2.0, 6.0), fault)


def nats_faults(cast: Cast) -> Iterator[Step]:
    """NATS is killed, stands still, loses its store, comes back with an old one."""
    while True:
        faults = [
            KillServer("nats"),
            KillServer("nats", 5.0),
            Pause("nats", ["nats"], PAUSE_SECONDS),
            WipeNats(),
            WipeNats(2.0),
            RestoreNats(PAUSE_SECONDS),
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(cast.drawn.uniform(2.0, 6.0), fault)


def fail_over(_: Cast) -> Iterator[Step]:
    """The primary is lost, once."""
    yield Step(10.0, FailOver())


def fill_disk(cast: Cast) -> Iterator[Step]:
    """The disk is full, again and again."""
    while True:
        yield Step(cast.drawn.uniform(5.0, 10.0), FillDisk(PAUSE_SECONDS))


def cluster_faults(cast: Cast) -> Iterator[Step]:
    """Of three NATS servers one dies, stands still, or comes back; now and then all."""
    while True:
        faults: list[Fault] = [
            KillLeader(),
            KillLeader(PAUSE_SECONDS),
            KillServer(f"nats-{cast.drawn.randint(1, 3)}", 5.0),
            Kill("all of nats", ["nats-1", "nats-2", "nats-3"]),
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(cast.drawn.uniform(4.0, 8.0), fault)


def valkey_faults(cast: Cast) -> Iterator[Step]:
    """Valkey goes away in the middle of all keys being asked for once more."""
    while True:
        faults = [
            KillServer("valkey", 3.0),
            WipeValkey(),
            Pause("valkey", ["valkey"], PAUSE_SECONDS),
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(10.0, Storm(fault))


def carrier_faults(cast: Cast) -> Iterator[Step]:
    """Carriers hang, lie, throttle, fail, are killed and stand still."""
    while True:
        faults: list[Fault] = [
            Misbehave(name, MISBEHAVE_SECONDS, cast.rules, changes) for name, changes in MISBEHAVIOURS.items()
        ]
        for kind in CARRIERS:
            name = f"carrier-{kind.name}"
            faults += [KillServer(name, 2.0), Pause(name, [name], PAUSE_SECONDS)]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(cast.drawn.uniform(1.0, 3.0), fault)


def clock_steps(cast: Cast) -> Iterator[Step]:
    """The clock of one process of ours jumps by an hour, and back."""
    while True:
        for service in cast.drawn.sample(SERVICES, len(SERVICES)):
            step_seconds = cast.drawn.choice([-HOUR_SECONDS, HOUR_SECONDS])
            yield Step(
                cast.drawn.uniform(2.0, 5.0), StepClock(cast.one(service), step_seconds, PAUSE_SECONDS)
            )


def poison(cast: Cast) -> Iterator[Step]:
    """Bad messages, again and again."""
    while True:
        yield Step(cast.drawn.uniform(3.0, 6.0), Poison(cast.drawn))


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults to draw, and what the run needs for them.

    Attributes:
        draw: the steps, without end.
        has_proxy: services reach PostgreSQL through a proxy of the harness.
        has_storm: a second client has 10,000 keys to ask for once more at one moment.
        has_hostile: there are clients with hostile endpoints.
        has_clocks: the services' clocks may step.
        topology: how the servers run (Instance.start_servers).
        may_lose: what is lost is documented as lost; it is counted and is no violation.
    """

    draw: Callable[[Cast], Iterator[Step]]
    has_proxy: bool = False
    has_storm: bool = False
    has_hostile: bool = False
    has_clocks: bool = False
    topology: str = "single"
    may_lose: bool = False


PLANS: Mapping[str, Plan] = {
    "kills": Plan(kills),
    "short": Plan(short),
    **{f"{service}-kill": Plan(kills_of(service)) for service in SERVICES},
    "all-kill": Plan(kills_of_all),
    "one-by-one": Plan(one_by_one),
    "crash-points": Plan(crashes),
    "pauses": Plan(pauses(PAUSE_SECONDS)),
    "long-pauses": Plan(pauses(LONG_PAUSE_SECONDS)),
    "restarts": Plan(restarts),
    "postgres": Plan(postgres_faults, has_proxy=True),
    "nats": Plan(nats_faults),
    "valkey": Plan(valkey_faults, has_storm=True),
    "carriers": Plan(carrier_faults),
    "endpoints": Plan(kills_of("dlr"), has_hostile=True),
    "clocks": Plan(clock_steps, has_clocks=True),
    "poison": Plan(poison),
    "failover": Plan(fail_over, topology="standby"),
    "failover-async": Plan(fail_over, topology="standby-async", may_lose=True),
    "disk-full": Plan(fill_disk, topology="small-disk"),
    "nats-cluster": Plan(cluster_faults, topology="cluster"),
}
