"""Messages that ended, by carrier and status: one metric, counted where the end is decided."""

from typing import Final

from prometheus_client import Counter

FINALS: Final = Counter(
    "tollwire_messages_final_total", "Messages that reached a final status", ["carrier", "status"]
)
# A message that never had a carrier, or one that is not known by name here.
NO_CARRIER: Final = "none"
