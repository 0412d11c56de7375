"""All plans by name, and what a run needs for each. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos import process_plans as processes
from tests.chaos import server_plans as servers
from tests.chaos.cast import Cast, Step
from tests.chaos.instance import SERVICES
from tests.chaos.orders import Habits

LONG_PAUSE_SECONDS = 60.0

# What a database that forgot some seconds cannot know: what was accepted, answered, told and settled in them.
LOST = frozenset({
    "accepted_and_lost", "callback_missing", "two_messages_for_a_key", "word_changed", "final_state_changed",
    "older_after_final", "status_differs", "charge_told_wrongly", "released_although_delivered",
    "late_receipt_told_wrongly", "cancelled_and_sent", "sent_unaccepted",
})  # fmt: skip
# And where nobody told the services that something is forgotten, they send what waits once more.
LOST_WITHOUT_RECOVERY = LOST | {"at_most_once_sent_twice", "sent_twice_unflagged", "sent_too_often"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults to draw, and what the run needs for them.

    Attributes:
        draw: the steps, without end.
        has_proxy: services reach PostgreSQL through a proxy of the harness.
        has_hostile: there are clients with hostile endpoints.
        has_clocks: the services' clocks may step.
        topology: how the servers run (Instance.start_servers).
        spares_clients: no request of a client may fail.
        may_lose: kinds of violations that are documented as losses here: counted, and no violation.
        must_strike: faults without which a run says nothing: the load goes on until each has struck, and a
            run in which one has not is no good run.
        must_count: facts of the run that may not be 0, else nothing of what the plan is for has happened.
        hastens_holds: the ledger looks at holds that got no receipt while the load goes on, and not only
            when a run's ten minutes are over.
        habits: how the clients order.
    """

    draw: Callable[[Cast], Iterator[Step]]
    has_proxy: bool = False
    has_hostile: bool = False
    has_clocks: bool = False
    topology: str = "single"
    may_lose: frozenset[str] = frozenset()
    spares_clients: bool = False
    must_strike: tuple[str, ...] = ()
    must_count: tuple[str, ...] = ()
    hastens_holds: bool = False
    habits: Habits = field(default_factory=Habits)


PLANS: Mapping[str, Plan] = {
    "kills": Plan(processes.kills),
    "short": Plan(processes.short),
    "tour": Plan(servers.tour, has_proxy=True, has_hostile=True),
    **{f"{service}-kill": Plan(processes.kills_of(service)) for service in SERVICES},
    "all-kill": Plan(processes.kills_of_all),
    "one-by-one": Plan(processes.one_by_one, must_strike=processes.ALONE),
    "crash-points": Plan(processes.crashes, must_strike=tuple(f"crash at {point}" for point in CRASH_POINTS)),
    "pauses": Plan(processes.pauses(servers.PAUSE_SECONDS)),
    "long-pauses": Plan(processes.pauses(LONG_PAUSE_SECONDS)),
    "restarts": Plan(
        processes.restarts,
        spares_clients=True,
        must_strike=tuple(f"rolling restart {service}" for service in SERVICES),
    ),
    "postgres": Plan(servers.postgres_faults, has_proxy=True),
    "nats": Plan(servers.nats_faults),
    "valkey": Plan(servers.valkey_faults),
    "carriers": Plan(servers.carrier_faults),
    "late-receipts": Plan(
        servers.late_receipts,
        must_strike=servers.LATE,
        must_count=("late_receipts",),
        hastens_holds=True,
        habits=Habits(hasty=0.5),
    ),
    "endpoints": Plan(processes.kills_of("dlr"), has_hostile=True),
    "clocks": Plan(servers.clock_steps, has_clocks=True),
    "poison": Plan(servers.poison),
    "failover": Plan(servers.fail_over, topology="standby"),
    "failover-async": Plan(servers.fail_over, topology="standby-async", may_lose=LOST_WITHOUT_RECOVERY),
    "restore": Plan(servers.restore, topology="archive", may_lose=LOST),
    "disk-full": Plan(servers.fill_disk, topology="small-disk"),
    "nats-cluster": Plan(servers.cluster_faults, topology="cluster"),
    "nats-partition": Plan(servers.partitions, topology="cluster", must_strike=servers.PARTED),
}
