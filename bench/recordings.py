"""What the tools in C saw: records of 40 bytes, and counts that are there while they run (tools/record.h)."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("=16sQQII")
# What follows the name of a tool's file of records, for its file of counts.
COUNTS = ".counts"
_COUNTS = struct.Struct("=8Q")


class Record(NamedTuple):
    """One message or request. Times are microseconds of the machine's monotonic clock."""

    id: bytes
    from_us: int
    to_us: int
    code: int
    extra: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a tool is. ``first_us`` and ``last_us`` are 0 before the first message."""

    count: int
    last_us: int
    receipts_sent: int
    receipts_owed: int
    faults: int
    first_us: int
    cpu_us: int


def read_records(path: Path) -> list[Record]:
    """Read a tool's records."""
    return [Record(*fields) for fields in _RECORD.iter_unpack(path.read_bytes())]


def read_counts(path: Path) -> Counts:
    """Read a tool's counts; all are 0 before it has made the file."""
    data = path.read_bytes() if path.exists() else b""
    return Counts(*_COUNTS.unpack(data)[:7]) if len(data) == _COUNTS.size else Counts(0, 0, 0, 0, 0, 0, 0)
