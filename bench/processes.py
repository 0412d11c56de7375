"""What processes cost: CPU seconds and memory, each with all that it started."""

import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
KIBIBYTE: Final = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and bytes of memory now (shared pages divided among those that share them)."""

    cpu_seconds: float
    memory_bytes: int


def usage(pid: int) -> Usage:
    """Return the usage of a process and of all its descendants, those that have ended included."""
    if not PROC.exists():
        return _usage_by_ps(pid)
    tree = _tree(pid)
    return Usage(sum(map(_cpu_seconds, tree)), sum(map(_memory_bytes, tree)))


def _tree(root: int) -> list[int]:
    children = defaultdict(list)
    for entry in PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children[int(fields[1])].append(int(entry.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _stat(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_seconds(pid: int) -> float:
    # proc(5), counted from field 3: utime, stime, cutime, cstime are fields 14 to 17.
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _memory_bytes(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIBIBYTE
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return 0


def _usage_by_ps(root: int) -> Usage:
    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,time=,rss="], capture_output=True, text=True, check=True
    ).stdout
    rows = {int(row[0]): row for row in (line.split() for line in listing.splitlines())}
    tree = [root]
    for pid in tree:
        tree += [int(row[0]) for row in rows.values() if int(row[1]) == pid]
    mine = [rows[pid] for pid in tree if pid in rows]
    return Usage(sum(_clock_seconds(row[2]) for row in mine), sum(int(row[3]) for row in mine) * KIBIBYTE)


def _clock_seconds(text: str) -> float:
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + (int(days) * 86_400 if days else 0)
