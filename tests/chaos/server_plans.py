"""Plans that strike what is around our processes. Pure."""

from collections.abc import Iterator

from tests.chaos.carrier_faults import LATE_MISBEHAVIOURS, LATE_SECONDS, MISBEHAVIOURS, Misbehave
from tests.chaos.cast import Cast, Step
from tests.chaos.clock_faults import StepClock
from tests.chaos.cluster_faults import KillLeader, Part
from tests.chaos.faults import Fault, Kill, Pause, Restart
from tests.chaos.instance import CARRIERS, SERVICES
from tests.chaos.poison_faults import Poison
from tests.chaos.restore import Restore
from tests.chaos.server_faults import (
    CutCommit,
    FailOver,
    FillDisk,
    FlushValkey,
    KillBackend,
    KillServer,
    RestoreNats,
    Storm,
    WipeNats,
    WipeValkey,
)

# A server that lost its followers leads on for up to ten seconds, and an election takes up to nine.
PARTED_SECONDS = 25.0
PARTED = tuple(
    Part(PARTED_SECONDS, is_leader=is_leader, is_silent=is_silent).name
    for is_leader in (True, False)
    for is_silent in (True, False)
)
SHORT_PAUSE_SECONDS = 6.0
PAUSE_SECONDS = 10.0
MISBEHAVE_SECONDS = 8.0
# By then there are 10,000 keys to ask for once more.
STORM_EVERY_SECONDS = 30.0
HOUR_SECONDS = 3_600


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


def restore(_: Cast) -> Iterator[Step]:
    """The database goes back by some seconds, once."""
    yield Step(15.0, Restore())


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


def partitions(_: Cast) -> Iterator[Step]:
    """One of three NATS servers is alone, the leader or another, silently or with its connections cut."""
    while True:
        for is_silent in (True, False):
            for is_leader in (True, False):
                yield Step(8.0, Part(PARTED_SECONDS, is_leader=is_leader, is_silent=is_silent))


def valkey_faults(cast: Cast) -> Iterator[Step]:
    """Valkey goes away in the middle of all keys being asked for once more."""
    while True:
        faults = [
            KillServer("valkey", 3.0),
            WipeValkey(),
            FlushValkey(),
            Pause("valkey", ["valkey"], PAUSE_SECONDS),
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(STORM_EVERY_SECONDS, Storm(fault))


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


LATE = (*(f"carriers {name}" for name in LATE_MISBEHAVIOURS), "kill every dlr")


def late_receipts(cast: Cast) -> Iterator[Step]:
    """Receipts come after the end of the hold, and of the message's validity; dlr dies while they come."""
    while True:
        for name, changes in cast.drawn.sample(sorted(LATE_MISBEHAVIOURS.items()), len(LATE_MISBEHAVIOURS)):
            yield Step(cast.drawn.uniform(1.0, 3.0), Misbehave(name, MISBEHAVE_SECONDS, cast.rules, changes))
        # Begun in the first of them, the late ones come in from here on.
        wait_seconds = max(LATE_SECONDS - len(LATE_MISBEHAVIOURS) * (MISBEHAVE_SECONDS + 1.0), 1.0)
        yield Step(wait_seconds, Kill("every dlr", cast.all_of("dlr")))
        for _ in range(2):
            yield Step(cast.drawn.uniform(8.0, 12.0), Kill("every dlr", cast.all_of("dlr")))


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


def tour(cast: Cast) -> Iterator[Step]:
    """A little of everything that needs no other servers: each fault once, in random order."""
    if cast.proxy is None:
        raise ValueError("this plan needs a proxy before PostgreSQL")
    while True:
        faults: list[Fault] = [
            KillServer("postgresql"),
            KillBackend(cast.drawn),
            *[CutCommit(cast.proxy, cast.drawn.uniform(0.0, 1.0)) for _ in range(3)],
            Pause("postgresql", ["postgresql"], SHORT_PAUSE_SECONDS),
            KillServer("nats", 2.0),
            WipeNats(),
            RestoreNats(SHORT_PAUSE_SECONDS),
            Storm(Pause("valkey", ["valkey"], SHORT_PAUSE_SECONDS)),
            Poison(cast.drawn),
            *[Restart(service, cast.all_of(service)) for service in SERVICES],
            *[Pause(service, [cast.one(service)], SHORT_PAUSE_SECONDS) for service in SERVICES],
        ]
        for fault in cast.drawn.sample(faults, len(faults)):
            yield Step(cast.drawn.uniform(1.0, 3.0), fault)
