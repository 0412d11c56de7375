"""From messages a day to pods, cores, connections, disks: pure arithmetic over the inputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.capacity.inputs import Assumed, Measured
from shared.runtime.streams import STREAMS

DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600
MICROSECONDS: Final = 1_000_000
MEGABYTE: Final = 1_000_000
GIGABYTE: Final = 1_000_000_000
TERABYTE: Final = 1_000_000_000_000
SERVICES: Final = ("api", "worker", "dlr")
POSTGRES, NATS, VALKEY = "postgresql", "nats", "valkey"
EVENTS: Final = "SMS_EVENT"
WORK: Final = "SMS_SEND"
STORE_SHARES: Final = {stream.name: stream.store_percent / 100 for stream in STREAMS}
# More than anybody would run: then the limits are wrong.
CELLS_MAX: Final = 1_000
# Machines come in these sizes.
LADDER_VCPU: Final = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192)
MEMORY_STEP_GB: Final = 16
POD_CPU_STEP: Final = 0.25
# A bundle's id and dispatch number on the stream, beside the facts.
BUNDLE_BYTES: Final = 60


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of one service."""

    count: int
    request_vcpu: float


@dataclass(frozen=True, slots=True)
class Database:
    """Each of the PostgreSQL instances of a cell."""

    vcpu: int
    memory_gb: int
    disk_tb: float
    stored_tb: float
    wal_mb_a_second: float
    disk_mb_a_second: float
    wal_tb_a_day: float
    restore_hours: float
    partitions: int
    connections: int


@dataclass(frozen=True, slots=True)
class Nats:
    """Each of the NATS nodes of a cell."""

    vcpu: int
    store_gb: int
    disk_gb: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One whole stack."""

    messages_a_day: float
    average_a_second: float
    peak_a_second: float
    pods: Mapping[str, Pods]
    database: Database
    nats: Nats

    @property
    def pod_count(self) -> int:
        """All pods of ours."""
        return sum(pods.count for pods in self.pods.values())

    @property
    def pod_vcpu(self) -> float:
        """What they request together."""
        return sum(pods.count * pods.request_vcpu for pods in self.pods.values())


class Sizing:
    """Sizes cells.

    Args:
        policy: `usual` or `lean`: how long things are kept online.
    """

    def __init__(self, measured: Measured, assumed: Assumed, policy: str) -> None:
        self._measured = measured
        self._assumed = assumed
        self._policy = policy
        self._sizing = {name: one.value for name, one in assumed.sizing.items()}

    def cells_for(self, messages_a_day: float) -> list[Cell]:
        """The fewest equal cells of which none passes a limit of one primary.

        Raises:
            ValueError: the limits are so low that no cell keeps to them.
        """
        for count in range(1, CELLS_MAX):
            cell = self.cell(messages_a_day / count)
            if not self.limits_passed(cell):
                return [cell] * count
        raise ValueError(f"even {CELLS_MAX} cells would pass the limits")

    def limits_passed(self, cell: Cell) -> list[str]:
        """Which limits of one primary this cell is beyond."""
        found = {
            "vcpu_max": cell.database.vcpu,
            "wal_mb_a_second_max": cell.database.wal_mb_a_second,
            "disk_tb_max": cell.database.disk_tb,
            "restore_hours_max": cell.database.restore_hours,
        }
        return [name for name, value in found.items() if value > self._assumed.cell[name].value]

    def cell(self, messages_a_day: float) -> Cell:
        """One stack for this volume, whatever the limits say."""
        average = messages_a_day / DAY_SECONDS
        peak = average * self._assumed.load["peak_to_average"].value
        pods = {name: self._pods(name, peak) for name in SERVICES}
        pods["ledger"] = Pods(round(self._sizing["ledger_pods"]), 1.0)
        count = sum(one.count for one in pods.values())
        return Cell(
            messages_a_day, average, peak, pods,
            self._database(messages_a_day, peak, count), self._nats(messages_a_day, peak),
        )  # fmt: skip

    def _cores(self, process: str, rate: float) -> float:
        return self._measured.cpu_us[process] * rate / MICROSECONDS * self._sizing["bench_to_field"]

    def _pods(self, service: str, peak: float) -> Pods:
        needed = self._cores(service, peak) / self._sizing["pod_cpu_target"]
        count = max(round(self._sizing["pods_min"]), math.ceil(needed))
        request = math.ceil(needed / count / POD_CPU_STEP) * POD_CPU_STEP
        return Pods(count, max(request, self._sizing["pod_cpu_min"]))

    def kept_bytes(self) -> dict[str, tuple[float, float]]:
        """By what is kept: bytes a message, and for how many days."""
        measured = self._measured.kept_bytes
        return {
            kept.name: (sum(measured.get(table, 0.0) for table in kept.tables), kept.days[self._policy])
            for kept in self._assumed.kept
        }

    def _database(self, messages_a_day: float, peak: float, pods: int) -> Database:
        stored = sum(size * days for size, days in self.kept_bytes().values()) * messages_a_day
        wal = self._measured.wal_bytes
        vcpu = _machine(self._cores(POSTGRES, peak) / self._sizing["postgres_cpu_target"])
        restore_seconds = stored / MEGABYTE / self._assumed.backup["restore_mb_a_second"].value
        surged = math.ceil(pods * self._sizing["surge"])
        return Database(
            vcpu,
            self._memory_gb(vcpu, peak),
            stored / TERABYTE / self._sizing["disk_fill"],
            stored / TERABYTE,
            wal * peak / MEGABYTE,
            wal * peak / MEGABYTE * self._sizing["disk_writes_per_wal"],
            wal * messages_a_day / TERABYTE,
            restore_seconds / HOUR_SECONDS,
            round(sum(kept.partitions * kept.days[self._policy] for kept in self._assumed.kept)),
            round(surged * self._sizing["pool_max"] + self._sizing["connections_besides"]),
        )

    def _memory_gb(self, vcpu: int, peak: float) -> int:
        fresh = sum(size for size, _ in self.kept_bytes().values())
        hot = fresh * peak * self._sizing["hot_hours"] * HOUR_SECONDS / GIGABYTE
        wanted = max(vcpu * self._sizing["postgres_memory_per_vcpu_gb"], hot)
        return math.ceil(wanted / MEMORY_STEP_GB) * MEMORY_STEP_GB

    def _nats(self, messages_a_day: float, peak: float) -> Nats:
        facts = self._measured.kept_bytes.get(EVENTS, 0.0) * messages_a_day * self._sizing["nats_event_days"]
        waiting = BUNDLE_BYTES * peak * self._sizing["nats_outage_hours"] * HOUR_SECONDS
        # Each stream may fill its share of TOLLWIRE_NATS_STORE_BYTES, and no more.
        store = max(facts / STORE_SHARES[EVENTS], waiting / STORE_SHARES[WORK])
        vcpu = _machine(self._cores(NATS, peak) / self._sizing["nats_cpu_target"])
        disk = store / GIGABYTE / self._sizing["disk_fill"]
        return Nats(vcpu, math.ceil(store / GIGABYTE), math.ceil(disk))


def _machine(vcpu: float) -> int:
    """The smallest machine that has as much; the largest there is, where none has."""
    return next((size for size in LADDER_VCPU if size >= vcpu), LADDER_VCPU[-1])
