"""One process that we start, watch and stop, and never leave behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from embedded.files import place_and_inode, write_private

TETHER = Path(__file__).with_name("tether.py")
PROC = Path("/proc")
POLL_SECONDS = 0.02  # a server here starts in 10 to 50 ms: looking this often costs nothing
KILL_WAIT_SECONDS = 10.0  # after SIGKILL only a hung disk keeps a process


@dataclass(frozen=True, slots=True)
class Identity:
    """The account a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class StopStep:
    """A signal, and how long it may take before the next, firmer one."""

    signal: signal.Signals
    limit_seconds: float


def birth_of(pid: int) -> str | None:
    """Return what tells this process from a later one with its pid; None when it is gone (or a zombie)."""
    if PROC.exists():
        return _birth_in_proc(pid)
    ps = subprocess.run(  # noqa: S603 - fixed program, a number as argument
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        # Who asks later may be in another time zone, or in another language.
        env={"LC_ALL": "C", "TZ": "UTC"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    state, _, started = ps.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def _birth_in_proc(pid: int) -> str | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name, field 2, is in parentheses and may hold spaces; 3 is the state, 22 the start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"


class Child:
    """A process with its pid file and its log.

    The pid file names the process by pid and birth, so that after a crash of ours the next start
    finds and ends what was left behind, and never a stranger that got the same pid. It names its folder
    by place and inode, too: a copy of the folder, made while the process ran, finds and ends nothing.
    """

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        self.name = name
        self.log = log
        self.pid_file = folder / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the running process, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started; else what it exited with, -N for signal N."""
        return None if self._process is None else self._process.poll()

    def launch(
        self,
        command: Sequence[str],
        *,
        death_signal: signal.Signals,
        environ: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        folder: str = "/",
    ) -> None:
        """Start the process and return at once. Call it from a thread that lives as long as the child should:
        the kernel sends ``death_signal`` when the thread that started the child ends (prctl(2))."""
        account = ("-", "-") if identity is None else (str(identity.uid), str(identity.gid))
        tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(death_signal)), *account]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours, there is no shell
                [*tether, *command],
                cwd=folder,
                env=None if environ is None else dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone; we stop the others in order
            )
        pid = self._process.pid
        record = {
            "pid": pid,
            "birth": birth_of(pid),
            "folder": place_and_inode(self.pid_file.parent.resolve()),
        }
        write_private(self.pid_file, json.dumps(record))

    def send(self, number: signal.Signals) -> None:
        """Send the signal if the process still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def stopping(self, steps: Sequence[StopStep]) -> Iterator[float]:
        """Send each signal in turn until the process is gone; yields pauses in seconds."""
        process = self._process
        if process is not None:
            for step in (*steps, StopStep(signal.SIGKILL, KILL_WAIT_SECONDS)):
                if process.poll() is not None:
                    break
                process.send_signal(step.signal)
                yield from _waiting(lambda: process.poll() is not None, step.limit_seconds)
        self.pid_file.unlink(missing_ok=True)

    @property
    def has_leftover(self) -> bool:
        """Whether a process runs that an earlier life of ours left behind."""
        pid, birth = _recorded(self.pid_file)
        return birth is not None and birth_of(pid) == birth

    def stopping_leftover(self, steps: Sequence[StopStep]) -> Iterator[float]:
        """The same for a process that an earlier life of ours left behind, if there is one."""
        pid, birth = _recorded(self.pid_file)
        for step in (*steps, StopStep(signal.SIGKILL, KILL_WAIT_SECONDS)):
            if birth is None or birth_of(pid) != birth:
                break
            os.kill(pid, step.signal)
            yield from _waiting(lambda: birth_of(pid) != birth, step.limit_seconds)
        self.pid_file.unlink(missing_ok=True)


def _recorded(pid_file: Path) -> tuple[int, str | None]:
    """The pid and the birth; no birth when nothing was recorded here."""
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        # Moved, the folder keeps its inode; put back, its place. Earlier versions did not name it.
        folder = record.get("folder")
        is_here = folder is None or set(folder) & set(place_and_inode(pid_file.parent.resolve()))
        return int(record["pid"]), record["birth"] if is_here else None
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return 0, None


def _waiting(is_over: Callable[[], bool], limit_seconds: float) -> Iterator[float]:
    until = monotonic() + limit_seconds
    while not is_over() and monotonic() < until:
        yield POLL_SECONDS
