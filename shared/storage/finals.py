"""Messages that ended, by carrier and status: one metric, counted where the end is decided."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Counter

FINALS: Final = Counter(
    "tollwire_messages_final_total", "Messages that reached a final status", ["carrier", "status"]
)
FINAL_STATUSES: Final = frozenset({"DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"})
# A message that never had a carrier, or one whose row is gone.
NO_CARRIER: Final = "none"

# The carriers' names as last read: a process has one configuration, as it has one registry of metrics.
_names: dict[int, str] = {}


def know_carriers(names: Mapping[int, str]) -> None:
    """Learn the carriers' names."""
    _names.clear()
    _names.update(names)


def carrier_name(carrier_id: int | None) -> str:
    """Return the name for a label."""
    return NO_CARRIER if carrier_id is None else _names.get(carrier_id, NO_CARRIER)


def count_finals(moves: Iterable[tuple[int | None, str]]) -> None:
    """Count messages by carrier and status; those that are not final are left out."""
    for (carrier_id, status), count in Tally(moves).items():
        if status in FINAL_STATUSES:
            FINALS.labels(carrier_name(carrier_id), status).inc(count)
