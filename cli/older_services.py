"""Which services of an instance were started before its keyring was written last: they know an older one."""

from pathlib import Path

from cli.home import Home
from cli.ownership import told_whose
from cli.services import ONE_ONLY


def older_services(home: Home, keyring: Path) -> list[str]:
    """Return the names of those that run; the simulator needs no keyring.

    Raises:
        cli.ownership.NotOurs: the home is another account's.
    """
    state = home.read_state() if home.is_running else None
    processes = [] if state is None else state.processes
    names = [one.name for one in processes if one.health_port is not None and one.name != ONE_ONLY]
    with told_whose(home.path):
        return [name for name in names if _is_older(home.run / name / f"{name}.pid", keyring)]


def _is_older(pid_file: Path, keyring: Path) -> bool:
    """A pid file is written when its process is started."""
    try:
        return pid_file.stat().st_mtime_ns < keyring.stat().st_mtime_ns
    except FileNotFoundError:
        return False
