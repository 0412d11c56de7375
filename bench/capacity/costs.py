"""What cells cost a month, part by part."""

from collections.abc import Mapping
from typing import Final

from bench.capacity.inputs import Assumed, Measured
from bench.capacity.sizes import GIGABYTE, MEGABYTE, Cell

MEMORY_PER_VCPU_GB: Final = 4
VALKEY_VCPU: Final = 1
VALKEY_MEMORY_GB: Final = 2
GIGABYTES_A_TERABYTE: Final = 1_000
# What every network SSD of the price list can do without extra pay.
FREE_IOPS: Final = 3_000
WRITE_BYTES: Final = 16_384
BALANCERS: Final = 2
STANDBY_ZONES: Final = 2
LEAVES_ITS_ZONE: Final = 2 / 3


class Prices:
    """The price list, and what is bought from it."""

    def __init__(self, measured: Measured, assumed: Assumed) -> None:
        self._measured = measured
        self._load = {name: one.value for name, one in assumed.load.items()}
        self._sizing = {name: one.value for name, one in assumed.sizing.items()}
        self._backup = {name: one.value for name, one in assumed.backup.items()}
        self._price = {name: one.value for name, one in assumed.price.items()}

    def bill(self, cell: Cell) -> dict[str, float]:
        """US dollars a month for one cell, by part, in the order of the document."""
        gb_a_month = cell.messages_a_day * self._load["days_a_month"] / GIGABYTE
        return {
            "our pods": self._pods(cell),
            "PostgreSQL, machines": self._database_machines(cell),
            "PostgreSQL, disks": self._database_disks(cell),
            "NATS": self._nats(cell),
            "Valkey": self._sizing["valkey_nodes"] * self._machine(VALKEY_VCPU, VALKEY_MEMORY_GB),
            "backups": self._backups(cell),
            "archive": self._archive(cell),
            "network": self._network(gb_a_month),
            "watching and control plane": self._watching(),
        }

    def _machine(self, vcpu: float, memory_gb: float) -> float:
        return vcpu * self._price["vcpu_month"] + memory_gb * self._price["memory_gb_month"]

    def _pods(self, cell: Cell) -> float:
        memory = cell.pod_count * self._sizing["pod_memory_gb"]
        return self._machine(cell.pod_vcpu, memory) / self._sizing["node_fill"]

    def _database_machines(self, cell: Cell) -> float:
        each = self._machine(cell.database.vcpu, cell.database.memory_gb)
        return self._sizing["postgres_instances"] * each

    def _database_disks(self, cell: Cell) -> float:
        speed = cell.database.disk_mb_a_second
        each = (
            cell.database.disk_tb * GIGABYTES_A_TERABYTE * self._price["disk_gb_month"]
            + max(0.0, speed * MEGABYTE / WRITE_BYTES - FREE_IOPS) * self._price["disk_iops_month"]
        )
        return self._sizing["postgres_instances"] * each

    def _nats(self, cell: Cell) -> float:
        disk = cell.nats.disk_gb * self._price["disk_gb_month"]
        each = self._machine(cell.nats.vcpu, cell.nats.vcpu * MEMORY_PER_VCPU_GB) + disk
        return self._sizing["nats_nodes"] * each

    def _backups(self, cell: Cell) -> float:
        wal_tb = cell.database.wal_tb_a_day * self._backup["wal_days"]
        base_tb = cell.database.stored_tb * self._backup["base_copies"]
        kept_gb = (wal_tb + base_tb) / self._backup["compression"] * GIGABYTES_A_TERABYTE
        return kept_gb * self._price["object_gb_month"]

    def _archive(self, cell: Cell) -> float:
        messages = cell.messages_a_day * self._load["days_a_month"] * self._backup["archive_months"]
        stored_gb = sum(self._archived_bytes().values()) * messages / GIGABYTE
        return stored_gb * self._backup["archive_share"] * self._price["cold_gb_month"]

    def _archived_bytes(self) -> Mapping[str, float]:
        """All tables but those that are dropped unarchived, and the streams."""
        unarchived = ("tollwire.idempotency_keys", "tollwire.message_texts", "tollwire.carrier_references")
        return {
            name: size
            for name, size in self._measured.kept_bytes.items()
            if "." in name and name not in unarchived
        }

    def _network(self, gb_for_a_byte: float) -> float:
        out = gb_for_a_byte * self._load["wire_bytes_out"]
        across = gb_for_a_byte * (
            self._measured.wal_bytes * STANDBY_ZONES + self._load["wire_bytes_across"] * LEAVES_ITS_ZONE
        )
        return (
            out * self._price["internet_gb"]
            + across * self._price["zone_gb"]
            + BALANCERS * self._price["balancer_month"]
            + out * self._price["balancer_gb"]
        )

    def _watching(self) -> float:
        vcpu = self._sizing["watching_vcpu"]
        disk = self._sizing["watching_disk_gb"] * self._price["disk_gb_month"]
        return self._machine(vcpu, vcpu * MEMORY_PER_VCPU_GB) + disk + self._price["cluster_month"]
