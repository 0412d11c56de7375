"""The traces of a bundle's messages, in the headers beside it: of those that are sampled, and no others.

``traceparent`` is that of the first, for whoever knows only W3C's header.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

TRACES: Final = "Tollwire-Traces"
TRACEPARENT: Final = "traceparent"

# Message, trace and span, in hex. A header that is otherwise is none.
_ONE: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})-([0-9a-f]{16})")


class Traced(NamedTuple):
    """A message that is sampled, and the span that the next one hangs below."""

    message_id: str
    trace_id: int
    span_id: int


def write_traces(traced: Sequence[Traced]) -> dict[str, str]:
    """Return the headers for a bundle; none when no message of it is sampled."""
    if not traced:
        return {}
    first = traced[0]
    return {
        TRACEPARENT: f"00-{first.trace_id:032x}-{first.span_id:016x}-01",
        TRACES: ",".join(f"{one.message_id}-{one.trace_id:032x}-{one.span_id:016x}" for one in traced),
    }


def read_traces(headers: Mapping[str, str]) -> list[Traced]:
    """Return what ``write_traces`` wrote; what is malformed is left out: a trace is worth no message."""
    found = _ONE.finditer(headers.get(TRACES, ""))
    return [Traced(one[1], int(one[2], 16), int(one[3], 16)) for one in found]
