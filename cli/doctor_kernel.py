"""How much the kernel keeps before it writes: on PostgreSQL's machine, commits wait while it does."""

import os
from pathlib import Path
from typing import Final

from cli.database import POSTGRES_DSN
from cli.doctor_findings import Finding, note, ok
from cli.doctor_place import Place

# Where Linux says it; no other system has these files.
VIRTUAL_MEMORY: Final = Path("/proc/sys/vm")
MIB: Final = 2**20
# At 64 MiB no round of the bench was worse than its neighbours, at a tenth of 24 GiB one in six was
# (bench/RESULTS.md).
KEPT_BYTES_MAX: Final = 64 * MIB
GOOD_BYTES: Final = 16 * MIB
LESS: Final = f"sysctl -w vm.dirty_background_bytes={GOOD_BYTES}, and the same in /etc/sysctl.d/ (as root)."


async def check_writeback(place: Place) -> list[Finding]:
    """How much is kept unwritten, where PostgreSQL is the instance's own; nothing on other systems."""
    if POSTGRES_DSN not in place.embedded:
        return []
    kept = _kept_bytes()
    if kept is None:
        return []
    text = f"the kernel writes to disk once {kept // MIB:,} MiB wait"
    if kept > KEPT_BYTES_MAX:
        return [note("writeback", f"{text}, or half a minute: commits may wait 0.1 s for it then", LESS)]
    return [ok("writeback", text)]


def _kept_bytes() -> int | None:
    """After how many bytes the kernel begins to write; None where it does not say."""
    try:
        told = int((VIRTUAL_MEMORY / "dirty_background_bytes").read_text())
        percent = int((VIRTUAL_MEMORY / "dirty_background_ratio").read_text())
    except (OSError, ValueError):
        return None
    # The kernel counts from what is available, a little less than all.
    return told or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * percent // 100
