"""What is counted of a flush of accepted messages: once a flush, never once a message."""

from typing import Final

from prometheus_client import Counter

ACCEPTED: Final = Counter(
    "tollwire_messages_accepted_total",
    "Messages accepted; dispatch says whether they may go now or wait for their time or pace",
    ["lane", "encoding", "dispatch"],
)
SEGMENTS: Final = Counter(
    "tollwire_segments_accepted_total", "Segments of accepted messages: what is billed", ["lane", "encoding"]
)
HOLDS: Final = Counter(
    "tollwire_credit_holds_total",
    "Holds asked for: held, replayed, insufficient, refused (for another reason), error",
    ["result"],
)
HELD: Final = Counter("tollwire_credit_held_micros_total", "Credit held by accepted messages", ["currency"])
